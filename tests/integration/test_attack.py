"""Under attack: a short form of `benchmarks/attack.py`, and what of an attack is not even read."""

import socket
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from benchmarks.attack import Options, attack
from benchmarks.attackers import ATTACKS
from tests.integration.test_websocket import metric
from tests.real import GatewayProcess

MANY_BYTES = 64 * 2**20


def test_healthy_clients_lose_nothing_under_any_attack(tmp_path: Path) -> None:
    for report in attack(Options(attacks=tuple(ATTACKS), seconds=1, rounds=1), tmp_path):
        print(report)
        assert (report.lost, report.gone, report.alive) == (0, 0, True), str(report)
        assert report.most_resident_bytes - report.first_resident_bytes < 200 * 2**20, str(report)
        for name, (found,) in report.rounds.items():
            assert found.did["connections"] > 0, name
            if name == "requests":
                assert all(found.did[f"{status} answers"] > 0 for status in (200, 401, 403, 404)), found.did


BODY = b"Host: localhost\r\nContent-Length: 100000000\r\n\r\n"
UNREAD = {
    "a body that is too large": (b"POST /publish?room=a HTTP/1.1\r\n" + BODY, b"HTTP/1.1 413 "),
    "a body that nobody asked for": (b"GET /healthz HTTP/1.1\r\n" + BODY, b"HTTP/1.1 200 "),
    "what comes behind a request for a stream": (
        b"GET /sse?room=a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"HTTP/1.1 200 ",
    ),
}


@pytest.mark.parametrize("what", UNREAD)
def test_is_not_read(start_gateway: Callable[..., GatewayProcess], what: str) -> None:
    gateway = start_gateway({"broker": {"port": 0}})
    head, answer = UNREAD[what]
    sent = 0
    with closing(socket.create_connection(("127.0.0.1", gateway.port))) as client:
        client.settimeout(20)
        client.sendall(head + bytes(100_000 if b"POST" in head else 0))
        assert client.recv(65_536).startswith(answer)
        with suppress(ConnectionError):
            while sent < MANY_BYTES:
                sent += client.send(bytes(65_536))
    assert sent < MANY_BYTES / 2  # the kernel takes some of it, whoever reads
    assert metric(gateway, 'tidegate_refusals_total{code="message_too_large",namespace=""}') == 1
