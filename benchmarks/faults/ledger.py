"""What one client was told, and what of it is missing, doubled or in another order, by what the log has.

Messages of a room are numbered by who publishes them; a device that sends one again, because no acknowledgement came,
says at which try. So the broker's two copies of one number are told from one that the gateways have doubled.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, TypeAlias

__all__ = ["Counts", "Heard", "Key", "Ledger", "Log", "Told", "key_of", "number_of"]

TRIES: Final = 16
PHASES: Final = 32

Key: TypeAlias = int
"""What tells a message of a room from all others: its number, and the try."""


def key_of(number: int, attempt: int) -> Key:
    """A message's key."""
    return number * TRIES + min(attempt, TRIES - 1)


def number_of(key: Key) -> int:
    """Which message it is, whatever the try."""
    return key // TRIES


@dataclass(slots=True)
class Counts:
    """What went wrong in one phase, for all clients together."""

    lost: int = 0
    """Messages of the log that a client wasn't told, although nothing told it that it may lack some."""
    duplicated: int = 0
    out_of_order: int = 0
    unknown: int = 0
    """Messages that the log never had."""
    told: int = 0
    """How often a client was told that it may lack messages."""
    lacking: int = 0
    """How many messages of the log those were."""
    unaided: int = 0
    """What was missed between two connections by clients that have no way to ask for it."""

    def add(self, other: "Counts") -> None:
        """Count another's as well."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def is_flawless(self) -> bool:
        """Whether nothing happened that must not."""
        return not (self.lost or self.duplicated or self.out_of_order or self.unknown)


@dataclass(frozen=True, slots=True)
class Told:
    """A new beginning: what came before may be lacking."""

    phase: int
    last: Key | None
    """The last value that was told in place of what is lacking."""
    first: bool
    """Whether it is the first subscription."""
    unaided: bool
    """Whether the client couldn't ask for what it missed."""


class Log:
    """What the log has of one room, in order; and whether it is right by itself."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.place: dict[Key, int] = {}
        """Where each message is."""
        self.duplicated = 0
        for key in keys:
            if key in self.place:
                self.duplicated += 1
            else:
                self.place[key] = len(self.place)

    def __len__(self) -> int:
        """How many messages there are."""
        return len(self.place)

    @property
    def numbers(self) -> dict[int, int]:
        """The numbers that are there, each with the place of its first try."""
        found: dict[int, int] = {}
        for key, place in self.place.items():
            found.setdefault(number_of(key), place)
        return found


@dataclass
class Heard:
    """What a client was told of one room, in order."""

    entries: list[int | Told] = field(default_factory=list)
    """Keys, each with the phase in which it came; and new beginnings."""
    newest: int = -1
    """The highest number."""

    @property
    def keys(self) -> list[Key]:
        """All messages that came."""
        return [entry // PHASES for entry in self.entries if isinstance(entry, int)]

    def was_told(self, phase: int) -> bool:
        """Whether the client was told in this phase that it may lack messages."""
        told = (entry for entry in self.entries if isinstance(entry, Told) and entry.phase == phase)
        return any(not (entry.first or entry.unaided) for entry in told)

    def audit(self, log: Log, counts: Mapping[int, Counts], phase: int) -> None:
        """Compare it with the log; what is lacking at the end is counted for the last `phase`."""
        audit = _Audit(log)
        for entry in self.entries:
            if isinstance(entry, Told):
                audit.begin(entry, counts[entry.phase])
            else:
                audit.follow(entry // PHASES, counts[entry % PHASES])
        if self.entries:
            counts[phase].lost += len(log) - 1 - audit.place


class _Audit:
    """How far a client has come in the log."""

    def __init__(self, log: Log) -> None:
        self.place = -1
        self._log = log
        self._seen: set[Key] = set()
        self._anew: Told | None = None
        """Why the next message may be any."""

    def begin(self, told: Told, counts: Counts) -> None:
        if told.first:
            self.place = -1 if told.last is None else self._log.place[told.last]
            return
        counts.told += not told.unaided
        self._anew = told
        if told.last is not None:
            self._seen.discard(told.last)  # it may be told again
            self.follow(told.last, counts)

    def follow(self, key: Key, counts: Counts) -> None:
        found = self._log.place.get(key)
        known, anew, self._anew = key in self._seen, self._anew, None
        self._seen.add(key)
        if found is None:
            counts.unknown += 1
        elif found > self.place:
            self._count(found - self.place - 1, anew, counts)
            self.place = found
        elif not known:  # it was taken for lost
            counts.out_of_order += 1
        elif anew is None or not anew.unaided or found != self.place:
            counts.duplicated += 1  # but for the last value, which who knows no cursor is told each time that it comes

    def _count(self, skipped: int, anew: Told | None, counts: Counts) -> None:
        if anew is None:
            counts.lost += skipped
        elif anew.unaided:
            counts.unaided += skipped
        else:
            counts.lacking += skipped


class Ledger:
    """What one client was told of all its rooms."""

    def __init__(self, rooms: Iterable[str]) -> None:
        self.rooms = {room: Heard() for room in rooms}

    def add(self, room: str) -> None:
        """It wants one more room."""
        self.rooms[room] = Heard()

    def message(self, room: str, key: Key, phase: int) -> None:
        """A message came."""
        heard = self.rooms[room]
        heard.entries.append(key * PHASES + phase)
        heard.newest = max(heard.newest, number_of(key))

    def begin(self, room: str, last: Key | None, phase: int, *, unaided: bool = False) -> None:
        """The client was told that messages of a room may be lacking, and the last value."""
        heard = self.rooms[room]
        heard.entries.append(Told(phase, last, heard.newest < 0 and not heard.entries, unaided))
        if last is not None:
            heard.newest = max(heard.newest, number_of(last))

    def begin_anew(self) -> None:
        """Go on from here: all up to now was judged."""
        self.rooms = {room: Heard(newest=heard.newest) for room, heard in self.rooms.items()}

    def has(self, newest: Mapping[str, int]) -> bool:
        """Whether it got as far as this in each of its rooms."""
        return all(heard.newest >= newest[room] for room, heard in self.rooms.items())

    def was_told(self, phase: int) -> bool:
        """Whether the client was told in this phase that it may lack messages."""
        return any(heard.was_told(phase) for heard in self.rooms.values())

    def audit(self, logs: Mapping[str, Log], phase: int) -> dict[int, Counts]:
        """What went wrong, by phase."""
        counts: dict[int, Counts] = defaultdict(Counts)
        for room, heard in self.rooms.items():
            heard.audit(logs[room], counts, phase)
        return counts
