"""Who waits for which answer: the table of requests that are under way.

An answer is matched by its correlation data. One that has none is matched by the order of sending: each request whose
route names a reply topic stands in that topic's line. There a request that nobody waits for any more keeps its place
until its answer has come or, once overdue, its time-out has passed again: else its answer would be taken for the next
one's. Everything else is forgotten at once, with its timer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeAlias

from gateway.core.clock import Clock, Timer
from gateway.core.codec import Decode, Payload
from gateway.core.errors import ReplyAmbiguous, RequestTimeout, TidegateError
from gateway.core.limit_errors import TooManyRequests

__all__ = ["MAXIMUM_PENDING", "Answered", "Pending", "Place"]

MAXIMUM_PENDING: Final = 10_000
"""Requests under way in all, with those that only keep their place."""

CORRELATION_BYTES: Final = 16

Answered = Callable[[Payload | TidegateError], None]
"""Called once, with the device's answer or the reason why there is none; never after a cancellation."""

Key: TypeAlias = tuple[str, str]


@dataclass(slots=True, eq=False)
class Place:
    """One request under way."""

    correlation: bytes
    upstream: str
    topic: str
    """Where the answer is expected."""
    decode: Decode
    """How the answer is to be understood."""
    owner: str
    timeout_seconds: float
    answered: Answered | None
    """None once nobody waits."""
    asked: float
    """When it was sent, on the monotonic clock."""
    due: float
    """When the timer goes off."""
    timer: Timer
    sent: bool = False
    """Whether the upstream took it: if not, no answer can come."""
    overdue: bool = False


@dataclass(slots=True)
class _Line:
    """The requests whose answers come to one topic, in the order of sending."""

    places: dict[bytes, Place] = field(default_factory=dict)
    overdue: int = 0


class Pending:
    """The table. `MAXIMUM_PENDING` requests may wait in all."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._places: dict[bytes, Place] = {}
        self._lines: dict[Key, _Line] = {}
        self._by_owner: dict[str, dict[bytes, Place]] = {}

    def __len__(self) -> int:
        """How many requests are held, with those that only keep their place."""
        return len(self._places)

    def check(self, owner: str, upstream: str, topic: str, maximum_by_owner: int) -> None:
        """Check whether one more request may be sent whose answer comes to `topic`.

        Raises:
            TooManyRequests: as many as may are under way, of this owner or in all.
            ReplyAmbiguous: the topic's line waits for a late answer.
        """
        if len(self._by_owner.get(owner, ())) >= maximum_by_owner:
            raise TooManyRequests(
                f"too many requests under way: expected at most {maximum_by_owner}; wait for an answer"
            )
        if len(self._places) >= MAXIMUM_PENDING:
            raise TooManyRequests(f"too many requests under way in all: expected at most {MAXIMUM_PENDING}")
        line = self._lines.get((upstream, topic))
        if line is not None and line.overdue:
            due = max(place.due for place in line.places.values() if place.overdue)
            raise ReplyAmbiguous(
                f"an earlier request is without its answer on {topic!r}: a late one could be taken for this one's",
                retry_after_seconds=round(max(0.001, due - self._clock.monotonic()), 3),
            )

    def add(
        self,
        owner: str,
        upstream: str,
        topic: str,
        decode: Decode,
        timeout_seconds: float,
        answered: Answered,
        *,
        in_line: bool,
        correlation: bytes | None = None,
    ) -> Place:
        """Let one more request wait; `in_line` if its answer may come without correlation data."""
        correlation = correlation or self._random.randbytes(CORRELATION_BYTES)
        now = self._clock.monotonic()
        due = now + timeout_seconds
        timer = self._clock.call_later(timeout_seconds, lambda: self._time_out(place))
        place = Place(correlation, upstream, topic, decode, owner, timeout_seconds, answered, now, due, timer)
        self._places[correlation] = place
        self._by_owner.setdefault(owner, {})[correlation] = place
        if in_line:
            self._lines.setdefault((upstream, topic), _Line()).places[correlation] = place
        return place

    def waits(self, owner: str) -> bool:
        """Whether a request of an owner is under way."""
        return owner in self._by_owner

    def find(self, upstream: str, topic: str, correlation: bytes | None) -> Place | None:
        """Whose answer it is that came: by its correlation data, else the first in line."""
        if correlation is not None:
            place = self._places.get(correlation)
            return place if place is not None and (place.upstream, place.topic) == (upstream, topic) else None
        line = self._lines.get((upstream, topic))
        return next(iter(line.places.values())) if line is not None else None

    def settle(self, place: Place, answer: Payload | TidegateError) -> bool:
        """End it with its answer, which no other can follow; whether somebody waited for it."""
        if place.correlation not in self._places:
            return False
        answered = self._release(place)
        self._forget(place)
        if answered is None:
            return False
        answered(answer)
        return True

    def fail(self, place: Place, error: TidegateError) -> None:
        """Let nobody wait for it any more; an answer may come yet. Nothing happens if it has ended."""
        if place.correlation not in self._places:
            return
        answered = self._release(place)
        self._become_overdue(place)
        if answered is not None:
            answered(error)

    def cancel(self, place: Place) -> None:
        """Let nobody wait for it any more, nor be told. Nothing happens if it has ended."""
        if self._release(place) is not None and self._line_of(place) is None:
            self._forget(place)

    def cancel_all(self, owner: str) -> None:
        """Cancel all of an owner's requests."""
        for place in tuple(self._by_owner.get(owner, {}).values()):
            self.cancel(place)

    def fail_all(self, error: TidegateError, upstream: str | None = None) -> None:
        """Fail all requests, or all of one upstream."""
        for place in tuple(self._places.values()):
            if upstream is None or place.upstream == upstream:
                self.fail(place, error)

    def _time_out(self, place: Place) -> None:
        if place.overdue:
            self._forget(place)
        else:
            self.fail(place, RequestTimeout(f"the device did not answer within {place.timeout_seconds:g} s"))

    def _release(self, place: Place) -> Answered | None:
        """Take it from its owner; whom to tell, if anybody waits."""
        answered, place.answered = place.answered, None
        owned = self._by_owner.get(place.owner, {})
        if owned.pop(place.correlation, None) is not None and not owned:
            del self._by_owner[place.owner]
        return answered

    def _line_of(self, place: Place) -> _Line | None:
        line = self._lines.get((place.upstream, place.topic))
        return line if line is not None and place.correlation in line.places else None

    def _become_overdue(self, place: Place) -> None:
        line = self._line_of(place)
        if line is None:
            self._forget(place)
        elif not place.overdue:
            place.overdue = True
            line.overdue += 1
            place.timer.cancel()
            place.due = self._clock.monotonic() + place.timeout_seconds
            place.timer = self._clock.call_later(place.timeout_seconds, lambda: self._time_out(place))

    def _forget(self, place: Place) -> None:
        place.timer.cancel()
        line = self._line_of(place)
        if line is not None:
            line.overdue -= place.overdue
            del line.places[place.correlation]
            if not line.places:
                del self._lines[place.upstream, place.topic]
        self._places.pop(place.correlation, None)
