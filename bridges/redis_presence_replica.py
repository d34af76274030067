"""What one node knows of presence: the members of all rooms as Redis' scripts publish them, in Redis' order.

After a connection was made, all is loaded anew while what is published goes on coming: since answers and pushes come
over one connection, each page is as new as all before it. What has changed meanwhile is told once, then, and in
portions: there may be very many members.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import orjson
import ormsgpack

from gateway.core.presence import Roster, Who
from gateway.core.presence_memory import MemoryPresence

__all__ = ["LAST", "Replica", "pack", "unpack"]

LAST: Final = b"0"
"""The cursor after the last page."""
THERE: Final = ""
"""The one reason that a node knows for anybody to be there: Redis says so."""


def pack(room: str, who: Who) -> str:
    """The name of a member in Redis."""
    return orjson.dumps([room, who.kind, who.name]).decode()


def unpack(member: str) -> tuple[str, Who]:
    """The room and who is there, from such a name."""
    room, kind, name = orjson.loads(member)
    return room, Who(kind, name)


@dataclass(slots=True)
class _Behind:
    """What stands behind the members."""

    terms: set[str] = field(default_factory=set)
    """Of all nodes, those whose entries haven't been taken out."""
    sources: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Why each device is there."""


@dataclass(slots=True)
class _Loading:
    """What will be known once all has come."""

    members: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Each with its position and state."""
    behind: _Behind = field(default_factory=_Behind)
    to_compare: Iterator[str | None] | None = None
    """Once all has come: those of whom something may have to be told, and None for others."""
    later: deque[str] = field(default_factory=deque)
    """Who has changed since then."""


class Replica:
    """Who is in which room, as far as this node was told; changes are told by `local`."""

    def __init__(self, local: MemoryPresence, roster: Roster) -> None:
        self.position = 0
        """Of the last change that was taken."""
        self._local = local
        self._roster = roster
        self._behind = _Behind()
        self._loading: _Loading | None = None

    @property
    def terms(self) -> set[str]:
        """The terms that there are."""
        return self._behind.terms

    def says(self, member: str, source: str) -> bool:
        """Whether a device is there for this reason."""
        return source in self._behind.sources.get(member, ())

    def state_of(self, member: str) -> str:
        """A member's state; nothing if there is none, or they aren't there."""
        found = self._roster.find(*unpack(member))
        return "" if found is None else _text(found.state)

    def known(self) -> Iterator[tuple[str, str, str]]:
        """All that Redis would have to be told if it knew nothing: member, state and, for devices, each source."""
        for room, member in self._roster.everybody():
            name, state = pack(room, member.who), _text(member.state)
            yield from ((name, state, source) for source in self._behind.sources.get(name, {THERE}))

    def push(self, data: bytes) -> None:
        """Take what a script has published."""
        last, events = ormsgpack.unpackb(data)
        for position, (what, *words) in enumerate(events, last - len(events) + 1):
            self._take(position, what, *words)
        self.position = last

    def _take(self, position: int, what: str, name: str, detail: str = "") -> None:
        if what in ("joined", "state", "left"):
            if self._loading is None:
                self._tell(what, name, detail)
            else:
                _note(self._loading, position, what, name, detail)
            return
        behind = self._behind if self._loading is None else self._loading.behind
        match what:
            case "began":
                behind.terms.add(name)
            case "ended":
                behind.terms.discard(name)
            case "appear":
                behind.sources[name].add(detail)
            case "vanish":
                behind.sources[name].discard(detail)
                if not behind.sources[name]:
                    del behind.sources[name]

    def _tell(self, what: str, name: str, state: str) -> None:
        room, who = unpack(name)
        if what == "left":
            self._local.leave(room, who, THERE, at_once=True)
            return
        if what == "joined":
            self._local.enter(room, who, THERE, state.encode() or None)
        self._local.set_state(room, who, state.encode() or None)

    def start_loading(self) -> None:
        """What is known is to be replaced by what comes from now on; till `compare` nothing is told."""
        self._loading = _Loading()

    def abandon_loading(self) -> None:
        """It can't be finished: what was known before stays, and the next loading will tell all."""
        self._loading = None

    def load_members(self, scanned: tuple[bytes, list[bytes]]) -> bytes:
        """Take a page of members with what Redis keeps of each, in turn; where the next one begins."""
        assert self._loading is not None
        cursor, page = scanned
        for name, kept in zip(page[::2], page[1::2], strict=True):
            position, _, state = kept.decode().partition(" ")
            self._loading.members[name.decode()] = (int(position), state)
        return cursor

    def load_devices(self, scanned: tuple[bytes, list[bytes]]) -> bytes:
        """Take a page of devices' entries; where the next one begins."""
        assert self._loading is not None
        cursor, page = scanned
        for entry in page:
            name, _, source = entry.decode().partition("\0")
            self._loading.behind.sources[name].add(source)
        return cursor

    def load_terms(self, terms: Iterable[bytes]) -> bytes:
        """Take the terms, all at once."""
        assert self._loading is not None
        self._loading.behind.terms = {term.decode() for term in terms}
        return LAST

    def compare(self) -> None:
        """All has come: what differs from what was known is to be told."""
        assert self._loading is not None
        self._loading.to_compare, self._behind = self._compared(self._loading), self._loading.behind

    def _compared(self, loading: _Loading) -> Iterator[str | None]:
        members, seen = loading.members, set()
        for room, member in self._roster.everybody():
            name = pack(room, member.who)
            seen.add(name)
            yield name if name not in members or members[name][1] != _text(member.state) else None
        for name, _ in sorted([each for each in members.items() if each[0] not in seen], key=_position):
            yield name
        while loading.later:
            yield loading.later.popleft()

    def tell_some(self, most: int) -> bool:
        """Look at some of those who may differ, and tell it; whether that was all, and what comes is told at once."""
        loading = self._loading
        assert loading is not None
        assert loading.to_compare is not None
        for count, name in enumerate(loading.to_compare, 1):
            if name is not None:
                self._tell_difference(name, loading.members.get(name))
            if count == most:
                return False
        self._loading = None
        return True

    def _tell_difference(self, name: str, now: tuple[int, str] | None) -> None:
        if now is not None:
            self._tell("joined", name, now[1])
        else:
            self._tell("left", name, "")


def _note(loading: _Loading, position: int, what: str, name: str, state: str) -> None:
    """Take a change into what is being loaded."""
    members = loading.members
    if what == "left":
        members.pop(name, None)
    elif what == "joined":
        members[name] = (position, state)
    elif name in members:
        members[name] = (members[name][0], state)
    if loading.to_compare is not None:
        loading.later.append(name)


def _position(loaded: tuple[str, tuple[int, str]]) -> int:
    return loaded[1][0]


def _text(state: bytes | None) -> str:
    return "" if state is None else state.decode()
