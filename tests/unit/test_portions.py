"""A WebSocket connection without a network: how much of what comes is looked at in one turn of the loop."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.core.addresses import TrustedProxies
from gateway.core.clock import SystemClock
from gateway.core.limits import Limits
from gateway.core.plain_http import HttpConnections
from gateway.entrance import HeadBounds
from gateway.heartbeats import Heartbeats
from gateway.http_connection import HttpProtocol
from gateway.portions import BYTES_AFTER_CLOSE, FRAMES_PER_TURN, MAXIMUM_IGNORED_BYTES, PORTION_BYTES
from gateway.websocket_connection import WebSocketProtocol

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
EMPTY = b"\x81\x80\0\0\0\0"
SMALLEST_FRAME_BYTES = len(EMPTY)


@contextmanager
def no_search_for_garbage() -> Iterator[None]:
    """What is gone now was let go of by all."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class FakeTransport:
    """Takes what is written, and knows whether anything would be read."""

    def __init__(self) -> None:
        self.reading = True
        self.writes: list[bytes] = []
        self.closing = False

    def get_extra_info(self, name: str) -> Any:
        return None

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Connection:
    """A connection that has shaken hands with an application which does nothing but take messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.transport = FakeTransport()
        messages = self.messages

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            while (event := await receive())["type"] != "websocket.disconnect":
                messages.append(event["text"])

        config = uvicorn.Config(
            app,
            interface="asgi3",
            proxy_headers=False,
            log_config=None,
            ws_max_size=65_536,
            ws_per_message_deflate=False,
            lifespan="off",
        )
        config.load()
        state = ServerState()
        heartbeats = Heartbeats(25, 20, SystemClock(), Random(1))
        self.protocol = WebSocketProtocol(config=config, server_state=state, app_state={}, heartbeats=heartbeats)
        self._tasks = state.tasks
        self.protocol.connection_made(cast(asyncio.Transport, self.transport))
        self.protocol.data_received(HANDSHAKE)

    async def send(self, data: bytes) -> None:
        """Bring it as the event loop would: only while the connection reads."""
        await self.until(lambda: self.transport.reading)
        self.protocol.data_received(data)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(100_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("waited in vain")

    async def leave(self) -> None:
        self.protocol.connection_lost(None)
        await asyncio.gather(*self._tasks)


@pytest.fixture
async def connection() -> Connection:
    made = Connection()
    await made.until(lambda: made.protocol.handshake_complete)
    return made


async def test_of_many_frames_at_once_only_some_are_taken_in_one_turn(connection: Connection) -> None:
    await connection.send(EMPTY * 10_000)
    most, before = 0, 0
    while before < 10_000:
        await asyncio.sleep(0)
        most, before = max(most, len(connection.messages) - before), len(connection.messages)
        assert connection.transport.reading == (before == 10_000)
    assert most <= FRAMES_PER_TURN + PORTION_BYTES // SMALLEST_FRAME_BYTES + 1
    await connection.leave()


async def test_pings_wait_for_their_turn_too(connection: Connection) -> None:
    ping = b"\x89\x80\0\0\0\0"
    connection.transport.writes.clear()
    await connection.send(ping * 10_000)
    assert len(connection.transport.written) < 1000
    assert not connection.transport.reading
    await connection.until(lambda: connection.transport.reading)
    assert len(connection.transport.written) == 10_000 * 2
    await connection.leave()


async def test_a_message_is_whole_however_it_comes(connection: Connection) -> None:
    frame = b"\x81\xff" + (65_536).to_bytes(8) + bytes(4) + b"x" * 65_536
    for size in (len(frame), 1000, 7):
        for start in range(0, len(frame), size):
            await connection.send(frame[start : start + size])
    await connection.until(lambda: len(connection.messages) == 3)
    assert connection.messages == ["x" * 65_536] * 3
    await connection.leave()


async def test_who_goes_on_after_a_close_is_not_read_any_more(connection: Connection) -> None:
    connection.protocol.close(4429, "rate_limited")
    sent = 0
    while connection.transport.reading and sent <= 2 * BYTES_AFTER_CLOSE:
        connection.protocol.data_received(EMPTY * 100)
        sent += 100 * SMALLEST_FRAME_BYTES
        await asyncio.sleep(0)
    assert sent <= BYTES_AFTER_CLOSE + 2 * PORTION_BYTES
    assert connection.messages == []
    await connection.leave()


async def test_the_answer_to_a_close_is_still_heard(connection: Connection) -> None:
    connection.protocol.close(4429, "rate_limited")
    await connection.send(EMPTY * 100 + b"\x88\x80\0\0\0\0")
    await connection.until(lambda: connection.transport.closing)
    await connection.leave()


async def test_of_a_message_that_is_too_large_little_is_read(connection: Connection) -> None:
    await connection.send(b"\x81\xff" + (100_000_000).to_bytes(8) + bytes(4))
    assert b"\x03\xf1" in connection.transport.written  # 1009
    for _ in range(MAXIMUM_IGNORED_BYTES // 65_536 + 1):
        assert connection.transport.reading
        await connection.send(bytes(65_536))
    assert not connection.transport.reading
    await connection.leave()


async def test_a_connection_that_ended_leaves_no_garbage_to_search_for(connection: Connection) -> None:
    await connection.send(EMPTY)
    await connection.until(lambda: connection.messages == [""])
    await connection.leave()
    await asyncio.sleep(0)
    ended: list[weakref.ref[Any]] = [weakref.ref(connection.protocol), weakref.ref(connection.protocol.conn)]
    with no_search_for_garbage():
        del connection.protocol
        assert [found() for found in ended] == [None, None]


def http_connection(app: Any, state: ServerState) -> tuple[HttpProtocol, FakeTransport]:
    config = uvicorn.Config(
        app,
        interface="asgi3",
        ws=partial(WebSocketProtocol, heartbeats=Heartbeats(25, 20, SystemClock(), Random(1))),  # type: ignore[arg-type]
        ws_per_message_deflate=False,
        proxy_headers=False,
        log_config=None,
        lifespan="off",
    )
    config.load()
    protocol = HttpProtocol(
        config=config,
        server_state=state,
        app_state={},
        head=HeadBounds.of([Limits()]),
        place=HttpConnections(10, 10, TrustedProxies([])).enter("192.0.2.1"),
        refused=lambda *_: None,
        leaving=lambda: False,
    )
    transport = FakeTransport()
    protocol.connection_made(cast(asyncio.Transport, transport))
    return protocol, transport


async def test_an_http_connection_that_ended_leaves_no_garbage_either() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    state = ServerState()
    protocol, transport = http_connection(app, state)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.gather(*state.tasks)
    assert transport.written.startswith(b"HTTP/1.1 200 ")
    protocol.connection_lost(None)
    await asyncio.sleep(0)
    ended: list[weakref.ref[Any]] = [weakref.ref(protocol), weakref.ref(protocol.cycle)]
    with no_search_for_garbage():
        del protocol
        assert [found() for found in ended] == [None, None]


async def test_nor_does_one_that_became_a_websocket() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})

    state = ServerState()
    protocol, transport = http_connection(app, state)
    protocol.data_received(HANDSHAKE)
    assert isinstance(transport.protocol, WebSocketProtocol)
    ended = weakref.ref(protocol)
    with no_search_for_garbage():
        del protocol
        assert ended() is None
    await asyncio.gather(*state.tasks)


class Taking:
    """Takes what comes on a connection that was handed over."""

    waits = False

    def __init__(self, transport: Any) -> None:
        self.transport = transport  # as a session has it
        self.taken: list[str | bytes] = []
        self.ended = 0

    def receive(self, frame: str | bytes) -> None:
        self.taken.append(frame)

    async def settle(self) -> None:
        raise AssertionError("nothing waits")

    def closed(self, *, offended: bool) -> None:
        assert not offended
        self.ended += 1


async def handed_over(receivers: list[Taking], kind: type[Taking] = Taking) -> tuple[WebSocketProtocol, FakeTransport]:
    """A connection whose application has greeted its client, handed it over, and returned."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        connection = scope["extensions"]["tidegate"]
        connection.write(b"hello")
        receivers.append(kind(connection))
        connection.hand_over(receivers[-1])

    state = ServerState()
    protocol, transport = http_connection(app, state)
    protocol.data_received(HANDSHAKE)
    await asyncio.gather(*state.tasks)
    await asyncio.sleep(0)
    assert isinstance(transport.protocol, WebSocketProtocol)
    return transport.protocol, transport


async def test_a_greeting_leaves_together_with_the_answer_to_the_handshake() -> None:
    _, transport = await handed_over([])
    assert len(transport.writes) == 1
    assert transport.written.startswith(b"HTTP/1.1 101 ")
    assert transport.written.endswith(b"\r\n\r\nhello")


async def test_one_that_was_handed_over_goes_on_without_its_application_and_leaves_no_garbage() -> None:
    receivers: list[Taking] = []
    protocol, transport = await handed_over(receivers)
    (receiver,) = receivers
    protocol.data_received(b"\x81\x81\0\0\0\0a" + b"\x82\x81\0\0\0\0b")
    assert (receiver.taken, receiver.ended, transport.closing) == (["a", b"b"], 0, False)
    protocol.connection_lost(None)
    assert receiver.ended == 1
    ended = weakref.ref(protocol)
    receiver.transport = transport.protocol = None
    with no_search_for_garbage():
        del protocol
        assert ended() is None


async def test_one_that_was_handed_over_is_told_of_a_close_once() -> None:
    receivers: list[Taking] = []
    protocol, _ = await handed_over(receivers)
    protocol.close(1000, "done")
    protocol.data_received(b"\x88\x80\0\0\0\0")
    protocol.connection_lost(None)
    assert receivers[0].ended == 1


class Leaving(Taking):
    """Closes the connection at the first frame."""

    def receive(self, frame: str | bytes) -> None:
        super().receive(frame)
        self.transport.close(1000, "you said so")


async def test_a_client_that_closes_beside_its_last_word_is_closed_once() -> None:
    """MQTT's DISCONNECT and the close come in one read; whoever answers the former finds the latter read already."""
    receivers: list[Taking] = []
    protocol, transport = await handed_over(receivers, Leaving)
    protocol.data_received(b"\x82\x81\0\0\0\0b" + b"\x88\x82\0\0\0\0\x03\xe8")
    assert receivers[0].taken == [b"b"]
    assert receivers[0].ended == 1
    assert transport.written.count(b"\x88") == 1
