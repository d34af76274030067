"""The engine of many nodes: sequence, log and last values are in Redis, and messages reach the nodes by its channels.

One run of a script gives messages their places, keeps them and publishes them; each node, that which published too,
delivers what comes by its channels, so the order is everywhere that of Redis. What a node missed while it had no
connection, or for whatever other reason, is read from the log before anything later is delivered.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from random import Random
from typing import Any, Final

from bridges.redis_deliveries import Deliveries
from bridges.redis_link import RedisLink, RedisRefused
from bridges.redis_options import RedisUnavailable
from bridges.redis_publishing import Publishing
from bridges.redis_reading import Asking, HistoryAsking, LastAsking, ReadAsking
from bridges.redis_scripts import load
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
from gateway.core.log import LogBounds
from gateway.core.message import Cursor, Message
from gateway.core.receipts import Entry, Receipts

__all__ = ["RedisEngine"]

logger = logging.getLogger(__name__)

PAGE_MESSAGES: Final = 1000
"""How many messages are read at a time when a node comes back."""
BEAT_SECONDS: Final = 1.0
REMEMBERED_ROOMS: Final = 100_000
"""Of so many rooms the newest place is known, to notice a gap; then all are forgotten."""


class RedisEngine:
    """One node's part of a namespace's engine."""

    def __init__(self, link: RedisLink, bounds: LogBounds, clock: Clock, random: Random, counters: Counters) -> None:
        self.receipts = Receipts()
        self.ready = asyncio.Event()
        """Set once Redis has answered for the first time: before, no cursor is known."""
        self._link, self._clock, self._random, self._counters = link, clock, random, counters
        self._scripts = {name: load(name) for name in ("publish", "hello", "own", "read")}
        for script in self._scripts.values():
            link.add_script(script)
        producer = f"{random.getrandbits(64):016x}"
        self._publishing = Publishing(link, self._scripts["publish"], producer, bounds, clock, counters)
        self._publishing.refused = self._begin_anew
        self._deliveries = Deliveries(link, self._scripts["read"], f"{random.getrandbits(40):x}", clock, counters)
        self._deliveries.stale, self._deliveries.live = self._begin_anew, self._go_on
        self._epochs: dict[str, int] = {}
        """Up to which place earlier epochs are continued."""
        self._turn = 0
        """Counts greetings: an answer to an earlier one is none."""
        self._held: deque[Asking] = deque()
        self._unsettled: list[Callable[[], None]] = []
        self._reads: dict[tuple[Any, ...], ReadAsking] = {}
        self._kept = Holdings(0, 0, 0, 0)
        link.connected.append(self._greet)
        link.lost.append(self._lost)
        link.settled.append(self._publishing.settle)

    def attach(
        self,
        deliver: Deliver,
        interrupted: Interrupted = ignore,
        burst: AbstractContextManager[None] = nullcontext(),  # noqa: B008 - it has no state
    ) -> None:
        """Say who takes the deliveries."""
        self._deliveries.attach(deliver, interrupted)
        self._link.burst = burst

    @property
    def epoch(self) -> str:
        """What cursors begin with now."""
        return self._deliveries.epoch

    @property
    def head(self) -> int:
        """Up to where this node was told all that it watches."""
        return self._deliveries.head

    def start(self) -> None:
        """Begin to work: `RedisLink.run` is started by whoever supervises it."""
        self._clock.call_later(BEAT_SECONDS, self._beat)

    def close(self, timeout_seconds: float) -> None:  # noqa: ARG002 - see `RedisLink.finish`
        """Send what waits. What isn't confirmed was not reported as stored."""
        self._publishing.flush()
        self._link.flush()

    @property
    def problem(self) -> str | None:
        """Why nothing can be stored now, if so."""
        return self._link.problem or self._publishing.problem

    @property
    def waiting(self) -> int:
        """How many publications Redis hasn't confirmed yet."""
        return self._publishing.waiting

    @property
    def holdings(self) -> Holdings:
        """How much the log held a moment ago, over all nodes; and what is watched on this one."""
        kept = self._kept
        return Holdings(kept.last_values, kept.messages, kept.size_bytes, len(self._deliveries))

    def watch(self, room_filter: str) -> None:
        """Deliver these rooms' messages on this node."""
        self._deliveries.watch(room_filter)

    def unwatch(self, room_filter: str) -> None:
        """Nobody on this node wants them."""
        self._deliveries.unwatch(room_filter)

    def publish(self, publications: Sequence[Publication], done: Published, receipt: Entry | None = None) -> None:
        """Have messages stored; they are delivered as they come by the channels, and `done` is called then."""
        takes_nothing = not self._link.is_up or self._publishing.problem is not None
        if takes_nothing and publications and all(each.is_fleeting for each in publications):
            for each in publications:  # it needs no place, and is for those who can take it now
                self._deliveries.deliver(self._fleeting(each))
            done(None)
            return
        if receipt is not None:
            self.receipts.take(receipt)
        self._publishing.publish(publications, done, receipt)

    def _fleeting(self, each: Publication) -> Message:
        time, payload = round(self._clock.time(), 3), each.payload
        more = (each.topic, each.sender, each.retained, payload.binary, each.audience, False, each.user)
        return Message(each.room, payload.data, self.epoch, self.head, time, *more)

    def own(self, upstream: str, token: int, done: Callable[[], None], fenced: Callable[[], None]) -> None:
        """Let this node own an upstream; while Redis is away, once it is back."""

        def take(reply: Any) -> None:
            if isinstance(reply, (RedisRefused, RedisUnavailable)):
                self._clock.call_later(BEAT_SECONDS, ask)
                return
            if reply is None:
                fenced()
                return
            self.receipts.forget(upstream)
            for packet_id, digest in (
                reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
            ):
                self.receipts.take((upstream, int(packet_id), digest))
            done()

        def ask() -> None:
            if self._publishing.tokens.get(upstream) == token:
                self._link.evaluate(self._scripts["own"], (upstream, token), take)

        self._publishing.tokens[upstream], self._publishing.fenced[upstream] = token, fenced
        ask()

    def acknowledged(self, upstream: str, packet_id: int) -> None:
        """Forget a receipt."""
        if self.receipts.acknowledged(upstream, packet_id):
            self._publishing.acknowledged(upstream, packet_id)

    def forget(self, upstream: str) -> None:
        """Forget all receipts of a broker."""
        if self.receipts.forget(upstream):
            self._publishing.forget(upstream)

    def settled(self, done: Callable[[], None]) -> None:
        """A node that has come back knows of an epoch that others have begun meanwhile."""
        if self._deliveries.is_live:
            done()
        else:
            self._unsettled.append(done)

    def position(self, cursor: Cursor) -> int | None:
        """The place that a cursor of this epoch, or of one that it continues, stands for."""
        if cursor.epoch == self.epoch:
            return cursor.sequence
        return cursor.sequence if cursor.sequence <= self._epochs.get(cursor.epoch, -1) else None

    def last(self, room_filter: str, done: Callable[[int, tuple[Message, ...]], None]) -> None:
        """Ask Redis."""
        self._ask(LastAsking(*self._way(), room_filter=room_filter, done=done))

    def read(self, wanted: Mapping[str, Wanted], limit: int, done: Callable[[Reading], None]) -> None:
        """Ask Redis; those who want the same in one turn of the event loop ask once."""
        key = (limit, *wanted.items())
        asking = self._reads.get(key)
        if asking is not None:
            asking.done.append(done)
            return
        asking = self._reads[key] = ReadAsking(*self._way(), wanted=dict(wanted), limit=limit, done=done)
        self._clock.call_later(0, lambda: self._ask(self._reads.pop(key)))

    def history(self, span: Span, done: Callable[[tuple[Message, ...], bool], None]) -> None:
        """Ask Redis."""
        self._ask(HistoryAsking(*self._way(), span=span, done=done))

    def _way(self) -> tuple[Any, ...]:
        return *self._deliveries.way, self._deliveries.arrived, self._hold

    def _ask(self, asking: Asking) -> None:
        if self._deliveries.is_live:
            asking.ask()
        else:
            self._held.append(asking)

    def _hold(self, asking: Asking) -> None:
        self._held.append(asking)
        if self._deliveries.is_live and self._link.is_up:  # the log is another one
            self._begin_anew()

    def _greet(self) -> None:
        self._turn += 1
        arguments = (
            f"{self._random.getrandbits(40):x}",
            self.head,
            self._publishing.producer,
            self._publishing.confirmed,
            self.epoch,
        )
        self._link.evaluate(self._scripts["hello"], arguments, partial(self._greeted, self._turn))

    def _greeted(self, turn: int, reply: Any) -> None:
        if isinstance(reply, RedisUnavailable) or turn != self._turn:
            return
        if isinstance(reply, RedisRefused):
            self._begin_anew()
            return
        epoch, head, stamp, epochs, common = reply
        self._epochs = {known.decode(): int(last) for known, last in zip(epochs[::2], epochs[1::2], strict=True)}
        continued = self.epoch == epoch.decode() or self.head <= self._epochs.get(self.epoch, -1)
        if self.ready.is_set() and continued:
            self._deliveries.resume(epoch.decode(), stamp)
        else:
            lost = self.ready.is_set()
            self.ready.set()
            self._deliveries.begin(epoch.decode(), head, stamp, lost=lost, common=None if common < 0 else common)
        self._publishing.resume()

    def _go_on(self) -> None:
        """Ask what had to wait, now that this node delivers what comes."""
        unsettled, self._unsettled = self._unsettled, []
        for done in unsettled:
            done()
        held, self._held = self._held, deque()
        for asking in held:
            asking.ask()

    def _begin_anew(self) -> None:
        """Ask again what holds, after a while."""
        self._deliveries.pause()
        self._publishing.lost()
        self._clock.call_later(BEAT_SECONDS / 2, lambda: self._greet() if self._link.is_up else None)

    def _lost(self) -> None:
        self._deliveries.pause()
        self._publishing.lost()

    def _beat(self) -> None:
        self._clock.call_later(BEAT_SECONDS, self._beat)
        if self._deliveries.is_live:
            fields = ("epoch", "seq", "values", "entries", "bytes")
            self._link.send(self._measure, "HMGET", self._link.key("meta"), *fields)

    def _measure(self, reply: Any) -> None:
        if isinstance(reply, (RedisRefused, RedisUnavailable)) or not self._deliveries.is_live:
            return
        if reply[0] is None or not self._deliveries.arrived(reply[0].decode(), int(reply[1])):
            self._begin_anew()
            return
        values, entries, size_bytes = map(int, reply[2:])
        self._kept = Holdings(values, entries, size_bytes, 0)
