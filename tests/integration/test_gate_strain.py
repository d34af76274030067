"""The gate when much goes wrong at once: refusals, resets, faults, broken handshakes, no file left; in both loops."""

import asyncio
import errno
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
import uvloop

from gateway.core.addresses import TrustedProxies
from gateway.core.errors import HandshakeTimeout, TidegateError
from gateway.core.limit_errors import TooManyHandshakes
from gateway.core.plain_http import HttpConnections, Place
from gateway.gate import Gate, Keeper
from gateway.server import bind
from tests.certificates import Authority
from tests.real import DEADLINE_SECONDS

REFUSED, TAKEN = "127.0.0.2", "127.0.0.3"


class Served(asyncio.Protocol):
    """Says so, and closes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self.place: Place | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(b"served")
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.place is not None:
            self.place.free()


class Bench:
    """A gate, and clients that come before it opens or later."""

    def __init__(self, stack: ExitStack, loops: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._stack = stack
        self._loops = loops
        self.listener = stack.enter_context(bind("127.0.0.1", 0))
        self.tls: ssl.SSLContext | None = None
        self.handshake_seconds = DEADLINE_SECONDS
        self.protocol: Callable[[], Served] = Served
        self.served: list[Served] = []
        self.clients: list[socket.socket] = []
        self.judged: list[str] = []
        self.connections = HttpConnections(1000, 1000, TrustedProxies([]))
        self.refused: list[tuple[str, str | None]] = []
        self.on_judging: Callable[[], None] = lambda: None

    def run(self, story: Callable[["Bench"], Coroutine[Any, Any, None]]) -> None:
        """Tell a story in an event loop of the kind under test; nothing in it may go wrong unnoticed."""
        faults: list[dict[str, Any]] = []

        async def told() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
            async with asyncio.timeout(DEADLINE_SECONDS):
                await story(self)
                for client in self.clients:
                    client.close()
                await until(lambda: all(each.lost or each.transport is None for each in self.served))
                await until(lambda: len(self.connections) == 0)

        with asyncio.Runner(loop_factory=self._loops) as runner:
            runner.run(told())
        assert faults == []

    def open(self, listener: socket.socket | None = None) -> Gate:
        keeper = Keeper(self._admit, self._refuse, self._serve, self.tls, self.handshake_seconds)
        return Gate(listener or self.listener, keeper, asyncio.get_running_loop())

    def _serve(self, place: Place) -> Served:
        self.served.append(self.protocol())
        self.served[-1].place = place
        return self.served[-1]

    def _admit(self, address: str) -> Place:
        self.judged.append(address)
        self.on_judging()
        if address == REFUSED:
            raise TooManyHandshakes("too many", retry_after_seconds=1)
        return self.connections.enter(address)

    def _refuse(self, error: TidegateError, address: str | None) -> None:
        self.refused.append((error.code, address))

    def soon(self, what: Callable[[], None]) -> None:
        """Let it happen next in the event loop."""
        asyncio.get_running_loop().call_soon(what)

    def connect(self, address: str = TAKEN) -> socket.socket:
        """A connection that waits until it is taken."""
        port = self.listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS, (address, 0))
        self.clients.append(self._stack.enter_context(client))
        return client


def hear(client: socket.socket) -> bytes:
    """All that comes until the end, however that comes."""
    heard = b""
    try:
        while part := client.recv(4096):
            heard += part
    except ConnectionResetError:
        pass
    return heard


async def heard(*clients: socket.socket) -> list[bytes]:
    return [await asyncio.to_thread(hear, client) for client in clients]


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - what is asked is no event of ours
        await asyncio.sleep(0)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack, request.param)


def test_refusals_and_clients_that_have_left_do_not_disturb_the_others(bench: Bench) -> None:
    async def story(bench: Bench) -> None:
        refused, taken = [], []
        for _ in range(10):
            refused.append(bench.connect(REFUSED))
            left, reset = bench.connect(REFUSED), bench.connect(TAKEN)
            reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            left.close()
            reset.close()
            taken.append(bench.connect(TAKEN))
        gate = bench.open()
        assert await heard(*taken) == [b"served"] * 10
        for answer in await heard(*refused):
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert b"too_many_handshakes" in answer
        assert bench.refused == [("too_many_handshakes", None)] * 20
        gate.close()

    bench.run(story)


def test_a_client_that_talks_at_once_hears_why_it_is_refused(bench: Bench) -> None:
    async def story(bench: Bench) -> None:
        client = bench.connect(REFUSED)
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gate = bench.open()
        assert (await heard(client))[0].startswith(b"HTTP/1.1 429 ")
        gate.close()

    bench.run(story)


class Scarce(socket.socket):
    """A listener for which there is no file, a few times."""

    failures: list[int]

    def accept(self) -> Any:
        if self.failures:
            raise OSError(self.failures.pop(), "no file is left")
        return super().accept()


def test_a_gate_that_is_closed_while_no_file_is_left_stays_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.gate.PAUSE_SECONDS", 0.01)

    async def story(bench: Bench) -> None:
        with Scarce(fileno=bench.listener.detach()) as listener:
            bench.listener = listener
            listener.setblocking(False)
            listener.failures = [errno.EMFILE]
            bench.connect()
            gate = bench.open(listener)
            await until(lambda: not listener.failures)
            gate.close()
            await asyncio.sleep(0.05)
            assert bench.judged == []

    bench.run(story)


def test_a_fault_costs_one_connection(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    made = 0

    def protocol() -> Served:
        nonlocal made
        made += 1
        if made == 1:
            raise RuntimeError("a fault")
        return Served()

    async def story(bench: Bench) -> None:
        bench.protocol = protocol
        clients = [bench.connect() for _ in range(3)]
        gate = bench.open()
        assert await heard(*clients) == [b"", b"served", b"served"]
        gate.close()

    bench.run(story)
    assert "lost to a fault" in caplog.text


class Greeting:
    """A client whose ClientHello is on its way before anybody has taken its connection."""

    def __init__(self, client: socket.socket, trust: ssl.SSLContext) -> None:
        self._client, self._incoming, self._outgoing = client, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trust.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        assert not self._try(self._tls.do_handshake)

    def _try(self, step: Callable[[], Any]) -> Any:
        try:
            return step() or True
        except ssl.SSLWantReadError:
            return None
        finally:
            if self._outgoing.pending:
                self._client.sendall(self._outgoing.read())

    def hear(self) -> bytes:
        """What is said once the handshake is done."""
        for step in (self._tls.do_handshake, lambda: self._tls.read(100)):
            while not (answer := self._try(step)):
                part = self._client.recv(65_536)
                assert part, "the connection was cut off"
                self._incoming.write(part)
        return bytes(answer)


def test_handshakes_that_begin_before_they_are_taken_lose_nothing(bench: Bench) -> None:
    authority = Authority()

    async def story(bench: Bench) -> None:
        greetings = [Greeting(bench.connect(), authority.trust) for _ in range(100)]
        gate = bench.open()
        for greeting in greetings:
            assert await asyncio.to_thread(greeting.hear) == b"served"
        gate.close()

    with ExitStack() as stack:
        bench.tls = server_side(stack, authority)
        bench.run(story)


def server_side(stack: ExitStack, authority: Authority) -> ssl.SSLContext:
    files = authority.issue(Path(stack.enter_context(TemporaryDirectory())))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["tls_certificate_file"], files["tls_key_file"])
    return context


def test_a_handshake_that_takes_too_long_is_told_with_its_address_and_nonsense_only_closed(bench: Bench) -> None:
    async def story(bench: Bench) -> None:
        bench.handshake_seconds = 0.2
        silent, nonsense = bench.connect(TAKEN), bench.connect("127.0.0.4")
        nonsense.sendall(b"GET / HTTP/1.1\r\n\r\n")
        gate = bench.open()
        await heard(silent, nonsense)
        await until(lambda: bench.refused)
        assert bench.refused == [(HandshakeTimeout.code, TAKEN)]
        gate.close()

    with ExitStack() as stack:
        bench.tls = server_side(stack, Authority())
        bench.run(story)


def test_handshakes_that_are_under_way_as_the_gate_closes_come_to_their_end(bench: Bench) -> None:
    authority = Authority()

    async def story(bench: Bench) -> None:
        gates: list[Gate] = []
        bench.on_judging = lambda: bench.soon(gates[0].close)
        greetings = [Greeting(bench.connect(), authority.trust) for _ in range(3)]
        gates.append(bench.open())
        await until(lambda: bench.judged)
        for greeting in greetings:
            assert await asyncio.to_thread(greeting.hear) == b"served"
        await until(lambda: not gates[0].arriving)

    with ExitStack() as stack:
        bench.tls = server_side(stack, authority)
        bench.run(story)


@pytest.mark.parametrize("when", ["as it is taken", "under way"])
def test_the_end_breaks_handshakes_off_and_takes_nobody_more(bench: Bench, when: str) -> None:
    async def story(bench: Bench) -> None:
        gates: list[Gate] = []

        def end() -> None:
            gates[0].close()
            gates[0].abandon()

        if when == "as it is taken":
            bench.on_judging = lambda: bench.soon(end)
        client = bench.connect()
        gates.append(bench.open())
        await until(lambda: bench.judged)
        for _ in range(10 if when == "under way" else 0):
            await asyncio.sleep(0)
        if when == "under way":
            end()
        assert await heard(client) == [b""]
        bench.connect()
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert len(bench.judged) == 1
        assert bench.refused == []

    with ExitStack() as stack:
        bench.tls = server_side(stack, Authority())
        bench.run(story)
