"""Addresses that come too often, or go over limits again and again; each test's attackers have addresses of their own.

The test itself asks from 127.0.0.1, which is trusted as a proxy's where handshakes are few: so it is never refused.
"""

import asyncio
import re
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.core.authentication import hash_token
from tests.certificates import Authority
from tests.integration.conftest import browser
from tests.real import DEADLINE_SECONDS, GatewayProcess, fresh, wait_until

Start = Callable[..., GatewayProcess]
ATTACKER, OTHER = "127.0.0.5", "127.0.0.6"
HOUR = 3600
PROXY = {"trusted_proxies": ["127.0.0.1"]}
FEW = {"handshakes_per_address_per_second": 1 / HOUR, "handshakes_burst": 3}


def config(**changes: Any) -> dict[str, Any]:
    return {"broker": {"port": 0}, "listen": PROXY, **changes}


def knock(gateway: GatewayProcess, address: str) -> bytes:
    """What a new connection hears that says nothing, until it is closed."""
    with socket.create_connection(("127.0.0.1", gateway.port), DEADLINE_SECONDS, (address, 0)) as client:
        heard = b""
        while part := client.recv(4096):
            heard += part
        return heard


def ask(gateway: GatewayProcess, address: str, path: str = "/healthz", **headers: str) -> httpx.Response:
    with fresh(address) as http:
        return http.get(f"{gateway.url}{path}", headers=headers)


def outside(gateway: GatewayProcess, name: str) -> float:
    """A figure of no namespace."""
    for line in gateway.get("/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_new_connections_that_come_too_fast_are_refused_before_they_say_anything(start_gateway: Start) -> None:
    gateway = start_gateway(config(limits=FEW))
    assert [ask(gateway, ATTACKER).status_code for _ in range(3)] == [200] * 3
    head, _, body = knock(gateway, ATTACKER).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    problem = orjson.loads(body)
    assert problem["code"] == "too_many_handshakes"
    (retry_after,) = re.findall(rb"retry-after: (\d+)", head)
    assert HOUR / 2 < problem["retry_after_seconds"] <= int(retry_after) <= HOUR
    assert ask(gateway, ATTACKER).status_code == 429
    assert ask(gateway, OTHER).status_code == 200
    key = 'tidegate_limited_total{limit="handshakes_per_address_per_second",namespace=""}'
    assert outside(gateway, key) == 2


def test_connections_that_ask_for_nothing_are_counted_too(start_gateway: Start) -> None:
    gateway = start_gateway(config(limits={"connections_per_address": 2}))
    with ExitStack() as here:
        idle = [here.enter_context(fresh(ATTACKER)) for _ in range(4)]
        assert [http.get(f"{gateway.url}/healthz").status_code for http in idle] == [200] * 4
        head, _, body = knock(gateway, ATTACKER).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert orjson.loads(body)["code"] == "too_many_connections_from_address"
        assert ask(gateway, OTHER).status_code == 200
        assert idle[0].get(f"{gateway.url}/healthz").status_code == 200
        idle[0].close()
        wait_until(lambda: ask(gateway, ATTACKER).status_code == 200, "there is room again")


async def test_a_websocket_counts_no_more_among_connections_of_plain_http(start_gateway: Start) -> None:
    gateway = start_gateway(config(limits={"connections_per_address": 2}))
    uri = f"ws://127.0.0.1:{gateway.port}/ws"
    async with connect(uri, local_addr=(ATTACKER, 0)), connect(uri, local_addr=(ATTACKER, 0)):
        with ExitStack() as here:
            idle = [here.enter_context(fresh(ATTACKER)) for _ in range(4)]
            assert [http.get(f"{gateway.url}/healthz").status_code for http in idle] == [200] * 4


def test_a_flood_of_requests_over_one_connection_is_refused_whatever_they_ask(start_either: Start) -> None:
    limits = {**FEW, "messages_per_second": 1 / HOUR, "messages_burst": 2}
    gateway = start_either(config(limits=limits))
    with fresh(ATTACKER) as http:
        paths = ("/healthz", "/nothing", "/", "/readyz", "/metrics")
        answers = [http.get(f"{gateway.url}{path}") for path in (*paths, *paths)]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 200, 200] + [429] * 5
    assert answers[5].json()["code"] == "rate_limited"
    assert answers[5].headers["connection"] == "close"
    assert ask(gateway, OTHER).status_code == 200


def test_one_connection_for_many_requests_is_one(start_gateway: Start) -> None:
    gateway = start_gateway(config(limits=FEW))
    with fresh(ATTACKER) as http:
        assert [http.get(f"{gateway.url}/healthz").status_code for _ in range(20)] == [200] * 20


def test_who_came_too_fast_is_taken_again_after_a_while(start_gateway: Start) -> None:
    gateway = start_gateway(config(limits={"handshakes_per_address_per_second": 2, "handshakes_burst": 1}))
    wait_until(lambda: ask(gateway, ATTACKER).status_code == 429, "it is refused")
    wait_until(lambda: ask(gateway, ATTACKER).status_code == 200, "it is taken again")


def test_under_tls_new_connections_that_come_too_fast_are_cut_off(tmp_path: Path, start_gateway: Start) -> None:
    authority = Authority()
    listen = authority.listen(tmp_path, **PROXY)
    gateway = start_gateway(config(listen=listen, limits=FEW), trust=authority.trust)

    def greet(address: str) -> str | None:
        client = socket.create_connection(("127.0.0.1", gateway.port), DEADLINE_SECONDS, (address, 0))
        with client, authority.trust.wrap_socket(client, server_hostname="localhost") as encrypted:
            return encrypted.version()

    for _ in range(3):
        assert greet(ATTACKER) == "TLSv1.3"
    assert knock(gateway, ATTACKER) == b""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        greet(ATTACKER)
    assert greet(OTHER) == "TLSv1.3"


def attempt_stream(gateway: GatewayProcess, http: httpx.Client, **headers: str) -> tuple[int, str]:
    with http.stream("GET", f"{gateway.url}/sse?room=a", headers=headers) as stream:
        return stream.status_code, "" if stream.status_code == 200 else orjson.loads(stream.read())["code"]


async def attempt_websocket(gateway: GatewayProcess, **headers: str) -> int:
    try:
        async with connect(gateway.ws_url, additional_headers=headers):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def test_behind_a_trusted_proxy_each_client_is_judged_and_the_proxy_never(start_either: Start) -> None:
    gateway = start_either(config(limits=FEW))
    one, other = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
    assert await attempt_websocket(gateway, **one) == 101
    with fresh("127.0.0.1") as http:
        assert [attempt_stream(gateway, http, **one) for _ in range(2)] == [(200, "")] * 2
        assert attempt_stream(gateway, http, **one) == (429, "too_many_handshakes")
        assert attempt_stream(gateway, http, **other) == (200, "")
    assert await attempt_websocket(gateway, **one) in (429, 403)  # 403 where the server can't say more
    assert await attempt_websocket(gateway, **other) == 101
    for _ in range(20):  # what is no new connection of the client's is not counted, and the proxy's aren't
        assert ask(gateway, "127.0.0.1", "/last?room=a", **one).status_code == 200


def test_attempts_on_one_connection_count_though_who_they_show_is_nobody(start_either: Start) -> None:
    gateway = start_either(config(limits=FEW, identity={"tokens": [{"name": "ci", "sha256": hash_token("tg_")}]}))
    with fresh(ATTACKER) as http:
        wrong = [attempt_stream(gateway, http, Authorization="Bearer wrong") for _ in range(5)]
    assert wrong == [(401, "unauthenticated")] * 3 + [(429, "too_many_handshakes")] * 2


JUDGED = {"offences": 3, "window_seconds": HOUR, "refuse_seconds": HOUR / 2, "exempt": []}
FLOOD = {"messages_per_second": 1, "messages_burst": 3, "refusals": 2}


async def offend(gateway: GatewayProcess, address: str, **headers: str) -> None:
    """Be closed for going over a limit of messages."""
    headers = {"X-Forwarded-For": address} if headers else {}
    local = None if headers else (address, 0)
    async with connect(gateway.ws_url, local_addr=local, additional_headers=headers) as connection:
        with suppress(ConnectionClosed):
            for _ in range(20):
                await connection.send('{"type":"ping"}')
            async for _ in connection:
                pass
        await connection.wait_closed()
        assert connection.close_code == 4429


def refused_for(answer: httpx.Response) -> float:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (429, "address_refused")
    assert problem["retry_after_seconds"] <= int(answer.headers["retry-after"])
    return float(problem["retry_after_seconds"])


async def test_an_address_that_offends_again_and_again_is_refused_and_who_is_connected_stays(
    start_either: Start,
) -> None:
    gateway = start_either(config(limits=FLOOD, offenders=JUDGED))
    async with browser(gateway, local_addr=(ATTACKER, 0)) as before:
        for _ in range(3):
            assert ask(gateway, ATTACKER).status_code == 200
            await offend(gateway, ATTACKER)
        assert ask(gateway, ATTACKER).status_code == 200
        await offend(gateway, ATTACKER)
        assert HOUR / 4 < refused_for(ask(gateway, ATTACKER)) <= HOUR / 2
        with pytest.raises(InvalidStatus):
            await connect(gateway.ws_url, local_addr=(ATTACKER, 0))
        assert (await before.ask(type="ping"))["type"] == "pong"
        assert ask(gateway, OTHER).status_code == 200
        assert (await attempt_websocket(gateway)) == 101
    assert outside(gateway, "tidegate_refused_addresses") == 1
    assert outside(gateway, "tidegate_address_refusals_total") == 1
    assert outside(gateway, 'tidegate_limited_total{limit="offences",namespace=""}') == 2
    assert gateway.text.count(f"{ATTACKER} is refused for 1800 s") == 1


async def test_each_further_time_an_address_is_refused_for_twice_as_long(start_gateway: Start) -> None:
    short = {**JUDGED, "refuse_seconds": 0.3, "refuse_max_seconds": HOUR}
    gateway = start_gateway(config(limits=FLOOD, offenders=short))
    for seconds in ("0.3", "0.6", "1.2"):
        for _ in range(4):
            await offend(gateway, ATTACKER)
        assert f"{ATTACKER} is refused for {seconds} s" in gateway.text

        def taken() -> bool:
            return ask(gateway, ATTACKER).status_code == 200

        await asyncio.to_thread(wait_until, taken, "it is taken again")
    assert outside(gateway, "tidegate_address_refusals_total") == 3
    assert outside(gateway, "tidegate_refused_addresses") == 0


async def test_the_loopback_is_exempt_unless_it_is_told_otherwise(start_either: Start) -> None:
    gateway = start_either(config(limits=FLOOD, offenders={"offences": 3, "window_seconds": HOUR}))
    for _ in range(6):
        await offend(gateway, ATTACKER)
    assert ask(gateway, ATTACKER).status_code == 200
    assert outside(gateway, "tidegate_address_refusals_total") == 0


async def test_behind_a_trusted_proxy_the_client_is_the_offender(start_either: Start) -> None:
    gateway = start_either(config(limits=FLOOD, offenders=JUDGED))
    for _ in range(4):
        await offend(gateway, "192.0.2.1", forwarded="yes")
    refused_for(ask(gateway, "127.0.0.1", **{"X-Forwarded-For": "192.0.2.1"}))
    assert await attempt_websocket(gateway, **{"X-Forwarded-For": "192.0.2.1"}) in (429, 403)
    assert ask(gateway, "127.0.0.1", **{"X-Forwarded-For": "192.0.2.2"}).status_code == 200
    assert ask(gateway, "127.0.0.1").status_code == 200
    assert gateway.text.count("192.0.2.1 is refused for") == 1


def test_who_goes_on_to_come_too_fast_is_an_offender(start_gateway: Start) -> None:
    gateway = start_gateway(config(limits=FEW, offenders=JUDGED))
    codes = [knock_code(gateway) for _ in range(60)]
    assert codes[:3] == [""] * 3
    assert codes[3:34] == ["too_many_handshakes"] * 31  # ten are an offence, and three offences are put up with
    assert set(codes[34:]) == {"address_refused"}


def knock_code(gateway: GatewayProcess) -> str:
    answer = ask(gateway, ATTACKER)
    return "" if answer.status_code == 200 else str(answer.json()["code"])


async def test_a_client_that_closes_as_it_thinks_right_is_no_offender(start_either: Start) -> None:
    gateway = start_either(config(offenders=JUDGED))
    for code in (1002, 1007, 1009) * 3:
        connection = await connect(f"ws://127.0.0.1:{gateway.port}/ws", local_addr=(ATTACKER, 0))
        await connection.close(code)
    assert ask(gateway, ATTACKER).status_code == 200
    assert outside(gateway, "tidegate_refused_addresses") == 0


def test_handshakes_of_tls_that_are_never_finished_have_places_too(tmp_path: Path, start_gateway: Start) -> None:
    authority = Authority()
    listen = authority.listen(tmp_path, **PROXY)
    limits = {"connections_per_address": 2, "handshake_seconds": 1}
    gateway = start_gateway(config(listen=listen, limits=limits), trust=authority.trust)
    with ExitStack() as here:
        for _ in range(4):
            here.enter_context(socket.create_connection(("127.0.0.1", gateway.port), 5, (ATTACKER, 0)))
        assert knock(gateway, ATTACKER) == b""
        key = 'tidegate_limited_total{limit="connections_per_address",namespace=""}'
        assert outside(gateway, key) >= 1
        wait_until(lambda: _is_served(gateway, authority), "the others are given up")


def _is_served(gateway: GatewayProcess, authority: Authority) -> bool:
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", gateway.port), 5, (ATTACKER, 0)) as plain,
        authority.trust.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 200 ")
    return False


UNFINISHED = {
    "a request that is never finished": b"GET / HTTP/1.1\r\n",
    "a body that is never finished": b"POST /publish?room=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1",
    "a head that is too large": b"GET / HTTP/1.1\r\nX: " + b"x" * 5000,
    "a TLS handshake that is never finished": b"\x16\x03\x01",
}


@pytest.mark.parametrize("what", UNFINISHED)
def test_what_else_is_an_offence(tmp_path: Path, start_gateway: Start, what: str) -> None:
    listen, trust = PROXY, None
    if "TLS" in what:
        authority = Authority()
        listen, trust = authority.listen(tmp_path, **PROXY), authority.trust
    limits = {"handshake_seconds": 0.3, "header_bytes": "1 KiB"}
    gateway = start_gateway(config(listen=listen, limits=limits, offenders=JUDGED), trust=trust)
    for number in range(4):
        assert outside(gateway, "tidegate_refused_addresses") == 0, number
        with socket.create_connection(("127.0.0.1", gateway.port), DEADLINE_SECONDS, (ATTACKER, 0)) as client:
            client.sendall(UNFINISHED[what])
            with suppress(ConnectionResetError):
                while client.recv(4096):
                    pass
    assert outside(gateway, "tidegate_refused_addresses") == 1


def test_a_gateway_without_a_file_for_another_client_serves_those_it_has_and_recovers(
    start_gateway: Start,
) -> None:
    gateway = start_gateway({"broker": {"port": 0}})
    pid, (soft, hard) = gateway.process.pid, resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
    with fresh("127.0.0.1") as before, socket.socket() as later:
        assert before.get(f"{gateway.url}/healthz").status_code == 200
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, hard))
        later.settimeout(DEADLINE_SECONDS)
        later.connect(("127.0.0.1", gateway.port))
        later.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        wait_until(lambda: "no connection can be taken" in gateway.text, "it says so")
        assert before.get(f"{gateway.url}/healthz").status_code == 200
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert later.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert "Traceback" not in gateway.text
