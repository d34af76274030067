"""A WebSocket connection without its application: what comes goes to a receiver, in order."""

import asyncio

from gateway.handed import Handed


class Receiver:
    """Notes what comes; a frame that begins with `wait` isn't dealt with before it may be."""

    def __init__(self) -> None:
        self.taken: list[str | bytes] = []
        self.ended: list[bool] = []
        self.free = asyncio.Event()
        self._waiting: str | bytes | None = None

    def receive(self, frame: str | bytes) -> None:
        assert self._waiting is None
        if str(frame).startswith("wait"):
            self._waiting = frame
        else:
            self.taken.append(frame)

    @property
    def waits(self) -> bool:
        return self._waiting is not None

    async def settle(self) -> None:
        assert self._waiting is not None
        await self.free.wait()
        self.taken.append(self._waiting)
        self._waiting = None

    def closed(self, *, offended: bool) -> None:
        self.ended.append(offended)


async def test_frames_go_to_the_receiver_at_once() -> None:
    receiver = Receiver()
    handed = Handed(receiver)
    assert [handed.receive(frame) for frame in ("a", b"b")] == [False, False]
    assert (receiver.taken, handed.empty()) == (["a", b"b"], True)


async def test_what_comes_behind_a_frame_that_waits_is_taken_after_it_in_order() -> None:
    receiver = Receiver()
    handed = Handed(receiver)
    assert [handed.receive(frame) for frame in ("a", "wait 1", "b", "wait 2", "c")] == [
        False,
        True,
        False,
        False,
        False,
    ]
    settling = asyncio.create_task(handed.settle())
    await asyncio.sleep(0)
    assert (receiver.taken, handed.empty()) == (["a"], False)
    receiver.free.set()
    await settling
    assert (receiver.taken, handed.empty()) == (["a", "wait 1", "b", "wait 2", "c"], True)
    assert not handed.receive("d")
    assert receiver.taken[-1] == "d"


async def test_the_end_is_told_once_with_whose_fault_it_was() -> None:
    receiver = Receiver()
    handed = Handed(receiver)
    handed.put_nowait({"type": "websocket.disconnect", "code": 1002, "tidegate.broken": True})
    handed.put_nowait({"type": "websocket.disconnect", "code": 1006})
    assert receiver.ended == [True]
    assert not handed.receive("late")
    assert receiver.taken == []
    other = Receiver()
    Handed(other).put_nowait({"type": "websocket.disconnect", "code": 1000})
    assert other.ended == [False]
