"""Clients that are away and may come back (connection state recovery, Socket.IO 4.6): where each was in which rooms.

What they missed is not kept here: it is in the log, from the offset on that a client comes back with. Bounded in number
and time; of too many the one that left first is forgotten.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from gateway.core.clock import Clock
from gateway.core.message import Cursor
from gateway.core.sample import Sample, rank_of
from gateway.core.session import Session
from gateway.core.wire_requests import Subscribe

__all__ = ["Away", "Memory", "Place", "places_of"]

AWAY_SECONDS: Final = 120.0
"""As long as the reference implementation waits by default."""
MAXIMUM_AWAY: Final = 10_000
MAXIMUM_BYTES_OF_ONE: Final = 64 * 1024
"""Of the names of a client's rooms; who is in more can't come back to them."""
MAXIMUM_BYTES: Final = 32 * 1024 * 1024
"""Of all of those."""
PLACE_BYTES: Final = 100
"""What a place costs besides the room's name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client was in one room, or in all that a pattern matches."""

    start: int
    """The place in the sequence after which it was to be told all."""
    told: int | None
    """The place up to which it was told all, if it had still to come to the present."""
    sample: Sample | None


def places_of(session: Session) -> dict[str, Place]:
    """Where a session is now; nowhere, if it isn't known yet what place it has come back with."""
    if any(pending.since is not None for pending in session.pending.values()):
        return {}
    places = {}
    for room, start in session.rooms.items():
        pending = session.pending.get(room)
        told = None if pending is None else start if pending.position is None else pending.position
        places[room] = Place(start, told, session.samples.get(room))
    return places


@dataclass(frozen=True, slots=True)
class Away:
    """A client that may come back."""

    path: str
    """The namespace that it was in."""
    user: str | None
    epoch: str
    places: Mapping[str, Place]
    due: float
    size_bytes: int

    def requests(self, reached: int | None) -> list[Subscribe]:
        """What it is to be subscribed to again: each room from where it lacks something, by the last place it reached.

        While it was still catching up, one room may have been behind what others had brought already.
        """
        groups: dict[tuple[int, Sample | None], list[str]] = {}
        for room, place in self.places.items():
            since = place.start
            if reached is not None:
                since = max(since, reached)
            if place.told is not None:
                since = min(since, place.told)
            groups.setdefault((since, place.sample), []).append(room)
        return [
            Subscribe(None, tuple(groups[since, sample]), Cursor(self.epoch, since), sample)
            for since, sample in sorted(groups, key=lambda group: rank_of(group[1]))
        ]


class Memory:
    """Who is away, by the secret that each was given."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._away: dict[str, Away] = {}
        """In the order in which they left."""
        self._size_bytes = 0
        self._present: dict[str, tuple[str, str | None, Callable[[], None]]] = {}
        """The path and user of each who is there, and how its connection is ended."""

    def enter(self, secret: str, path: str, user: str | None, end: Callable[[], None]) -> None:
        """A client is there."""
        self._present[secret] = (path, user, end)

    def leave(self, secret: str) -> None:
        """It isn't any more."""
        self._present.pop(secret, None)

    def replace(self, secret: str, path: str, user: str | None) -> None:
        """End the connection of a client that comes back before it was noticed that it left."""
        present = self._present.get(secret)
        if present is not None and present[:2] == (path, user):
            present[2]()

    def secret(self) -> str:
        """What a client shows when it comes back, and nobody guesses (`pid`)."""
        return f"{self._random.getrandbits(128):032x}"

    def keep(self, secret: str, path: str, user: str | None, epoch: str, places: Mapping[str, Place]) -> None:
        """Remember a client that has left, unless that would take too much."""
        now, size_bytes = self._clock.monotonic(), sum(PLACE_BYTES + len(room) for room in places)
        self._forget(secret)
        if size_bytes > MAXIMUM_BYTES_OF_ONE:
            return
        while self._away and (self._is_full(size_bytes) or next(iter(self._away.values())).due <= now):
            self._forget(next(iter(self._away)))
        self._away[secret] = Away(path, user, epoch, dict(places), now + AWAY_SECONDS, size_bytes)
        self._size_bytes += size_bytes

    def _is_full(self, size_bytes: int) -> bool:
        return len(self._away) >= MAXIMUM_AWAY or self._size_bytes + size_bytes > MAXIMUM_BYTES

    def _forget(self, secret: str) -> None:
        away = self._away.pop(secret, None)
        if away is not None:
            self._size_bytes -= away.size_bytes

    def take(self, secret: str, path: str, user: str | None) -> Away | None:
        """What is remembered of a client, once, if it is the same user in the same namespace."""
        away = self._away.get(secret)
        if away is None or away.path != path or away.user != user:
            return None
        self._forget(secret)
        return away if away.due > self._clock.monotonic() else None

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._away)
