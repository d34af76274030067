"""An HTTP answer that comes later, by no application."""

import asyncio
from types import SimpleNamespace
from typing import Any

from gateway.response_transport import ResponseTransport


class Poll:
    def __init__(self) -> None:
        self.told: list[str] = []

    def finish(self) -> None:
        self.told.append("finish")

    def left(self) -> None:
        self.told.append("left")


class Socket:
    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def parked(**changes: Any) -> tuple[ResponseTransport, Any, Poll, list[None]]:
    """A response whose application waits in vain for nothing any more."""
    completed: list[None] = []
    fields = {
        "transport": Socket(),
        "scope": {"headers": [(b"a", b"b")]},
        "disconnected": False,
        "response_complete": False,
        "chunked_encoding": True,
        "keep_alive": True,
        "message_event": asyncio.Event(),
        "on_response": lambda: completed.append(None),
        **changes,
    }
    cycle: Any = SimpleNamespace(**fields)
    response, poll = ResponseTransport(cycle, asyncio.get_running_loop()), Poll()
    response.park(poll)
    return response, cycle, poll, completed


async def test_nothing_is_left_of_a_request_that_waits_and_the_connection_goes_on_after_the_answer() -> None:
    response, cycle, poll, completed = parked()
    headers = cycle.scope["headers"]
    await asyncio.sleep(0)
    assert (cycle.scope, headers) == ({}, [])
    assert cycle.disconnected, "the application may return with nothing said"
    response.answer(b"{}")
    response.answer(b"{}")
    assert (cycle.transport.written, len(completed)) == (b"2\r\n{}\r\n0\r\n\r\n", 1)
    assert (cycle.response_complete, cycle.transport.closed, poll.told) == (True, False, [])
    response.lost()
    assert poll.told == []


async def test_a_connection_that_isnt_to_be_kept_ends_with_the_answer() -> None:
    response, cycle, _, _ = parked(keep_alive=False)
    response.answer(b"{}")
    assert cycle.transport.closed


async def test_who_leaves_or_has_left_is_told_of_once() -> None:
    response, cycle, poll, completed = parked()
    response.hurry()
    response.lost()
    response.lost()
    assert poll.told == ["finish", "left"]
    response.answer(b"{}")
    assert (cycle.transport.written, completed) == (b"", [])
    _, _, poll, _ = parked(disconnected=True)
    assert poll.told == ["left"]
