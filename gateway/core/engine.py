"""Where sequence, log and last values live, and how messages reach this node: the protocol.

What every engine promises; tests/unit/test_engine_contract.py holds each to it:

- **One sequence.** `publish` gives each message of a namespace the next place. What is never kept (volatile, addressed)
  has none of its own.
- **Atomic.** What one call of `publish` brings, and the receipt by which a redelivery of it is known, is stored
  together or not at all. A message has its place, is in the log and is delivered on this node together: no read sees it
  before, and none misses it after. `done` comes then, or says why nothing was stored.
- **Ordered.** Deliveries come in the order of the sequence, and so do the calls of `done`.
- **Between deliveries.** Answers to reads come at a moment when all that was delivered is at most `head`, and all that
  will be is beyond. So who subscribes in the callback and reads up to `head` has no gap and nothing twice.
- **Watched rooms.** A node is told of the rooms, or of those that a filter matches, between `watch` and `unwatch`; of
  others it may be.
- **Exactly once in the log**, at most once for a delivery to a client: a connection may break. Who comes back with a
  cursor is told what it missed, or that it can't be told.
- **Epoch.** A cursor of this epoch, or of an earlier one that the log continues, is a position; any other is none. One
  beyond the newest message is found out by `read`, if not by `position`: nothing is known then of what was told.
- **Interrupted.** What may have been delivered with holes, and what is of another log from now on, is told to whoever
  takes the deliveries, and never in silence.
- **Owned.** What an upstream brought is stored only for the latest of those that have owned it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from gateway.core.errors import TidegateError
from gateway.core.message import EVERYONE, Audience, Cursor, Message
from gateway.core.payload import Payload
from gateway.core.reading import Reading, Wanted
from gateway.core.receipts import Entry, Receipts
from gateway.core.retention import NOTHING, Retention

__all__ = [
    "Deliver",
    "Engine",
    "Holdings",
    "Interrupted",
    "Publication",
    "Published",
    "Reading",
    "Span",
    "Wanted",
    "ignore",
]

Deliver: TypeAlias = Callable[[Message], None]

Interrupted: TypeAlias = Callable[[Collection[str] | None, int | None], None]
"""Is told that of filters messages after a place may be lacking that were never delivered.

Where the filters are None, the log is another one: nothing that it has after that place (None: nobody knows) was
delivered, and of what was, some may be gone.
"""

Published: TypeAlias = Callable[[TidegateError | None], None]
"""Called once: with None when all is stored, or with the reason why nothing is."""


@dataclass(slots=True)
class Publication:
    """What is to become a message."""

    room: str
    payload: Payload
    retention: Retention = NOTHING
    topic: str | None = None
    sender: str | None = None
    retained: bool = False
    """The broker had kept it; if it equals the topic's last value, it says nothing new and is dropped."""
    clears: bool = False
    """It takes its topic's last value back."""
    volatile: bool = False
    """It is for those who can take it now, and never kept."""
    audience: Audience = EVERYONE

    user: str | None = None
    """The user who sends it, if that is known."""
    upstream: str | None = None
    """The upstream that brought it, or its session; None for what a client sent."""

    @property
    def is_fleeting(self) -> bool:
        """Whether it has no place in the log."""
        return self.volatile or self.audience.is_addressed


@dataclass(frozen=True, slots=True)
class Span:
    """A part of what is kept of a room, or of all that a filter matches: messages between two places."""

    room_filter: str
    after: int
    before: int
    limit: int
    newest: bool
    """Whether the limit leaves the oldest out, and not the newest."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """How much an engine keeps on this node."""

    last_values: int
    messages: int
    size_bytes: int
    watched: int
    """Rooms and filters that somebody on this node wants."""


def ignore(*_: object) -> None:
    """Nobody is to be told."""


class Engine(Protocol):
    """See the module's text for the promises."""

    @property
    def epoch(self) -> str:
        """What cursors begin with now."""
        ...

    @property
    def head(self) -> int:
        """The place of the newest message that was delivered."""
        ...

    @property
    def holdings(self) -> Holdings:
        """How much is kept."""
        ...

    @property
    def problem(self) -> str | None:
        """Why nothing can be stored now, if so; in the operator's words."""
        ...

    def attach(
        self,
        deliver: Deliver,
        interrupted: Interrupted = ignore,
        burst: AbstractContextManager[None] = nullcontext(),  # noqa: B008 - it has no state
    ) -> None:
        """Say who takes the deliveries of this node; before all else, and once.

        Args:
            deliver: Takes each message.
            interrupted: Is told what can't be delivered without holes.
            burst: Is entered around messages that came together.
        """
        ...

    def start(self) -> None:
        """Begin to work, in the event loop that is to deliver."""
        ...

    def close(self, timeout_seconds: float) -> None:
        """End, after what waits is stored, or after this time."""
        ...

    @property
    def receipts(self) -> Receipts:
        """The packets of brokers that are stored, or on the way to be."""
        ...

    def watch(self, room_filter: str) -> None:
        """Deliver the messages of these rooms on this node, from now on."""
        ...

    def unwatch(self, room_filter: str) -> None:
        """Nobody on this node wants them any more; called once for each `watch`."""
        ...

    def publish(self, publications: Sequence[Publication], done: Published, receipt: Entry | None = None) -> None:
        """Give messages their places, keep and deliver them; `done` comes after that of all earlier calls."""
        ...

    def own(self, upstream: str, token: int, done: Callable[[], None], fenced: Callable[[], None]) -> None:
        """Let this node own an upstream: what comes from it under an earlier token is stored no more.

        Args:
            upstream: Its name.
            token: Larger than that of each earlier owner.
            done: Called once that holds, and `receipts` has what earlier owners have stored.
            fenced: Called when something of this node was refused, since there is a later owner. It isn't stored, and
                its own `done` is never called: the broker is to give it to that one.
        """
        ...

    def acknowledged(self, upstream: str, packet_id: int) -> None:
        """A broker knows that a packet is stored: its receipt is needed no more."""
        ...

    def forget(self, upstream: str) -> None:
        """A broker has begun a new session: none of its packets comes again."""
        ...

    def settled(self, done: Callable[[], None]) -> None:
        """Call `done` as soon as it is known which epoch holds: at once, but while the log is out of reach."""
        ...

    def position(self, cursor: Cursor) -> int | None:
        """The place in the sequence that a cursor stands for; None if the log doesn't know it. See `settled`."""
        ...

    def last(self, room_filter: str, done: Callable[[int, tuple[Message, ...]], None]) -> None:
        """The head, and the last values of a room or of all that a filter matches."""
        ...

    def read(self, wanted: Mapping[str, Wanted], limit: int, done: Callable[[Reading], None]) -> None:
        """What one session's subscriptions, rooms or filters, lack; what one of them has told isn't told by another."""
        ...

    def history(self, span: Span, done: Callable[[tuple[Message, ...], bool], None]) -> None:
        """The kept messages of a span, in order; and, unless the newest are wanted, whether none is lacking before."""
        ...
