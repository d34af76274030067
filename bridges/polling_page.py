"""What one poll is answered with, sans-I/O: what the log has after a place, as much of it as one answer holds.

An answer ends at a place in the sequence, and says all of its rooms up to there: so the next poll begins where it ends.
That holds for last values, too: they are told in the order of the sequence, and those from before `since` not again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import merge
from typing import Final

import orjson

from gateway.core import wire
from gateway.core.backlog import by_sequence
from gateway.core.engine import Reading
from gateway.core.message import Cursor, Message

__all__ = ["MAXIMUM_BYTES", "MAXIMUM_MESSAGES", "Page", "answer", "etag", "place_of_etag", "read_page"]

MAXIMUM_MESSAGES: Final = 1000
"""What one answer has at most, messages and last values together."""
MAXIMUM_BYTES: Final = 256 * 1024
"""The text of those, besides one that is larger."""


@dataclass(frozen=True, slots=True)
class Page:
    """What came after a place, up to another one."""

    messages: tuple[bytes, ...]
    """All of the rooms of which nothing is lacking."""
    last: tuple[bytes, ...]
    """The last values of the others, as far as they are newer than the place that was asked for."""
    lacking: tuple[str, ...]
    """The rooms and patterns of which something may be lacking."""
    place: int
    """Up to where all this goes."""
    more: bool
    """Whether there is more already."""

    @property
    def is_news(self) -> bool:
        """Whether it tells anything."""
        return bool(self.messages or self.last or self.lacking)


def read_page(
    reading: Reading,
    position: int | None,
    most_messages: int = MAXIMUM_MESSAGES,
    most_bytes: int = MAXIMUM_BYTES,
) -> Page:
    """As much of a reading as one answer holds; `position` is what was asked for, None if the log doesn't know it."""
    messages: list[bytes] = []
    last: list[bytes] = []
    reached, size_bytes = position or 0, 0
    for message, recovered in _in_order(reading, position or 0):
        text = wire.encode_message(message)
        size_bytes += len(text)
        told = len(messages) + len(last)
        if told and (told >= most_messages or size_bytes > most_bytes):
            return Page(tuple(messages), tuple(last), tuple(reading.incomplete), reached, True)
        (messages if recovered else last).append(text)
        reached = message.sequence
    if not reading.more:
        reached = reading.head
    return Page(tuple(messages), tuple(last), tuple(reading.incomplete), reached, reading.more)


def _in_order(reading: Reading, known: int) -> Iterator[tuple[Message, bool]]:
    """Messages and unknown last values, each once; whether it is one of the former."""
    brought = {message.sequence for message in reading.messages}
    end = reading.messages[-1].sequence if reading.more else reading.head
    values = {
        value.sequence: value
        for last in reading.incomplete.values()
        for value in last
        if known < value.sequence <= end and value.sequence not in brought
    }
    last_values = sorted(values.values(), key=by_sequence)
    for message in merge(reading.messages, last_values, key=by_sequence):
        yield message, message.sequence in brought


def answer(
    messages: Iterable[bytes],
    cursor: str,
    last: Iterable[bytes] = (),
    lacking: Sequence[str] = (),
    *,
    more: bool = False,
) -> bytes:
    """The JSON text of an answer."""
    rest = {"recovered": not lacking, "lacking": lacking, "more": more}
    head = b'{"messages":[%b],"last":[%b],"cursor":%b,' % (b",".join(messages), b",".join(last), orjson.dumps(cursor))
    return head + orjson.dumps(rest)[1:]


def _digest(rooms: Iterable[str], since: Cursor | None) -> str:
    return blake2b(orjson.dumps([*rooms, str(since)]), digest_size=9).hexdigest()


def etag(rooms: Iterable[str], since: Cursor | None, cursor: str) -> str:
    """By what an answer is known again. A weak one: the cursor in it may move on though nothing else does."""
    return f'W/"{cursor}.{_digest(rooms, since)}"'


def place_of_etag(given: str, rooms: Iterable[str], since: Cursor | None) -> Cursor | None:
    """Where the answer ended that a client has, as `If-None-Match` says; None if it has another one, or none."""
    digest = _digest(rooms, since)
    for tag in given.split(","):
        place, _, of = tag.strip().removeprefix("W/").strip('"').rpartition(".")
        if of == digest:
            try:
                return Cursor.parse(place)
            except ValueError:
                return None
    return None
