"""What one node knows of presence: the members of all rooms as Redis' scripts publish them, in Redis' order.

After a connection was made, all is loaded anew while what is published goes on coming: since answers and pushes come
over one connection, each page is as new as all before it. What has changed meanwhile is told once, at the end.
"""

from collections import defaultdict
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

    @property
    def is_loading(self) -> bool:
        """Whether what is told waits for the rest."""
        return self._loading is not None

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
                _note(self._loading.members, position, what, name, detail)
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
        """What is known is to be replaced by what comes from now on; till `finish_loading` nothing is told."""
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

    def finish_loading(self) -> None:
        """Tell what has changed since the members were known last."""
        assert self._loading is not None
        members, self._behind, self._loading = self._loading.members, self._loading.behind, None
        before = [(pack(room, member.who), member) for room, member in self._roster.everybody()]
        for name, _ in before:
            if name not in members:
                self._tell("left", name, "")
        for name, _ in before:
            if name in members:
                self._tell("state", name, members.pop(name)[1])
        for name, (_, state) in sorted(members.items(), key=_position):
            self._tell("joined", name, state)


def _note(members: dict[str, tuple[int, str]], position: int, what: str, name: str, state: str) -> None:
    """Take a change into what is being loaded."""
    if what == "left":
        members.pop(name, None)
    elif what == "joined":
        members[name] = (position, state)
    elif name in members:
        members[name] = (members[name][0], state)


def _position(loaded: tuple[str, tuple[int, str]]) -> int:
    return loaded[1][0]


def _text(state: bytes | None) -> str:
    return "" if state is None else state.decode()
