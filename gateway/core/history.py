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
    """Whether the limit left some out: newer ones with `since`, else older ones."""


def ask_history(engine: Engine, query: HistoryQuery, done: Callable[[History], None]) -> None:
    """Ask an engine.

    Raises:
        BadMessage: `before` is no place that the log knows, or the limit is out of bounds.
    """
    if not 1 <= query.limit <= MAXIMUM_LIMIT:
        raise BadMessage(f"limit: expected a whole number from 1 to {MAXIMUM_LIMIT}, found {query.limit}")
    since = None if query.since is None else engine.position(query.since)
    before = engine.head + 1
    if query.before is not None:
        position = engine.position(query.before)
        if position is None:
            raise BadMessage("before: expected a cursor that this log knows; it has been lost since, or is another's")
        before = position
    newest = since is None

    def answer(messages: tuple[Message, ...], complete: bool) -> None:
        more = len(messages) > query.limit
        told = (messages[1:] if newest else messages[:-1]) if more else messages
        done(History(told, engine.head, complete and since is not None, more))

    engine.history(Span(query.room, since or 0, before, query.limit + 1, newest), answer)
