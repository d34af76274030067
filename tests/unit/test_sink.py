"""The two ways out for a session's bytes: what is too much, and how they end."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.core import sink as sinks
from gateway.core.sink import BufferSink
from gateway.pressure import Pressure
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


class Paces:
    """Writes down what a sink says of its client."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def pause(self) -> None:
        self.said.append("pause")

    def resume(self) -> None:
        self.said.append("resume")

    def overflow(self) -> None:
        self.said.append("overflow")

    def gone(self) -> None:
        self.said.append("gone")

    def aside(self, size_bytes: int) -> None:
        self.said.append("aside")


async def test_what_is_written_in_a_pause_may_be_half_the_limit(transport: asyncio.Transport) -> None:
    pressure, paces = Pressure(transport), Paces()
    pressure.watch(1000, paces)
    assert transport.get_write_buffer_limits()[1] == 500
    for _ in range(3):  # a client that catches up in time, again and again
        pressure.pause()
        assert pressure.paused
        assert pressure.allows(500)
        pressure.resume()
    assert paces.said == ["pause", "resume"] * 3
    pressure.pause()
    assert [pressure.allows(size_bytes) for size_bytes in (500, 1, 1)] == [True, False, True]
    assert paces.said[6:] == ["pause", "overflow"]


async def test_a_buffer_is_full_by_what_waits_behind_the_first_write() -> None:
    sink, paces = BufferSink(plain, 100), Paces()
    sink.watch(paces)
    sink.write(b"x" * 5000)
    sink.write(b"x" * 50)
    assert (paces.said, sink.paused) == ([], False)
    sink.write(b"x")
    assert (paces.said, sink.paused) == (["pause"], True)
    for _ in range(3):
        sink.write(b"x" * 50)
    assert paces.said == ["pause"]  # nobody has tried to send it


async def test_who_asks_on_while_nothing_can_be_sent_overflows() -> None:
    sink, paces, free = BufferSink(plain, 100), Paces(), asyncio.Event()

    async def send(data: bytes) -> None:
        await free.wait()

    sink.watch(paces)
    pumping = asyncio.create_task(sink.pump(send))
    sink.write(b"x")
    await asyncio.sleep(0)
    for _ in range(4):
        sink.write(b"x" * 50)
    assert paces.said == ["pause", "overflow"]
    free.set()
    sink.close(1000, "")
    await pumping


async def test_a_burst_is_no_sign_of_a_slow_client_until_sending_waits() -> None:
    sink, paces, free = BufferSink(plain, 100), Paces(), asyncio.Event()
    free.set()

    async def send(data: bytes) -> None:
        await free.wait()

    sink.watch(paces)
    pumping = asyncio.create_task(sink.pump(send))
    for _ in range(3):
        for _ in range(20):
            sink.fan_out(b"x" * 50)
        await asyncio.sleep(0)
    assert paces.said == []
    free.clear()
    sink.fan_out(b"x")
    await asyncio.sleep(0)
    for _ in range(3):
        sink.fan_out(b"x" * 50)
    assert paces.said == ["pause"]
    free.set()
    sink.close(1000, "")
    await pumping


async def test_a_buffer_that_is_emptied_is_resumed() -> None:
    sink, paces, sent = BufferSink(plain, 100), Paces(), list[bytes]()

    async def send(data: bytes) -> None:
        sent.append(data)

    sink.watch(paces)
    for _ in range(10):
        sink.write(b"x" * 10)
    pumping = asyncio.create_task(sink.pump(send))
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(sent) == 10
    assert (paces.said, sink.paused) == (["pause", "resume"], False)
    sink.close(1000, "")
    await pumping


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
