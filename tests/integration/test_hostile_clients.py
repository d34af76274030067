"""Clients that would take more than their share, or leave in ways that no library does."""

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import httpx
import pytest

from tests.integration.test_websocket import GENEROUS, metric, raw_client, sessions
from tests.real import GatewayProcess, wait_until
from tests.security.raw import UPGRADE


@pytest.fixture
def gateway(start_gateway: Callable[..., GatewayProcess]) -> GatewayProcess:
    return start_gateway({"broker": {"port": 0}})


def connection(gateway: GatewayProcess) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", gateway.port))
    client.settimeout(20)
    return client


def hear(client: socket.socket, wanted: bytes) -> bytes:
    heard = b""
    while wanted not in heard:
        part = client.recv(65536)
        assert part, heard
        heard += part
    return heard


STREAM = b"GET /sse?room=a HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(params=["later", "at once"])
def pipelining(gateway: GatewayProcess, request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A client that asks for something else behind its stream, which never ends."""
    with closing(connection(gateway)) as client:
        client.sendall(STREAM + (HEALTH if request.param == "at once" else b""))
        hear(client, b"subscribed")
        client.sendall(HEALTH)
        httpx.get(f"{gateway.url}/healthz")
        yield client


def test_a_stream_ends_with_its_client_though_a_request_waits_behind_it(
    gateway: GatewayProcess, pipelining: socket.socket
) -> None:
    assert sessions(gateway, "sse") == 1
    pipelining.close()
    wait_until(lambda: sessions(gateway, "sse") == 0, "the session ends")


def test_goodbye_reaches_everyone_though_a_request_waits_behind_a_stream(
    gateway: GatewayProcess, pipelining: socket.socket
) -> None:
    with closing(raw_client(gateway)) as other:
        pipelining.close()
        httpx.get(f"{gateway.url}/healthz")
        gateway.process.terminate()
        assert b"shutting_down" in hear(other, b"bye")
        assert gateway.wait() == 0
    assert "Traceback" not in gateway.text


def frame(opcode: int, data: bytes, *, final: bool = True) -> bytes:
    """A client's frame (RFC 6455 §5.2) with the mask that changes nothing."""
    return bytes(((0x80 if final else 0) | opcode, 0x80 | len(data), 0, 0, 0, 0)) + data


PING = frame(0x9, b"x" * 100)
USELESS = {
    "pings": PING,
    "pongs": frame(0xA, b"x" * 100),
    "empty fragments": frame(0x0, b"", final=False),
    "small fragments": frame(0x0, b"x", final=False),
}


def flood(client: socket.socket, data: bytes, at_most_bytes: int = 20_000_000) -> None:
    """Send without reading until the other side has had enough."""
    client.settimeout(5)
    with suppress(OSError):
        for _ in range(at_most_bytes // len(data)):
            client.sendall(data)
    client.settimeout(20)


@pytest.mark.parametrize("what", USELESS)
def test_a_flood_of_frames_that_say_nothing_is_closed_as_any_flood(gateway: GatewayProcess, what: str) -> None:
    with closing(raw_client(gateway)) as client:
        if "fragments" in what:
            client.sendall(frame(0x1, b"", final=False))
        client.sendall(USELESS[what] * 200)
        heard = hear(client, b"bye")
    assert b"rate_limited" in heard
    assert metric(gateway, 'tidegate_closed_sessions_total{code="rate_limited"}') == 1


def test_a_ping_now_and_then_is_answered(gateway: GatewayProcess) -> None:
    with closing(raw_client(gateway)) as client:
        client.sendall(PING)
        assert hear(client, b"x" * 100).startswith(b"\x8a")


def test_a_client_that_pings_and_never_reads_is_closed(start_gateway: Callable[..., GatewayProcess]) -> None:
    gateway = start_gateway({"broker": {"port": 0}, "limits": GENEROUS})
    with closing(raw_client(gateway, receive_buffer_bytes=4096)) as client:
        flood(client, PING * 100, 60_000_000)
        wait_until(lambda: sessions(gateway) == 0, "the session ends")
    assert metric(gateway, 'tidegate_closed_sessions_total{code="slow_consumer"}') == 1


FLOODS = {
    "one header": (b"GET /healthz HTTP/1.1\r\nX-A: ", b"a" * 50_000, b"431", b"headers_too_large"),
    "many headers": (b"GET /healthz HTTP/1.1\r\n", b"X-A: bbbbbbbbbbbb\r\n" * 3000, b"431", b"headers_too_large"),
    "an address": (b"GET /", b"a" * 50_000, b"414", b"url_too_long"),
}


@pytest.mark.parametrize("what", FLOODS)
def test_an_endless_head_is_refused(gateway: GatewayProcess, what: str) -> None:
    start, more, status, code = FLOODS[what]
    before = gateway.resident_bytes()
    with closing(connection(gateway)) as client:
        client.sendall(start)
        flood(client, more)
        with suppress(ConnectionResetError):
            heard = hear(client, code)
            assert heard.startswith(b"HTTP/1.1 " + status)
            assert b"application/problem+json" in heard
    assert gateway.resident_bytes() - before < 10_000_000
    assert metric(gateway, f'tidegate_refusals_total{{code="{code.decode()}",namespace=""}}') == 1


@pytest.mark.parametrize("size_bytes", [60_000, 70_000])
def test_headers_of_up_to_64_kib_are_taken_however_they_come(gateway: GatewayProcess, size_bytes: int) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * size_bytes + b"\r\n\r\n"
    for piece_bytes in (len(head), 7000):
        with closing(connection(gateway)) as client:
            for start in range(0, len(head), piece_bytes):
                client.sendall(head[start : start + piece_bytes])
            assert hear(client, b"\r\n\r\n").startswith(b"HTTP/1.1 200 " if size_bytes < 65_536 else b"HTTP/1.1 431 ")


@pytest.mark.parametrize("begun", [[], [HEALTH[:-2]], [HEALTH, HEALTH[:-2]]], ids=len)
def test_who_completes_no_request_is_closed(start_gateway: Callable[..., GatewayProcess], begun: list[bytes]) -> None:
    gateway = start_gateway({"broker": {"port": 0}, "limits": {"handshake_seconds": 0.2}})
    with closing(raw_client(gateway)) as client, closing(connection(gateway)) as stream:
        stream.sendall(STREAM)
        with closing(connection(gateway)) as idle:
            for part in begun:
                idle.sendall(part)
                if part == HEALTH:
                    hear(idle, b'{"status":"ok"}')
            heard = b"".join(iter(lambda: idle.recv(65536), b""))
        assert heard.startswith(b"HTTP/1.1 408 ") == bool(begun)
        assert metric(gateway, 'tidegate_refusals_total{code="handshake_timeout",namespace=""}') == 1
        assert (sessions(gateway), sessions(gateway, "sse")) == (1, 1)
        client.sendall(PING)
        hear(client, b"x" * 100)


def test_a_handshake_with_larger_headers_than_the_library_takes_is_answered(gateway: GatewayProcess) -> None:
    with closing(connection(gateway)) as client:
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Cookie: " + b"a" * 10_000 + b"\r\n\r\n"
        )
        assert hear(client, b"headers_too_large").startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(("most", "warned"), [(2000, False), (300, True)])
def test_as_many_files_may_be_open_as_the_user_is_allowed(
    start_gateway: Callable[..., GatewayProcess], most: int, warned: bool
) -> None:
    def allow() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))

    gateway = start_gateway({"broker": {"port": 0}, "limits": {"connections": 1000}}, preexec_fn=allow)
    assert resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE) == (most, most)
    assert ("300 open files are allowed" in gateway.text) == warned


def test_text_that_is_no_utf_8_is_closed_with_1007_and_fills_no_log(gateway: GatewayProcess) -> None:
    before = gateway.text
    for _ in range(3):
        with closing(raw_client(gateway)) as client:
            client.sendall(frame(0x1, b"\xff"))
            assert b"\x88\x02\x03\xef" in hear(client, b"\x88")
    with closing(connection(gateway)) as client:
        client.sendall(b"nonsense\r\n\r\n")
        hear(client, b"400")
    assert gateway.text == before


def test_a_refused_handshake_is_no_error_of_the_gateway(gateway: GatewayProcess) -> None:
    handshake = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE + b"\r\n"
    for _ in range(3):
        with closing(connection(gateway)) as client:
            client.sendall(handshake)
            assert b"no_such_endpoint" in hear(client, b"}")
    gateway.stop()
    assert "without completing" not in gateway.text
    assert '"error"' not in gateway.text
