"""Clients that would take more than their share, or leave in ways that no library does."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest

from tests.integration.test_websocket import raw_client, sessions
from tests.real import GatewayProcess, wait_until


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


STREAM = b"GET /sse?room=a HTTP/1.1\r\nHost: x\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


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
