"""How the gate takes connections, refuses them and ends, with real sockets, under both event loops."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from gateway.core.addresses import TrustedProxies
from gateway.core.errors import TidegateError
from gateway.core.limit_errors import TooManyHandshakes
from gateway.core.plain_http import HttpConnections, Place
from gateway.gate import ACCEPTS_PER_TURN, PAUSE_SECONDS, Gate, Keeper
from gateway.server import bind
from tests.certificates import Authority
from tests.real import DEADLINE_SECONDS, GatewayProcess

Story = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    """Runs a story to its end in an event loop of either kind, within a bounded time."""

    def run(story: Story) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(story(), DEADLINE_SECONDS))

    return run


class Served(asyncio.Protocol):
    """Says so, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")
        transport.write(b"served")
        transport.close()


class Bench:
    """A gate before a protocol that says `served`."""

    def __init__(self, refuses: Callable[[str], TidegateError | None] = lambda _: None) -> None:
        self.listener = bind("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.refused: list[str] = []
        self.served: list[Served] = []
        self.refuses = refuses
        self.connections = HttpConnections(1000, 1000, TrustedProxies([]))
        keeper = Keeper(self.admit, lambda error, _: self.refused.append(error.code), self._serve, None, 5)
        self.gate = Gate(self.listener, keeper, asyncio.get_running_loop())

    def admit(self, address: str) -> Place:
        error = self.refuses(address)
        if error is not None:
            raise error
        return self.connections.enter(address)

    def _serve(self, place: Place) -> Served:
        self.served.append(Served())
        return self.served[-1]

    async def knock(self, address: str = "127.0.0.1") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        heard = await reader.read()
        writer.close()
        return heard

    def end(self) -> None:
        self.gate.close()
        self.listener.close()


def test_those_whom_the_system_has_let_in_already_are_taken_before_the_end(run: Callable[[Story], None]) -> None:
    async def story() -> None:
        bench = Bench()
        clients = []
        for _ in range(2 * ACCEPTS_PER_TURN + 1):  # while the event loop has no turn
            client = socket.create_connection(("127.0.0.1", bench.port))
            client.setblocking(False)
            clients.append(client)
        bench.end()
        assert bench.gate.arriving
        for client in clients:
            assert await asyncio.get_running_loop().sock_recv(client, 100) == b"served"
            client.close()
        assert not bench.gate.arriving

    run(story)


def test_a_connection_is_served_or_told_why_not(run: Callable[[Story], None]) -> None:
    async def story() -> None:
        error = TooManyHandshakes("too many", retry_after_seconds=3)
        bench = Bench(lambda address: error if address == "127.0.0.2" else None)
        assert await bench.knock() == b"served"
        told = await bench.knock("127.0.0.2")
        assert told.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"retry-after: 3\r\n" in told
        assert await bench.knock() == b"served"
        assert (len(bench.served), bench.refused) == (2, ["too_many_handshakes"])
        bench.end()

    run(story)


def test_no_more_than_so_many_are_taken_in_one_turn(run: Callable[[Story], None]) -> None:
    async def story() -> None:
        bench = Bench()
        clients = [socket.create_connection(("127.0.0.1", bench.port)) for _ in range(2 * ACCEPTS_PER_TURN + 1)]
        turns = []
        take = bench.gate._take
        for _ in range(4):
            before = len(bench.gate._arriving)
            take()
            turns.append(len(bench.gate._arriving) - before)
        assert turns == [ACCEPTS_PER_TURN, ACCEPTS_PER_TURN, 1, 0]
        for client in clients:
            client.close()
        bench.end()
        await asyncio.gather(*bench.gate._arriving, return_exceptions=True)

    run(story)


class Full:
    """A listener of a machine without a file to spare, until it has one."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.full = True
        self.asked = 0
        self.was_asked = asyncio.Event()

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> Any:
        self.asked += 1
        self.was_asked.set()
        if self.full:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()


def test_where_no_file_is_left_it_waits_and_then_goes_on(
    run: Callable[[Story], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        bench = Bench()
        bench.gate.close()
        full = Full(bench.listener)
        keeper = Keeper(bench.admit, lambda *_: None, bench._serve, None, 5)
        gate = Gate(full, keeper, asyncio.get_running_loop())  # type: ignore[arg-type]
        knocking = asyncio.ensure_future(bench.knock())
        await full.was_asked.wait()
        assert "no connection can be taken for" in caplog.text
        asked = full.asked
        await asyncio.sleep(PAUSE_SECONDS / 5)
        assert full.asked <= asked + 1, "it keeps the processor busy"
        full.full = False
        assert await knocking == b"served"
        gate.close()
        bench.listener.close()

    with caplog.at_level(logging.WARNING):
        run(story)


def test_a_closed_gate_takes_nobody(run: Callable[[Story], None]) -> None:
    async def story() -> None:
        bench = Bench()
        bench.gate.close()
        with socket.create_connection(("127.0.0.1", bench.port)):
            await asyncio.sleep(0.05)
            assert bench.served == []
        bench.listener.close()

    run(story)


def test_a_handshake_of_tls_that_comes_at_once_loses_nothing(tmp_path: Any, start_gateway: Any) -> None:
    authority = Authority()
    gateway: GatewayProcess = start_gateway(
        {"broker": {"port": 0}, "listen": authority.listen(tmp_path)}, trust=authority.trust
    )
    for _ in range(100):
        client = socket.create_connection(("127.0.0.1", gateway.port), DEADLINE_SECONDS)
        with authority.trust.wrap_socket(client, server_hostname="localhost") as encrypted:
            assert encrypted.version() == "TLSv1.3"
    assert isinstance(authority.trust, ssl.SSLContext)
