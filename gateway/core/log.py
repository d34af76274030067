"""What rooms remember: the last value of each topic and recent messages, and up to where nothing is lacking.

All of it is bounded: by what each room is to keep, by the number of last values, and by one budget of bytes. The oldest
history goes first, then the stalest last values. For each room the log knows its floor, the newest message that it no
longer has: so it can always say whether it has all that came after a position, or not.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from typing import Final, Protocol, TypeAlias

from gateway.core.backlog import Backlog, by_sequence, each_in_turn, each_once
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.message import Message
from gateway.core.retention import Retention
from gateway.core.topics import has_wildcard
from gateway.core.trie import NameTree

__all__ = ["Log", "LogBounds", "LogObserver"]

MESSAGE_OVERHEAD_BYTES: Final = 600
"""What a kept message costs besides its text: the objects around it, and its places in the tables."""

Key: TypeAlias = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class LogBounds:
    """How much may be remembered in all."""

    last_values: int = 100_000
    bytes: int = 64 * 1024 * 1024
    rooms: int = 20_000
    """Rooms of which nothing is kept but their floor."""


class LogObserver(Protocol):
    """Who is told what a log forgets, to forget it elsewhere too."""

    def dropped(self, message: Message) -> None:
        """A message isn't kept any more."""
        ...

    def floor_raised(self, room: str, floor: int) -> None:
        """Messages of a room up to this place may be lacking."""
        ...

    def room_forgotten(self, room: str, floor: int) -> None:
        """A room isn't known any more; the floor of all such rooms is this."""
        ...


@dataclass(slots=True, eq=False)
class _Room:
    name: str
    floor: int
    """The newest message that was in this room and isn't kept any more."""
    newest: int
    lost: int
    """As `floor`, but not counting messages that gave way to newer ones of their topic."""
    history: Backlog = field(default_factory=Backlog)
    last: dict[str | None, Message] = field(default_factory=dict)
    seconds: float = 0.0
    """How old its history may get."""

    def first_after(self, place: int) -> int | None:
        """The place of the first message that is kept of those after a place."""
        places = [message.sequence for message in self.last.values() if message.sequence > place]
        if self.history and (first := self.history.first_after(place)) is not None:
            places.append(first)
        return min(places, default=None)

    def first_before(self, place: int) -> int | None:
        """The place of the newest message that is kept of those before a place."""
        places = [message.sequence for message in self.last.values() if message.sequence < place]
        if self.history and (first := self.history.first_before(place)) is not None:
            places.append(first)
        return max(places, default=None)

    def after(self, place: int) -> Iterator[Message]:
        """What is kept of the messages after a place, in order."""
        last = sorted((m for m in self.last.values() if m.sequence > place), key=by_sequence)
        return each_once(merge(self.history.after(place), last, key=by_sequence))

    def before(self, place: int) -> Iterator[Message]:
        """What is kept of the messages before a place, the newest first."""
        last = sorted((m for m in self.last.values() if m.sequence < place), key=by_sequence, reverse=True)
        return each_once(merge(self.history.before(place), last, key=by_sequence, reverse=True))


class Log:
    """The memory of a namespace's rooms."""

    def __init__(self, bounds: LogBounds, clock: Clock, counters: Counters) -> None:
        self._bounds = bounds
        self._clock = clock
        self._counters = counters
        self._tree: NameTree[_Room] = NameTree()
        self._rooms: dict[str, _Room] = {}
        self._bare: OrderedDict[str, None] = OrderedDict()
        """Rooms of which only the floor is known, the stalest first."""
        self._history: OrderedDict[int, _Room] = OrderedDict()
        """Every message of every room's history, the oldest first."""
        self._last: OrderedDict[Key, None] = OrderedDict()
        """Every last value, the stalest first."""
        self._floor = 0
        """The floor of every room that isn't known."""
        self._size_bytes = 0
        self._observer: LogObserver | None = None

    def observe(self, observer: LogObserver, floor: int = 0) -> None:
        """Tell `observer` from now on; `floor` is that of all rooms which aren't known, from an earlier time."""
        self._observer = observer
        self._floor = max(self._floor, floor)

    @property
    def last_values(self) -> int:
        """How many last values are kept."""
        return len(self._last)

    @property
    def messages(self) -> int:
        """How many messages of history are kept."""
        return len(self._history)

    @property
    def size_bytes(self) -> int:
        """About how much memory it holds."""
        return self._size_bytes

    def store(self, message: Message, retention: Retention) -> None:
        """Remember a message as `retention` says; those of a room come in order."""
        room = self._rooms.get(message.room)
        if room is None:
            room = self._add(message.room)
        room.newest = max(room.newest, message.sequence)
        if not retention.keeps_any:
            self._raise_floor(room, message.sequence)
            room.lost = message.sequence
            self._settle(room)
            return
        self._bare.pop(room.name, None)
        self._size_bytes += _cost(message)
        if retention.last:
            self._keep_as_last(room, message)
        if retention.messages:  # after that: what is too old for the history already stays as last value
            self._keep_in_history(room, message, retention)
        if self._size_bytes > self._bounds.bytes:
            self._shrink()

    def raise_floor(self, room: str, floor: int) -> None:
        """Know that messages of a room up to `floor` may be lacking."""
        known = self._rooms.get(room) or self._add(room)
        known.newest = max(known.newest, floor)
        self._raise_floor(known, floor)
        known.lost = max(known.lost, floor)
        self._settle(known)

    def _raise_floor(self, room: _Room, floor: int) -> None:
        room.floor = max(room.floor, floor)
        if self._observer is not None:
            self._observer.floor_raised(room.name, room.floor)

    def _add(self, name: str) -> _Room:
        room = self._rooms[name] = _Room(name, self._floor, self._floor, self._floor)
        self._tree.set(name, room)
        return room

    def _keep_in_history(self, room: _Room, message: Message, retention: Retention) -> None:
        room.history.append(message)
        room.seconds = retention.seconds
        self._history[message.sequence] = room
        while len(room.history) > retention.messages:
            self._drop_oldest(room)
        self._expire(room)

    def _keep_as_last(self, room: _Room, message: Message) -> None:
        previous = room.last.get(message.topic)
        room.last[message.topic] = message
        key = (room.name, message.topic)
        self._last[key] = None
        if previous is not None:
            self._last.move_to_end(key)
            self._let_go(room, previous)
        elif len(self._last) > self._bounds.last_values:
            self._evict_last()

    def _expire(self, room: _Room) -> None:
        oldest = self._clock.time() - room.seconds
        while room.history and room.history.oldest.time < oldest:
            self._drop_oldest(room)

    def _drop_oldest(self, room: _Room) -> None:
        message = room.history.popleft()
        del self._history[message.sequence]
        self._let_go(room, message)

    def _let_go(self, room: _Room, message: Message) -> None:
        """A message isn't kept in one of its two places any more; if in neither, it is gone."""
        if message.sequence in self._history or room.last.get(message.topic) is message:
            return
        if message.topic not in room.last:
            room.lost = max(room.lost, message.sequence)
        self._size_bytes -= _cost(message)
        if self._observer is not None:
            self._observer.dropped(message)
        self._raise_floor(room, message.sequence)

    def _shrink(self) -> None:
        while self._size_bytes > self._bounds.bytes and (self._history or self._last):
            if self._history:
                room = next(iter(self._history.values()))
                self._drop_oldest(room)
                self._settle(room)
                self._counters.drops["history_evicted"] += 1
            else:
                self._evict_last()

    def _evict_last(self) -> None:
        self.forget(*next(iter(self._last)))
        self._counters.drops["last_value_evicted"] += 1

    def forget(self, room: str, topic: str | None) -> None:
        """Remember no last value of this topic any more."""
        known = self._rooms.get(room)
        message = known.last.pop(topic, None) if known is not None else None
        if known is None or message is None:
            return
        del self._last[room, topic]
        self._let_go(known, message)
        self._settle(known)

    def _settle(self, room: _Room) -> None:
        """A room of which nothing is kept is known by its floor, for as long as there are not too many of those."""
        if room.history or room.last:
            return
        self._bare[room.name] = None
        self._bare.move_to_end(room.name)
        if len(self._bare) > self._bounds.rooms:
            stalest = self._rooms.pop(self._bare.popitem(last=False)[0])
            self._tree.remove(stalest.name)
            self._floor = max(self._floor, stalest.floor)
            if self._observer is not None:
                self._observer.room_forgotten(stalest.name, self._floor)

    def _expire_and_settle(self, room: _Room) -> None:
        if room.history or not room.last:
            self._expire(room)
            self._settle(room)

    def last_of(self, room: str, topic: str | None) -> Message | None:
        """The last value of one topic in one room."""
        known = self._rooms.get(room)
        return None if known is None else known.last.get(topic)

    def last(self, room_filter: str) -> Iterator[Message]:
        """The last values of a room, or of all rooms that a filter matches."""
        for room in self._tree.find(room_filter):
            yield from room.last.values()

    def after(self, room_filter: str, position: int, *, latest: bool = False) -> tuple[Iterator[Message], bool]:
        """What is kept of the messages after a position, in order; and whether that is all there were.

        With `latest`, whether each topic's newest is among them. They are found as they are taken, so at once.
        """
        complete = self._floor <= position or (not has_wildcard(room_filter) and room_filter in self._rooms)
        rooms = [room for room in self._tree.find(room_filter) if room.newest > position]
        for room in rooms:
            self._expire_and_settle(room)
            complete = complete and (room.lost if latest else room.floor) <= position
        firsts = (room.first_after(position) for room in rooms)
        return each_in_turn(firsts, lambda index: rooms[index].after(position)), complete

    def before(self, room_filter: str, place: int) -> Iterator[Message]:
        """What is kept of the messages before a place, the newest first; found as they are taken, so at once."""
        rooms = list(self._tree.find(room_filter))
        for room in rooms:
            self._expire_and_settle(room)
        firsts = (room.first_before(place) for room in rooms)
        return each_in_turn(firsts, lambda index: rooms[index].before(place), newest_first=True)


def _cost(message: Message) -> int:
    return MESSAGE_OVERHEAD_BYTES + len(message.data) + len(message.room) + len(message.topic or "")
