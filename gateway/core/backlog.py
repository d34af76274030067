"""The history of one room: messages in the order of their sequence, added at the end, dropped at the front.

Reading from a place costs a search and what is taken, however many messages there are.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

from gateway.core.message import Message

__all__ = ["Backlog", "by_sequence", "each_once"]

COMPACT_FROM: Final = 64
"""So many dropped messages may hold a place at the front before the list is moved together."""

by_sequence = attrgetter("sequence")


def each_once(messages: Iterable[Message]) -> Iterator[Message]:
    """Messages in order, without those that stand twice."""
    told = None
    for message in messages:
        if message.sequence != told:
            told = message.sequence
            yield message


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

    def after(self, place: int) -> Iterator[Message]:
        """What came after a place, the oldest first."""
        for index in range(bisect_right(self._messages, place, lo=self._start, key=by_sequence), len(self._messages)):
            yield self._messages[index]  # type: ignore[misc]  # nothing is dropped behind the front

    def before(self, place: int) -> Iterator[Message]:
        """What came before a place, the newest first."""
        end = bisect_left(self._messages, place, lo=self._start, key=by_sequence)
        for index in range(end - 1, self._start - 1, -1):
            yield self._messages[index]  # type: ignore[misc]
