"""What a node has published and Redis hasn't confirmed yet: in numbered batches, each stored exactly once, in order.

What one turn of the event loop brings is one batch, and one run of the script. A batch whose answer was lost is sent
again under its number, by which the script knows what it has stored; so neither a lost connection nor a Redis that was
away loses a message or doubles one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from bridges.redis_link import RedisLink, RedisRefused, Script, Word
from bridges.redis_messages import publication_words
from bridges.redis_options import RedisUnavailable
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.engine import Publication, Published
from gateway.core.errors import EngineUnavailable
from gateway.core.log import LogBounds
from gateway.core.receipts import Entry

__all__ = ["Publishing"]

logger = logging.getLogger(__name__)

MAXIMUM_WAITING: Final = 20_000
"""Calls of `publish` that wait for Redis; more are refused."""
MAXIMUM_WAITING_BYTES: Final = 64 * 1024 * 1024
MAXIMUM_CALLS: Final = 100
"""How many calls one run of the script takes: others wait meanwhile, some 10 µs for each."""
STORED: Final = 0
FENCED: Final = 1
"""What became of a call; otherwise Redis refused it, though not the batch."""
INDEX_BYTES: Final = 600
"""For so many bytes of the log there is one message in the index."""


@dataclass(slots=True)
class _Call:
    done: Published
    upstream: str | None
    token: int
    messages: int


@dataclass(slots=True)
class _Batch:
    number: int
    words: list[Word] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    size_bytes: int = 0


class Publishing:
    """The batches of one node in one namespace."""

    def __init__(
        self, link: RedisLink, script: Script, producer: str, bounds: LogBounds, clock: Clock, counters: Counters
    ) -> None:
        self.producer = producer
        self.confirmed = 0
        """The number of the newest batch that is known to be stored."""
        self.problem: str | None = None
        """Why Redis refuses what is published, if so."""
        self.fenced: dict[str, Callable[[], None]] = {}
        """Who is told that there is a later owner, by upstream."""
        self.tokens: dict[str, int] = {}
        """By which this node owns upstreams."""
        self.refused: Callable[[], None] = lambda: None
        """Called when a batch was refused: all is to be asked anew."""
        self._link, self._script, self._clock, self._counters = link, script, clock, counters
        self._bounds = (bounds.last_values, bounds.bytes, max(1, bounds.bytes // INDEX_BYTES))
        self._next = _Batch(1)
        self._flights: deque[_Batch] = deque()
        self._stored: list[Callable[[], None]] = []
        self._ready = False
        self._waiting = self._waiting_bytes = 0

    @property
    def waiting(self) -> int:
        """How many calls aren't confirmed yet."""
        return self._waiting

    def publish(self, publications: Sequence[Publication], done: Published, receipt: Entry | None) -> None:
        """Have messages stored, in the order of the calls."""
        if receipt is None and publications and self._is_full():
            self._counters.drops["engine_unavailable"] += len(publications)
            reason = "Redis is away, or not as fast as messages come"
            done(EngineUnavailable(reason, retry_after_seconds=1.0))
            return
        if not publications and receipt is None and not self._waiting:
            done(None)
            return
        upstream = receipt[0] if receipt else publications[0].upstream if publications else None
        packet, digest = ("0", b"") if receipt is None else (str(receipt[1]), receipt[2])
        token = self.tokens.get(upstream, 0) if upstream else 0
        now = self._clock.time()
        words: list[Word] = ["p", upstream or "", token, packet, digest, len(publications)]
        for publication in publications:
            words += publication_words(publication, now)
        batch = self._batch()
        batch.calls.append(_Call(done, upstream, token, len(publications)))
        self._waiting += 1
        self._add(batch, words, sum(len(each.payload.data) for each in publications))

    def acknowledged(self, upstream: str, packet_id: int) -> None:
        """A broker knows that a packet is stored."""
        self._add(self._batch(), ["a", upstream, self.tokens.get(upstream, 0), packet_id], 0)

    def forget(self, upstream: str) -> None:
        """A broker has begun a new session."""
        self._add(self._batch(), ["f", upstream, self.tokens.get(upstream, 0)], 0)

    def _is_full(self) -> bool:
        return self._waiting >= MAXIMUM_WAITING or self._waiting_bytes >= MAXIMUM_WAITING_BYTES

    def _batch(self) -> _Batch:
        if len(self._next.calls) >= MAXIMUM_CALLS:
            self.flush()
        return self._next

    def _add(self, batch: _Batch, words: list[Word], size_bytes: int) -> None:
        if not batch.words:
            asyncio.get_running_loop().call_soon(self._flush_turn, batch.number)
        batch.words += words
        batch.size_bytes += size_bytes
        self._waiting_bytes += size_bytes

    def _flush_turn(self, number: int) -> None:
        if self._next.number == number:
            self.flush()

    def flush(self) -> None:
        """Send what this turn has brought so far."""
        if self._next.words:
            batch, self._next = self._next, _Batch(self._next.number + 1)
            self._flights.append(batch)
            if self._ready:
                self._send(batch)

    def _send(self, batch: _Batch) -> None:
        arguments = (self.producer, batch.number, *self._bounds, *batch.words)
        self._link.evaluate(self._script, arguments, lambda reply: self._take(batch, reply))

    def lost(self) -> None:
        """The connection is lost: send nothing until `resume`."""
        self._ready = False

    def resume(self) -> None:
        """There is a connection again: send all that isn't confirmed; Redis knows what of it is stored."""
        self._ready, self.problem = True, None
        for batch in self._flights:
            self._send(batch)

    def _take(self, batch: _Batch, reply: Any) -> None:
        if not self._ready or not self._flights or self._flights[0] is not batch:
            return  # the answer to what is sent again
        if isinstance(reply, RedisUnavailable):
            self._ready = False
            return
        if isinstance(reply, RedisRefused):
            self._ready = False
            if self.problem is None:
                logger.error("Redis refuses what is published to %s; it is tried again: %s", self._link.tag, reply)
            self.problem = f"Redis refuses what is published: {reply}"
            self.refused()
            return
        self._flights.popleft()
        self._count(reply)
        self._confirm(batch, reply[4], reply[5].decode(errors="replace"))

    def _count(self, reply: list[Any]) -> None:
        for cause, count in zip(("retained_known", "last_value_evicted", "history_evicted"), reply[1:4], strict=True):
            if count:
                self._counters.drops[cause] += count

    def _confirm(self, batch: _Batch, statuses: list[int], problem: str) -> None:
        self.confirmed = batch.number
        self._waiting -= len(batch.calls)
        self._waiting_bytes -= batch.size_bytes
        if problem:
            logger.error("Redis refuses some of what is published to %s; that is lost: %s", self._link.tag, problem)
        for call, status in zip(batch.calls, statuses, strict=True):
            if status == FENCED:
                self._counters.drops["fenced"] += max(1, call.messages)
                if call.token == self.tokens.get(call.upstream or ""):  # else this node has owned it anew since
                    self.fenced.get(call.upstream or "", lambda: None)()
                continue
            error = None
            if status != STORED:
                self._counters.drops["engine_unavailable"] += call.messages
                error = EngineUnavailable(f"Redis refuses it: {problem}", retry_after_seconds=1.0)
            self._stored.append(partial(call.done, error))

    def settle(self) -> None:
        """Tell who waits that it is stored: after all that came with the answer, the deliveries themselves too."""
        stored, self._stored = self._stored, []
        for tell in stored:
            try:
                tell()
            except Exception:
                logger.exception("who published could not be told that it is stored")
