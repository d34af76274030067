"""The engine of one process: all is in memory, and done before a call returns."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice, takewhile

from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.engine import (
    Deliver,
    Holdings,
    Interrupted,
    Publication,
    Published,
    Reading,
    Span,
    Wanted,
    ignore,
)
from gateway.core.log import Log
from gateway.core.message import Cursor, Message
from gateway.core.reading import read
from gateway.core.receipts import Entry, Receipts

__all__ = ["MemoryEngine"]


class MemoryEngine:
    """The engine of one process; its log ends with it."""

    def __init__(self, epoch: str, log: Log, clock: Clock, counters: Counters) -> None:
        self.epoch = epoch
        self.head = 0
        self.log = log
        self.receipts = Receipts()
        self.problem: str | None = None
        self._watched: set[str] = set()
        self._clock = clock
        self._counters = counters
        self._deliver: Deliver = lambda _: None

    def start(self) -> None:
        """Nothing is to be done."""

    def close(self, timeout_seconds: float) -> None:
        """Nothing is to be done."""

    @property
    def holdings(self) -> Holdings:
        """How much the log holds."""
        return Holdings(self.log.last_values, self.log.messages, self.log.size_bytes, len(self._watched))

    def attach(
        self,
        deliver: Deliver,
        interrupted: Interrupted = ignore,  # noqa: ARG002 - nothing comes between
        burst: AbstractContextManager[None] = nullcontext(),  # noqa: ARG002, B008 - nothing comes by itself
    ) -> None:
        """Say who takes the deliveries."""
        self._deliver = deliver

    def watch(self, room_filter: str) -> None:
        """Know that somebody wants these rooms; there is but one node, which is told of all of them anyway."""
        self._watched.add(room_filter)

    def unwatch(self, room_filter: str) -> None:
        """Know that nobody does any more."""
        self._watched.discard(room_filter)

    def publish(self, publications: Sequence[Publication], done: Published, receipt: Entry | None = None) -> None:
        """Give messages their places, keep and deliver them, all before this returns."""
        if receipt is not None:
            self.receipts.take(receipt)
        for publication in publications:
            if not self.is_known(publication):
                self.apply(self.place(publication, self.head + (not publication.is_fleeting)), publication)
        done(None)

    def own(self, upstream: str, token: int, done: Callable[[], None], fenced: Callable[[], None]) -> None:  # noqa: ARG002
        """There is no other node."""
        done()

    def acknowledged(self, upstream: str, packet_id: int) -> None:
        """Forget a receipt."""
        self.receipts.acknowledged(upstream, packet_id)

    def forget(self, upstream: str) -> None:
        """Forget all receipts of a broker."""
        self.receipts.forget(upstream)

    def place(self, publication: Publication, sequence: int) -> Message:
        """The message that a publication becomes at this place."""
        return Message(
            publication.room,
            publication.payload.data,
            self.epoch,
            sequence,
            round(self._clock.time(), 3),
            publication.topic,
            publication.sender,
            publication.retained,
            publication.payload.binary,
            publication.audience,
            not publication.is_fleeting,
            publication.user,
        )

    def apply(self, message: Message, publication: Publication) -> None:
        """Keep and deliver a message whose turn it is."""
        if message.kept:
            self.head = message.sequence
            if publication.clears:
                self.log.forget(message.room, message.topic)
            self.log.store(message, publication.retention)
        self._deliver(message)

    def is_known(self, publication: Publication) -> bool:
        """Whether it says nothing new: a broker tells what it retains again after each reconnection."""
        if not publication.retained:
            return False
        last = self.log.last_of(publication.room, publication.topic)
        if last is None or last.data != publication.payload.data:
            return False
        self._counters.drops["retained_known"] += 1
        return True

    def settled(self, done: Callable[[], None]) -> None:
        """There is one epoch."""
        done()

    def position(self, cursor: Cursor) -> int | None:
        """The place that a cursor of this engine stands for."""
        return cursor.sequence if cursor.epoch == self.epoch and cursor.sequence <= self.head else None

    def last(self, room_filter: str, done: Callable[[int, tuple[Message, ...]], None]) -> None:
        """Answer at once."""
        done(self.head, tuple(self.log.last(room_filter)))

    def read(self, wanted: Mapping[str, Wanted], limit: int, done: Callable[[Reading], None]) -> None:
        """Answer at once."""
        done(read(self.log, self.head, wanted, limit))

    def history(self, span: Span, done: Callable[[tuple[Message, ...], bool], None]) -> None:
        """Answer at once."""
        oldest_first, complete = self.log.after(span.room_filter, span.after)
        if span.newest:
            newest_first = self.log.before(span.room_filter, span.before)
            taken = list(islice(takewhile(lambda m: m.sequence > span.after, newest_first), span.limit))[::-1]
        else:
            taken = list(islice(takewhile(lambda m: m.sequence < span.before, oldest_first), span.limit))
        done(tuple(taken), complete)
