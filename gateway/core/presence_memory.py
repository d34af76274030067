"""What a namespace needs of presence, whoever provides it, and the presence of one process.

The promises: every change is told once, in the order in which it happened, and `ask` is answered at a moment when all
that was told is in the answer, and all that will be is not. Answers are callbacks, as the engine's are.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from gateway.core.clock import Clock, Timer
from gateway.core.errors import PresenceFull
from gateway.core.presence import Attendees, Change, Kind, Roster, Who

__all__ = ["MemoryPresence", "Presence", "Refused", "no_one"]

Refused: TypeAlias = Callable[[str, str, PresenceFull], None]
"""Told of an entry that was taken and then found no place, as another node was faster: room, source, and why."""


def no_one(room: str, source: str, error: PresenceFull) -> None:
    """Nobody is told of that."""


class Presence(Protocol):
    """Who is in which room, on whichever node."""

    @property
    def kinds(self) -> Mapping[Kind, int]:
        """How many members of each kind this node keeps, over all rooms."""
        ...

    def attach(self, tell: Callable[[Change], None], refused: Refused = no_one) -> None:
        """Say who is told of changes, and of sessions that found no place after all; before all else, and once."""
        ...

    def enter(self, room: str, who: Who, source: str) -> None:
        """Somebody is in a room; `source` names the reason: a session of this node, or for devices a topic.

        Raises:
            PresenceFull: there are too many already.
        """
        ...

    def leave(self, room: str, who: Who, source: str, *, at_once: bool = False) -> None:
        """That reason holds no more. Without another one they have left, after the grace period unless `at_once`."""
        ...

    def set_state(self, room: str, who: Who, state: bytes | None) -> None:
        """Somebody who is in a room has another state: JSON text, or None for none."""
        ...

    def ask(self, room: str, done: Callable[[Attendees], None]) -> None:
        """Who is in a room."""
        ...

    def close(self) -> None:
        """Tell nothing any more: the gateway goes, and not those who are there."""
        ...


class MemoryPresence:
    """The presence of one process."""

    def __init__(self, roster: Roster, clock: Clock) -> None:
        self._roster = roster
        self._clock = clock
        self._tell: Callable[[Change], None] = lambda _: None
        self._closed = False
        self._changes: deque[Change] = deque()
        self._telling = False
        self._timer: Timer | None = None
        self._due: float | None = None

    @property
    def kinds(self) -> Mapping[Kind, int]:
        """How many members of each kind there are."""
        return self._roster.kinds

    def attach(self, tell: Callable[[Change], None], refused: Refused = no_one) -> None:  # noqa: ARG002
        """Say who is told; what finds no place is refused at once."""
        self._tell = tell

    def enter(self, room: str, who: Who, source: str, state: bytes | None = None) -> None:
        """Somebody is in a room; the state is for who wasn't there."""
        self._take(self._roster.enter(room, who, source, state))

    def leave(self, room: str, who: Who, source: str, *, at_once: bool = False) -> None:
        """One reason for that holds no more."""
        self._take(self._roster.leave(room, who, source, at_once=at_once))

    def set_state(self, room: str, who: Who, state: bytes | None) -> None:
        """Somebody has another state."""
        self._take(self._roster.set_state(room, who, state))

    def ask(self, room: str, done: Callable[[Attendees], None]) -> None:
        """Answer at once."""
        done(self._roster.attendees(room))

    def close(self) -> None:
        """Tell nothing any more, and wait for nothing."""
        self._closed = True
        self._changes.clear()
        self._cancel()

    def _take(self, changes: list[Change]) -> None:
        """Tell in order: who is told of a change may leave by that, and so cause the next one."""
        if self._closed:
            return
        self._wait()
        self._changes += changes
        if self._telling:
            return
        self._telling = True
        try:
            while self._changes:
                self._tell(self._changes.popleft())
        finally:
            self._telling = False

    def _wait(self) -> None:
        due = self._roster.due
        if due == self._due:
            return
        self._cancel()
        if due is not None:
            self._due = due
            self._timer = self._clock.call_later(due - self._clock.monotonic(), self._expire)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._due = None

    def _expire(self) -> None:
        self._timer = self._due = None
        self._take(self._roster.expire())
