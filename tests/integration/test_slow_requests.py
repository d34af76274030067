"""Clients that let a request last: bodies that come in drops, and answers that nobody takes."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress

import httpx
import pytest

from tests.integration.test_hostile_clients import hear
from tests.integration.test_websocket import metric
from tests.real import GatewayProcess, wait_until

Start = Callable[..., GatewayProcess]
LAGGED = 'tidegate_limited_total{limit="lag_seconds",namespace=""}'
HEAD = (
    b"POST /publish?room=a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


def has_ended(client: socket.socket) -> bool:
    """Whether the other side has closed; all that it has still said is passed over."""
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def drip_until_it_ends(client: socket.socket) -> None:
    """Send a byte now and then, for as long as anybody is there."""

    def drip() -> bool:
        with suppress(OSError):
            client.send(b" ")
        return has_ended(client)

    wait_until(drip, "the connection is ended")


@pytest.mark.parametrize("path", ["/publish?room=a", "/request?room=a"])
def test_a_body_that_comes_in_drops_is_refused(start_either: Start, path: str) -> None:
    gateway = start_either({"broker": {"port": 0}, "limits": {"handshake_seconds": 0.5}})
    with closing(gateway.connect()) as client:
        client.sendall(HEAD.replace(b"/publish?room=a", path.encode()) % 1000)
        heard = b""
        client.settimeout(0.05)
        while b'"code"' not in heard:
            client.send(b" ")
            with suppress(TimeoutError):
                heard += client.recv(65536)
    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b'"handshake_timeout"' in heard
    assert metric(gateway, 'tidegate_limited_total{limit="handshake_seconds"}') == 1


def test_a_large_body_has_more_time_than_a_small_one(start_either: Start) -> None:
    limits = {"handshake_seconds": 2, "message_bytes": "1 MiB", "bytes_burst": "2 MiB"}
    gateway = start_either({"broker": {"port": 0}, "limits": limits})
    body = b'"' + b"x" * 399_998 + b'"'
    with closing(gateway.connect()) as client:
        client.sendall(HEAD % len(body))
        for at in range(0, len(body), 80_000):
            time.sleep(0.5)  # all parts together last longer than the time for one
            client.sendall(body[at : at + 80_000])
        assert hear(client, b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_who_has_its_answer_and_sends_on_in_drops_is_cut_off(start_gateway: Start) -> None:
    gateway = start_gateway({"broker": {"port": 0}})
    with closing(gateway.connect()) as client:
        client.sendall(HEAD.replace(b"POST /publish?room=a", b"GET /healthz") % 100_000)
        assert hear(client, b'"ok"').startswith(b"HTTP/1.1 200 ")
        drip_until_it_ends(client)


def test_who_sends_the_rest_after_the_answer_is_served_further(start_gateway: Start) -> None:
    gateway = start_gateway({"broker": {"port": 0}})
    with closing(gateway.connect()) as client:
        client.sendall(HEAD.replace(b"POST /publish?room=a", b"GET /healthz") % 10)
        hear(client, b'"ok"')
        client.sendall(b" " * 10 + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert hear(client, b'"ok"').startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("length", [b"Content-Length: 2000000", b"Transfer-Encoding: chunked"])
def test_an_answer_before_the_whole_of_a_large_body_says_that_the_connection_ends(
    start_gateway: Start, length: bytes
) -> None:
    gateway = start_gateway({"broker": {"port": 0}})
    with closing(gateway.connect()) as client:
        client.sendall(HEAD.replace(b"Content-Length: %d", length).replace(b"POST /publish?room=a", b"GET /healthz"))
        assert b"connection: close\r\n" in hear(client, b'"ok"')
        drip_until_it_ends(client)


@pytest.fixture
def full(start_gateway: Start) -> GatewayProcess:
    """A gateway whose last values make an answer larger than any buffer on the way."""
    limits = {"lag_seconds": 2, "bytes_burst": "100 MiB", "bytes_per_second": "100 MiB", "messages_burst": 1000}
    gateway = start_gateway({"broker": {"port": 0}, "limits": limits, "rooms": [{"room": "#"}]})
    with httpx.Client(base_url=gateway.url) as http:
        for number in range(200):
            assert http.post(f"/publish?room=a/{number}", json="x" * 60_000).status_code == 200
    return gateway


def test_an_answer_that_nobody_takes_is_given_up(full: GatewayProcess) -> None:
    with closing(full.connect(receive_buffer_bytes=4096)) as client:
        client.sendall(b"GET /last?room=a/%23 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: metric(full, LAGGED) == 1, "it is given up")
        with pytest.raises((ConnectionResetError, AssertionError)):
            hear(client, b"never said")


def test_an_answer_that_is_taken_slowly_is_told_to_its_end(full: GatewayProcess) -> None:
    with closing(full.connect(receive_buffer_bytes=65_536)) as client:
        client.sendall(b"GET /last?room=a/%23 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        heard = 0
        while part := client.recv(262_144):
            heard += len(part)
            if heard % 10 == 0:
                full.get("/healthz")
    assert heard > 200 * 60_000
    assert metric(full, LAGGED) == 0


def test_an_answer_of_history_has_so_many_bytes_at_most(start_gateway: Start) -> None:
    limits = {"bytes_burst": "100 MiB", "bytes_per_second": "100 MiB", "messages_burst": 1000}
    rooms = [{"room": "#", "history": {"messages": 1000}}]
    gateway = start_gateway({"broker": {"port": 0}, "limits": limits, "rooms": rooms})
    with httpx.Client(base_url=gateway.url) as http:
        for number in range(100):
            assert http.post("/publish?room=a", content=json.dumps([number, "x" * 60_000])).status_code == 200
        newest = http.get("/history?room=a&limit=1000").json()
        assert (newest["more"], len(newest["messages"])) == (True, 69)
        assert newest["messages"][-1]["data"][0] == 99
        earlier = http.get(f"/history?room=a&limit=1000&before={newest['messages'][0]['cursor']}").json()
        assert (earlier["more"], [each["data"][0] for each in earlier["messages"]]) == (False, list(range(31)))
