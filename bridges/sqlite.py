"""The durable engine: the engine in memory, and a file in which all is before anybody is told of it.

A message is delivered, and reported as stored, only after the transaction that holds it. So what a client has seen is
in the log after a crash too; what a crash took was seen by nobody; and what a broker sends again then is known by its
receipt, which is in the same transaction. Each start begins an epoch; cursors of earlier ones stay good up to the last
place that was written in theirs.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Final

from bridges.sqlite_journal import Batch, Journal, Kept
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
from gateway.core.engine_memory import MemoryEngine
from gateway.core.errors import EngineUnavailable
from gateway.core.message import Cursor, Message
from gateway.core.receipts import Entry, Receipts

__all__ = ["SqliteEngine"]

logger = logging.getLogger(__name__)

MAXIMUM_WAITING: Final = 10_000
"""Calls of `publish` that wait for the disk; more are refused."""


class SqliteEngine:
    """Keeps the promises of `gateway.core.engine` across restarts."""

    def __init__(self, memory: MemoryEngine, journal: Journal, counters: Counters) -> None:
        self._memory = memory
        self._journal = journal
        self._counters = counters
        self._next = Batch()
        self._sequence = 0
        self._waiting = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._restore()

    def _restore(self) -> None:
        recorded, log = self._journal.recorded, self._memory.log
        log.observe(self, recorded.floor)
        for kept in recorded.messages:
            log.store(kept.message, kept.retention)
        for room, floor in recorded.floors:
            log.raise_floor(room, floor)
        self._memory.receipts = Receipts(recorded.receipts)
        self._memory.head = self._sequence = self._next.head = recorded.head

    def start(self) -> None:
        """Begin to write; in the event loop that is to deliver."""
        self._loop = asyncio.get_running_loop()
        self._journal.start()

    def close(self, timeout_seconds: float) -> None:
        """Write what waits. What can't be written in time was not reported as stored."""
        self._journal.write(self._take_batch())
        if not self._journal.close(timeout_seconds):
            logger.error("%s: %d messages could not be written", self._journal.path, self._waiting)

    @property
    def problem(self) -> str | None:
        """Why nothing can be stored now, if so."""
        return self._journal.problem

    @property
    def epoch(self) -> str:
        """What cursors begin with now."""
        return self._memory.epoch

    @property
    def head(self) -> int:
        """The place of the newest message that was delivered."""
        return self._memory.head

    @property
    def holdings(self) -> Holdings:
        """How much is kept."""
        return self._memory.holdings

    @property
    def receipts(self) -> Receipts:
        """The packets that are stored, or on the way to be."""
        return self._memory.receipts

    def attach(
        self,
        deliver: Deliver,
        interrupted: Interrupted = ignore,
        burst: AbstractContextManager[None] = nullcontext(),  # noqa: B008 - it has no state
    ) -> None:
        """Say who takes the deliveries."""
        self._memory.attach(deliver, interrupted, burst)

    def own(self, upstream: str, token: int, done: Callable[[], None], fenced: Callable[[], None]) -> None:
        """There is no other node."""
        self._memory.own(upstream, token, done, fenced)

    def watch(self, room_filter: str) -> None:
        """Know that somebody wants these rooms."""
        self._memory.watch(room_filter)

    def unwatch(self, room_filter: str) -> None:
        """Know that nobody does any more."""
        self._memory.unwatch(room_filter)

    def publish(self, publications: Sequence[Publication], done: Published, receipt: Entry | None = None) -> None:
        """Have messages stored; they are delivered, and `done` is called, once they are."""
        # What has a receipt is held back by the broker, which gets no acknowledgement until then.
        if receipt is None and publications and (self.problem is not None or self._waiting >= MAXIMUM_WAITING):
            self._counters.drops["engine_unavailable"] += max(1, len(publications))
            done(
                EngineUnavailable("the log can't be written, or not as fast as messages come", retry_after_seconds=1.0)
            )
            return
        placed: list[tuple[Message, Publication]] = []
        for publication in publications:
            if publication.is_fleeting:
                self._memory.apply(self._memory.place(publication, self.head), publication)
            elif not self._memory.is_known(publication):
                self._sequence += 1
                placed.append((self._memory.place(publication, self._sequence), publication))
        if not placed and receipt is None and not self._waiting:
            done(None)
            return
        self._enqueue(placed, done, receipt)

    def _enqueue(self, placed: Sequence[tuple[Message, Publication]], done: Published, receipt: Entry | None) -> None:
        batch = self._next
        for message, publication in placed:
            if publication.retention.keeps_any:
                batch.messages.append(Kept(message, publication.retention))
            else:  # a crash before it is delivered must not hide that it is gone
                batch.floors[message.room] = message.sequence
        batch.cleared += (
            (message.room, message.topic, message.sequence) for message, publication in placed if publication.clears
        )
        if receipt is not None:
            self.receipts.take(receipt)
            batch.receipts.append(receipt)
        self._waiting += 1
        assert self._loop is not None
        loop = self._loop
        batch.stored.append(partial(_call_in, loop, partial(self._apply, placed, done)))
        if len(batch.stored) == 1:
            loop.call_soon(self._flush)  # what comes in one turn of the event loop is one batch

    def _flush(self) -> None:
        self._journal.write(self._take_batch())

    def _take_batch(self) -> Batch:
        batch, self._next = self._next, Batch()
        batch.head = self._sequence
        return batch

    def _apply(self, placed: Sequence[tuple[Message, Publication]], done: Published) -> None:
        self._waiting -= 1
        try:
            for message, publication in placed:
                self._memory.apply(message, publication)
        finally:
            done(None)

    def acknowledged(self, upstream: str, packet_id: int) -> None:
        """Forget a receipt; written with the next message, for a crash until then does no harm."""
        if self.receipts.acknowledged(upstream, packet_id):
            self._next.acknowledged.append((upstream, packet_id))

    def forget(self, upstream: str) -> None:
        """Forget all receipts of a broker."""
        if self.receipts.forget(upstream):
            self._next.forgotten.append(upstream)

    def dropped(self, message: Message) -> None:
        """The log in memory doesn't keep a message any more."""
        self._next.dropped.append(message.sequence)

    def floor_raised(self, room: str, floor: int) -> None:
        """Messages of a room up to this place may be lacking."""
        self._next.floors[room] = floor

    def room_forgotten(self, room: str, floor: int) -> None:
        """A room isn't known any more."""
        self._next.floors[room] = None
        self._next.floor = floor

    def settled(self, done: Callable[[], None]) -> None:
        """There is one epoch."""
        done()

    def position(self, cursor: Cursor) -> int | None:
        """The place that a cursor of this or an earlier start stands for."""
        last = self.head if cursor.epoch == self.epoch else self._journal.recorded.epochs.get(cursor.epoch, -1)
        return cursor.sequence if cursor.sequence <= last else None

    def last(self, room_filter: str, done: Callable[[int, tuple[Message, ...]], None]) -> None:
        """Answer at once."""
        self._memory.last(room_filter, done)

    def read(self, wanted: Mapping[str, Wanted], limit: int, done: Callable[[Reading], None]) -> None:
        """Answer at once."""
        self._memory.read(wanted, limit, done)

    def history(self, span: Span, done: Callable[[tuple[Message, ...], bool], None]) -> None:
        """Answer at once."""
        self._memory.history(span, done)


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended; what was written is told after the next start
        loop.call_soon_threadsafe(call)
