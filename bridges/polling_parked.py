"""A poll that waits: a session's way out that takes the first burst of messages, and ends with it.

Whatever ends the wait, it is answered once: messages, time, the gateway that shuts down, rules that have changed. Why
it ended otherwise than by messages or time is told to who asks again. A client that leaves is told nothing.
"""

from collections.abc import Callable
from typing import Final

import orjson

from bridges.polling_page import MAXIMUM_BYTES, MAXIMUM_MESSAGES, answer
from gateway.core.clock import Clock, Timer
from gateway.core.connections import Seat
from gateway.core.errors import PresenceFull
from gateway.core.namespace import Namespace
from gateway.core.session import Session

__all__ = ["ParkedPoll", "entry"]

STOP: Final = b"stop"
"""Something befell the session: whoever asks again hears of it."""
BEHIND: Final = b"behind"
"""The log lacks something that came since the poll began: whoever asks again is told what there is."""


def entry(kind: str, text: bytes, cursor: str | None = None) -> bytes:
    """A message behind its cursor, or a word to the poll, or nothing: a `Framing`."""
    if kind == "message" and cursor is not None:
        return cursor.encode() + b"\n" + text
    if kind == "subscribed":
        return b"" if orjson.loads(text)["recovered"] else BEHIND
    if kind != "error" or orjson.loads(text)["code"] == PresenceFull.code:  # who isn't shown hears all the same
        return b""
    return STOP


class ParkedPoll:
    """The `Sink` of one poll, and all that it holds while it waits.

    Args:
        namespace: Where it waits.
        cursor: Where its client is.
        tell: Takes the answer's text.
        clock: For how long it waits.
        seat: What it counts for, which it frees.
    """

    __slots__ = (
        "_bytes",
        "_clock",
        "_cursor",
        "_entries",
        "_namespace",
        "_seat",
        "_session",
        "_stale",
        "_tell",
        "_timer",
    )
    framing = staticmethod(entry)
    joins = False
    paused = False

    def __init__(
        self, namespace: Namespace, cursor: str, tell: Callable[[bytes], None], clock: Clock, seat: Seat
    ) -> None:
        self._namespace = namespace
        self._cursor = cursor
        self._tell: Callable[[bytes], None] | None = tell
        self._clock = clock
        self._seat = seat
        self._session: Session | None = None
        self._timer: Timer | None = None
        self._entries: list[bytes] = []
        self._bytes = 0
        self._stale = False

    def wait(self, session: Session, seconds: float) -> None:
        """Be the way out of a session, for at most so many seconds."""
        if self._tell is None:
            session.end()
            return
        self._session = session
        if self._timer is None:
            self._timer = self._clock.call_later(seconds, self.finish)

    def write(self, data: bytes) -> None:
        """Take a framed object; the first of a burst ends the wait as soon as the burst is over."""
        if self._tell is None or not data:
            return
        if data in (STOP, BEHIND):
            self._stale = self._stale or data is BEHIND
            self._finish_soon()
            return
        self._entries.append(data)
        self._bytes += len(data)
        if len(self._entries) >= MAXIMUM_MESSAGES or self._bytes >= MAXIMUM_BYTES:
            self.finish()
        elif len(self._entries) == 1:
            self._finish_soon()

    @property
    def fan_out(self) -> Callable[[bytes], None]:
        """As `write`."""
        return self.write

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002 - who asks again is told
        """The gateway has ended the session."""
        self.finish()

    def _finish_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_later(0, self.finish)

    def finish(self) -> None:
        """Answer with what there is. Only the first call counts, of this and `left`."""
        tell, self._tell = self._tell, None
        if tell is None:
            return
        messages, cursor = self._told()
        self._end()
        tell(answer(messages, cursor, more=self._stale))

    def _told(self) -> tuple[list[bytes], str]:
        if self._stale:
            return [], self._cursor
        if self._entries:
            pairs = [entry.split(b"\n", 1) for entry in self._entries]
            return [text for _, text in pairs], pairs[-1][0].decode()
        session = self._session
        if session is None or session.ended or session.pending:
            return [], self._cursor
        return [], self._namespace.cursor(self._namespace.engine.head)

    def left(self) -> None:
        """The client is gone, and told nothing any more."""
        self._tell = None
        self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        session, self._session = self._session, None
        if session is not None:
            session.end()
        self._seat.free()
