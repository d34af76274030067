"""The two ways out for a session's bytes: what is too much, and how they end."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.core import sink as sinks
from gateway.core.sink import BufferSink
from gateway.server import _Overflow
from tests.unit.conftest import plain


@pytest.fixture
async def transport() -> AsyncIterator[asyncio.Transport]:
    """A real transport, whose other end nobody reads."""
    ours, theirs = socket.socketpair()
    made, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    yield made
    made.abort()
    theirs.close()
    await asyncio.sleep(0)


async def test_what_is_written_in_a_pause_may_be_half_the_limit(transport: asyncio.Transport) -> None:
    overflow, overflowed = _Overflow(transport), list[str]()
    overflow.watch(1000, lambda: overflowed.append("overflow"))
    assert transport.get_write_buffer_limits()[1] == 500
    for _ in range(3):  # a client that catches up in time, again and again
        overflow.pause()
        overflow.wrote(500)
        overflow.resume()
    assert overflowed == []
    overflow.pause()
    overflow.wrote(500)
    overflow.wrote(1)
    overflow.wrote(1)
    assert overflowed == ["overflow"]


async def test_a_buffer_overflows_once_by_what_waits_behind_the_first_write() -> None:
    sink, overflowed = BufferSink(plain, 100), list[str]()
    sink.on_overflow(lambda: overflowed.append("overflow"))
    sink.write(b"x" * 5000)
    sink.write(b"x" * 100)
    assert overflowed == []
    sink.write(b"x")
    sink.write(b"x")
    assert overflowed == ["overflow"]


async def test_a_buffer_is_emptied_in_order_then_closed() -> None:
    sink, sent = BufferSink(plain, 100), list[bytes]()

    async def send(data: bytes) -> None:
        sent.append(data)

    pumping = asyncio.create_task(sink.pump(send))
    for number in range(5):
        sink.write(b"%d" % number)
        await asyncio.sleep(0)
    sink.close(4408, "slow_consumer")
    sink.write(b"too late")
    assert await pumping == (4408, "slow_consumer")
    assert b"".join(sent) == b"01234"


async def test_a_send_that_hangs_is_given_up_after_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "CLOSE_GRACE_SECONDS", 0.01)
    sink = BufferSink(plain, 100)

    async def hang(data: bytes) -> None:
        await asyncio.Event().wait()

    pumping = asyncio.create_task(sink.pump(hang))
    sink.write(b"x")
    await asyncio.sleep(0)
    sink.close(1012, "shutting_down")
    with pytest.raises(TimeoutError):
        await pumping
