"""What rooms remember: the last value of each topic. Gives every message its place in the sequence."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.message import Message
from gateway.core.payload import Payload
from gateway.core.trie import NameTree

__all__ = ["Log"]

Key: TypeAlias = tuple[str, str | None]


class Log:
    """The memory of a namespace's rooms; bounded by `last_values`, the least recently written is forgotten first."""

    def __init__(self, epoch: str, last_values: int, clock: Clock, counters: Counters) -> None:
        self._prefix = f"{epoch}-"
        self._sequence = 0
        self._capacity = last_values
        self._clock = clock
        self._counters = counters
        self._rooms: NameTree[dict[str | None, Message]] = NameTree()
        self._last: dict[str, dict[str | None, Message]] = {}
        self._age: OrderedDict[Key, bool] = OrderedDict()

    @property
    def cursor(self) -> str:
        """The position after the newest message."""
        return f"{self._prefix}{self._sequence}"

    def __len__(self) -> int:
        """How many last values are kept."""
        return len(self._age)

    def append(
        self,
        room: str,
        payload: Payload,
        *,
        topic: str | None = None,
        sender: str | None = None,
        retained: bool = False,
        keep: bool = True,
    ) -> Message:
        """Give a message the next place in the sequence and, if `keep`, remember it as its topic's last value."""
        self._sequence += 1
        message = Message(
            room,
            payload.data,
            f"{self._prefix}{self._sequence}",
            round(self._clock.time(), 3),
            topic,
            sender,
            retained,
            payload.binary,
        )
        if keep:
            self._remember(message)
        return message

    def _remember(self, message: Message) -> None:
        key = (message.room, message.topic)
        values = self._last.get(message.room)
        if values is None:
            values = self._last[message.room] = {}
            self._rooms.set(message.room, values)
        values[message.topic] = message
        self._age[key] = True
        self._age.move_to_end(key)
        if len(self._age) > self._capacity:
            self.forget(*next(iter(self._age)))
            self._counters.drops["last_value_evicted"] += 1

    def forget(self, room: str, topic: str | None) -> None:
        """Remember no last value of this topic any more."""
        if not self._age.pop((room, topic), False):
            return
        values = self._last[room]
        del values[topic]
        if not values:
            del self._last[room]
            self._rooms.remove(room)

    def last_of(self, room: str, topic: str | None) -> Message | None:
        """The last value of one topic in one room."""
        return self._last.get(room, {}).get(topic)

    def last(self, room: str) -> Iterator[Message]:
        """The last values of a room, or of all rooms that a pattern matches."""
        for values in self._rooms.find(room):
            yield from values.values()
