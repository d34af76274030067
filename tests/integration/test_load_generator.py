"""The load generator of the benchmarks counts each message once, whatever way it comes, and says what went wrong."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.generator import MARK, Generator, Plan, Step, compiled, generator
from tests.real import DEADLINE_SECONDS

HELLO: list[Step] = [("send", b"hello"), ("await", b"welcome")]
TRAFFIC_SECONDS = 0.1
RATE = 100.0
COUNT = 10
"""What a publisher sends in that time."""
SIZE = len(MARK) + 2
"""Of a message."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("load", tmp_path_factory.mktemp("load"))


@contextmanager
def server(serve: Callable[[socket.socket, bytes], None]) -> Iterator[int]:
    """Welcomes one client, and calls `serve` with all that it says later; gives the port."""

    def run() -> None:
        client, _ = listener.accept()
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert client.recv(100) == b"hello"
            client.sendall(b"welcome")
            while said := client.recv(1 << 16):
                serve(client, said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield int(listener.getsockname()[1])
    thread.join(DEADLINE_SECONDS)
    assert not thread.is_alive()


@contextmanager
def publishing(program: Path, port: int, *more: Step) -> Iterator[Generator]:
    """A client of that server that publishes."""
    plan = Plan()
    plan.refusal(b"no!")
    plan.turn_to(port)
    plan.publisher(plan.script(*HELLO, *more), [b"<" + MARK + b">"], RATE)
    with generator(program) as load:
        assert load.connect(plan).ready == 1
        yield load


@pytest.mark.parametrize("cut", range(1, SIZE))
def test_a_message_that_comes_in_two_reads_is_counted_once(program: Path, cut: int) -> None:
    waiting, rest = bytearray(), b""

    def in_two(client: socket.socket, said: bytes) -> None:
        """The second part leaves once the client has read the first, and said so."""
        nonlocal rest
        waiting.extend(said.replace(b"A", b""))
        if b"A" in said:
            client.sendall(rest)
            rest = b""
        if not rest and len(waiting) >= SIZE:
            rest = bytes(waiting[cut:SIZE])
            client.sendall(b"?" + waiting[:cut])
            del waiting[:SIZE]

    with server(in_two) as port, publishing(program, port, ("answer", b"?", b"A")) as load:
        found = load.go(TRAFFIC_SECONDS, 1)
    assert (found.published, found.received, found.refused, found.dead) == (COUNT, COUNT, 0, 0)


@pytest.mark.parametrize("times", [0, 1, 2])
def test_what_is_lost_or_comes_twice_shows(program: Path, times: int) -> None:
    with server(lambda client, said: client.sendall(said * times)) as port, publishing(program, port) as load:
        found = load.go(TRAFFIC_SECONDS, 1)
    assert (found.published, found.received) == (COUNT, COUNT * times)


def test_refusals_are_counted(program: Path) -> None:
    def refuse(client: socket.socket, said: bytes) -> None:
        client.sendall(b"no!" * (len(said) // SIZE))

    with server(refuse) as port, publishing(program, port) as load:
        found = load.go(TRAFFIC_SECONDS, 1)
    assert (found.received, found.refused) == (0, COUNT)


def test_pings_are_answered_wherever_they_stand(program: Path) -> None:
    heard = bytearray()

    def ping(client: socket.socket, said: bytes) -> None:
        heard.extend(said)
        if said.startswith(b"<"):
            client.sendall(said + b"\x89\x04abcd" + b"\x81\x01x")

    with server(ping) as port, publishing(program, port) as load:
        load.go(TRAFFIC_SECONDS, 1)
    assert b"\x8a\x84\0\0\0\0abcd" in heard


def test_a_server_that_hangs_up_is_noticed(program: Path) -> None:
    with server(lambda client, _: client.shutdown(socket.SHUT_RDWR)) as port, publishing(program, port) as load:
        found = load.go(TRAFFIC_SECONDS, 1)
    assert (found.received, found.dead) == (0, 1)
