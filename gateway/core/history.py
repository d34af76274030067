"""Reading back what a room's log keeps, page by page: the question, and what is answered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.core.engine import Engine, Span
from gateway.core.errors import BadMessage
from gateway.core.message import Cursor, Message

__all__ = ["DEFAULT_LIMIT", "MAXIMUM_LIMIT", "History", "HistoryQuery", "ask_history"]

DEFAULT_LIMIT: Final = 100
MAXIMUM_LIMIT: Final = 1000
BEYOND_ALL: Final = 2**53
"""A place that no log reaches."""
MAXIMUM_BYTES: Final = 4 * 1024 * 1024
"""What the messages of one answer have together, besides one that is larger."""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """At most `limit` messages of a room or pattern.

    With `since`, the oldest after it, to read on; else the newest, or the newest before `before`, to read back.
    """

    room: str
    since: Cursor | None = None
    before: Cursor | None = None
    limit: int = DEFAULT_LIMIT


@dataclass(frozen=True, slots=True)
class History:
    """Messages in order, and the place after which they come."""

    messages: tuple[Message, ...]
    head: int
    recovered: bool
    """Whether `since` is a place that the log still reaches, so that none is lacking before the first message."""
    more: bool
    """Whether the limit, or `MAXIMUM_BYTES`, left some out: newer ones with `since`, else older ones."""


def ask_history(engine: Engine, query: HistoryQuery, done: Callable[[History], None]) -> None:
    """Ask an engine.

    Raises:
        BadMessage: `before` is no place that the log knows, or the limit is out of bounds.
    """
    if not 1 <= query.limit <= MAXIMUM_LIMIT:
        raise BadMessage(f"limit: expected a whole number from 1 to {MAXIMUM_LIMIT}, found {query.limit}")
    since = None if query.since is None else engine.position(query.since)
    before = BEYOND_ALL
    if query.before is not None:
        position = engine.position(query.before)
        if position is None:
            raise BadMessage("before: expected a cursor that this log knows; it has been lost since, or is another's")
        before = position
    newest = since is None

    def answer(messages: tuple[Message, ...], complete: bool) -> None:
        more = len(messages) > query.limit
        told = (messages[1:] if newest else messages[:-1]) if more else messages
        within = _within(told, newest=newest)
        done(History(within, engine.head, complete and since is not None, more or len(within) < len(told)))

    engine.history(Span(query.room, since or 0, before, query.limit + 1, newest), answer)


def _within(messages: tuple[Message, ...], *, newest: bool) -> tuple[Message, ...]:
    """The newest of them, or the oldest, as far as they have no more than `MAXIMUM_BYTES` together."""
    size_bytes, count = 0, 0
    for message in reversed(messages) if newest else messages:
        size_bytes += len(message.data)
        if count and size_bytes > MAXIMUM_BYTES:
            break
        count += 1
    return messages[len(messages) - count :] if newest else messages[:count]
