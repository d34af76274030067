"""Who is in which room: a pure data structure, from what happens to what is to be told of it.

Nothing here acts, waits or sends. All that changes who is there is a method of `Roster`, which answers with the changes
that this makes; what time brings is asked for by `expire`, no sooner than `due`. Who keeps the time is in
`presence_memory`, who happens to be in a room in `attendance`.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypeVar

from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.errors import PresenceFull

__all__ = ["Attendees", "Change", "Counted", "Joined", "Kind", "Left", "Member", "PresenceBounds", "Roster", "Who"]

K = TypeVar("K")

COUNT_EVERY_SECONDS: Final = 1.0
"""How often the count of a large room is told at most."""
NEARLY_SECONDS: Final = 1e-6
"""A timer may be early by so much."""

Kind: TypeAlias = Literal["user", "session", "member", "device"]


@dataclass(frozen=True, slots=True)
class Who:
    """One of those who may be in a room. The kind is part of the name: no user is taken for a member or a device."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """One who is there, with the JSON text of the state that was set, if any."""

    who: Who
    state: bytes | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody came; or, with `updated`, one who was there has another state."""

    room: str
    member: Member
    updated: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody is gone, and the grace period over."""

    room: str
    who: Who


@dataclass(frozen=True, slots=True)
class Attendees:
    """How many are in a room, and who; None where they are too many to be told."""

    count: int
    members: tuple[Member, ...] | None


@dataclass(frozen=True, slots=True)
class Counted:
    """Instead of single changes, what they have come to: of a room that is large, or was until now."""

    room: str
    attendees: Attendees


Change: TypeAlias = Joined | Left | Counted


@dataclass(frozen=True, slots=True)
class PresenceBounds:
    """How long, and how many."""

    grace_seconds: float = 5.0
    members_told: int = 100
    """A room with more is large: its members aren't told, only how many they are."""
    members: int = 100_000
    """Over all rooms."""


@dataclass(slots=True)
class _Entry:
    state: bytes | None = None
    sources: set[str] = field(default_factory=set)
    """Why it is there: sessions, or topics that said so. Empty during the grace period."""


@dataclass(slots=True)
class _Room:
    members: dict[Who, _Entry] = field(default_factory=dict)
    large: bool = False
    """Whether clients were told a number, or are about to be, and so know no members."""
    told: int | None = None
    """The number that they were told last."""


class Roster:
    """The rooms of a namespace, and who is in them."""

    def __init__(self, bounds: PresenceBounds, clock: Clock, counters: Counters) -> None:
        self._bounds = bounds
        self._clock = clock
        self._counters = counters
        self._rooms: dict[str, _Room] = {}
        self._leaving: OrderedDict[tuple[str, Who], float] = OrderedDict()
        """Those who are gone, with the end of their grace period, the soonest first: all have the same time."""
        self._quiet: OrderedDict[str, float] = OrderedDict()
        """Rooms whose count was told, and when it may be told again, the soonest first."""
        self._kinds: Counter[Kind] = Counter({"user": 0, "session": 0, "member": 0, "device": 0})

    @property
    def kinds(self) -> Mapping[Kind, int]:
        """How many members there are of each kind, over all rooms."""
        return self._kinds

    @property
    def due(self) -> float | None:
        """When, by the clock's monotonic time, `expire` has something to do."""
        soonest = [next(iter(waiting.values())) for waiting in (self._leaving, self._quiet) if waiting]
        return min(soonest, default=None)

    def find(self, room: str, who: Who) -> Member | None:
        """One who is in a room, in the grace period too."""
        known = self._rooms.get(room)
        entry = None if known is None else known.members.get(who)
        return None if entry is None else Member(who, entry.state)

    def everybody(self) -> Iterator[tuple[str, Member]]:
        """All who are in rooms, each with the room; whether those who come or leave meanwhile are told is left open."""
        for room, known in tuple(self._rooms.items()):
            for who, entry in tuple(known.members.items()):
                yield room, Member(who, entry.state)

    def enter(self, room: str, who: Who, source: str, state: bytes | None = None) -> list[Change]:
        """Somebody is in a room, for a reason (a session, a topic) of this name; the state is for who wasn't there.

        Raises:
            PresenceFull: there are too many members over all rooms.
        """
        known = self._rooms.get(room)
        entry = None if known is None else known.members.get(who)
        if entry is not None:
            entry.sources.add(source)
            self._leaving.pop((room, who), None)
            return []
        changes = self._make_place()
        known = self._rooms.setdefault(room, _Room())  # not before: making place may have forgotten it
        known.members[who] = _Entry(state, {source})
        self._kinds[who.kind] += 1
        return [*changes, *self._changed(room, known, Joined(room, Member(who, state)))]

    def _make_place(self) -> list[Change]:
        if self._kinds.total() < self._bounds.members:
            return []
        if not self._leaving:
            self._counters.drops["presence_full"] += 1
            raise PresenceFull(f"more than {self._bounds.members} members in all rooms: this one isn't shown")
        self._counters.drops["presence_grace"] += 1
        return self._remove(*self._leaving.popitem(last=False)[0])

    def leave(self, room: str, who: Who, source: str, *, at_once: bool = False) -> list[Change]:
        """One reason why somebody is in a room holds no more; after the last, and a grace period, they have left."""
        known = self._rooms.get(room)
        entry = None if known is None else known.members.get(who)
        if entry is None or source not in entry.sources:
            return []
        entry.sources.discard(source)
        if entry.sources:
            return []
        if at_once or not self._bounds.grace_seconds:
            return self._remove(room, who)
        self._leaving[room, who] = self._clock.monotonic() + self._bounds.grace_seconds
        return []

    def set_state(self, room: str, who: Who, state: bytes | None) -> list[Change]:
        """Somebody has another state; nothing happens if they aren't there, or if it is the same."""
        known = self._rooms.get(room)
        entry = None if known is None else known.members.get(who)
        if known is None or entry is None or entry.state == state:
            return []
        entry.state = state
        return [] if known.large else [Joined(room, Member(who, state), updated=True)]

    def attendees(self, room: str) -> Attendees:
        """Who is in a room. Of one that is about to be small again only how many: it is told whole in a moment."""
        known = self._rooms.get(room)
        if known is None:
            return Attendees(0, ())
        return Attendees(len(known.members), None) if known.large else self._all(known)

    def _all(self, known: _Room) -> Attendees:
        count = len(known.members)
        if count > self._bounds.members_told:
            return Attendees(count, None)
        return Attendees(count, tuple(Member(who, entry.state) for who, entry in known.members.items()))

    def expire(self) -> list[Change]:
        """What time has brought: the ends of grace periods, and counts that waited."""
        now = self._clock.monotonic() + NEARLY_SECONDS
        changes: list[Change] = []
        for key in _until(self._leaving, now):
            changes += self._remove(*key)
        for room in _until(self._quiet, now):
            known = self._rooms[room]
            if known.large:
                changes += self._count(room, known)
            self._forget_empty(room, known)
        return changes

    def _remove(self, room: str, who: Who) -> list[Change]:
        known = self._rooms[room]
        del known.members[who]
        self._kinds[who.kind] -= 1
        changes = self._changed(room, known, Left(room, who))
        self._forget_empty(room, known)
        return changes

    def _forget_empty(self, room: str, known: _Room) -> None:
        if not known.members and room not in self._quiet:
            del self._rooms[room]

    def _changed(self, room: str, known: _Room, change: Change) -> list[Change]:
        if not known.large and len(known.members) <= self._bounds.members_told:
            return [change]
        known.large = True
        return [] if room in self._quiet else self._count(room, known)

    def _count(self, room: str, known: _Room) -> list[Change]:
        """Tell how many there are, if that is news; or, when they aren't too many any more, who."""
        attendees = self._all(known)
        known.large = attendees.members is None
        if known.large and attendees.count == known.told:
            return []
        known.told = attendees.count
        self._quiet[room] = self._clock.monotonic() + COUNT_EVERY_SECONDS
        return [Counted(room, attendees)]


def _until(waiting: OrderedDict[K, float], now: float) -> Iterator[K]:
    """Take out what is due."""
    while waiting and next(iter(waiting.values())) <= now:
        yield waiting.popitem(last=False)[0]
