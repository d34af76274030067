"""The history of one room: messages in the order of their sequence, added at the end, dropped at the front.

Reading from a place costs a search and what is taken, however many messages there are.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from operator import attrgetter
from typing import Final, TypeAlias

from gateway.core.message import Message

__all__ = ["Backlog", "by_sequence", "each_in_turn", "each_once"]

COMPACT_FROM: Final = 64
"""So many dropped messages may hold a place at the front before the list is moved together."""

_Turn: TypeAlias = tuple[int, int, tuple[Message, Iterator[Message]] | None]
"""The place of a room's next message, the room's number, and that message with those behind it, once it was read."""

by_sequence = attrgetter("sequence")


def each_once(messages: Iterable[Message]) -> Iterator[Message]:
    """Messages in order, without those that stand twice."""
    told = None
    for message in messages:
        if message.sequence != told:
            told = message.sequence
            yield message


def each_in_turn(
    firsts: Iterable[int | None], read: Callable[[int], Iterator[Message]], *, newest_first: bool = False
) -> Iterator[Message]:
    """The messages of many rooms in order; none of these is read before its turn, as few have what is taken.

    Args:
        firsts: The place of each room's first message; None if it has none.
        read: Reads a room, by its number.
        newest_first: Whether that is the order, of each room's messages too.
    """
    sign = -1 if newest_first else 1
    heap: list[_Turn] = [(sign * first, index, None) for index, first in enumerate(firsts) if first is not None]
    heapify(heap)
    while heap:
        _, index, begun = heap[0]
        messages = read(index) if begun is None else begun[1]
        yield next(messages) if begun is None else begun[0]
        following = next(messages, None)
        if following is None:
            heappop(heap)
        else:
            heapreplace(heap, (sign * following.sequence, index, (following, messages)))


class Backlog:
    """A list whose front moves."""

    __slots__ = ("_messages", "_start")

    def __init__(self) -> None:
        self._messages: list[Message | None] = []
        self._start = 0

    def __len__(self) -> int:
        return len(self._messages) - self._start

    @property
    def oldest(self) -> Message:
        """The message at the front; there is one."""
        message = self._messages[self._start]
        assert message is not None
        return message

    def append(self, message: Message) -> None:
        """Add a message behind all others."""
        self._messages.append(message)

    def popleft(self) -> Message:
        """Drop the message at the front."""
        message = self.oldest
        self._messages[self._start] = None
        self._start += 1
        if self._start > COMPACT_FROM and 2 * self._start > len(self._messages):
            del self._messages[: self._start]
            self._start = 0
        return message

    def first_after(self, place: int) -> int | None:
        """The place of the oldest message that came after a place; None if there is none."""
        message = next(self.after(place), None)
        return None if message is None else message.sequence

    def first_before(self, place: int) -> int | None:
        """The place of the newest message that came before a place; None if there is none."""
        message = next(self.before(place), None)
        return None if message is None else message.sequence

    def after(self, place: int) -> Iterator[Message]:
        """What came after a place, the oldest first."""
        for index in range(bisect_right(self._messages, place, lo=self._start, key=by_sequence), len(self._messages)):
            yield self._messages[index]  # type: ignore[misc]  # nothing is dropped behind the front

    def before(self, place: int) -> Iterator[Message]:
        """What came before a place, the newest first."""
        end = bisect_left(self._messages, place, lo=self._start, key=by_sequence)
        for index in range(end - 1, self._start - 1, -1):
            yield self._messages[index]  # type: ignore[misc]
