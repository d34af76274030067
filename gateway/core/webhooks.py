"""What a webhook is to be told, and what became of it: a bounded queue, one call at a time, in order. Sans-I/O.

Events are taken together into a call as they wait, and a call is repeated, with the same id and the same body, until
it is delivered, refused or given up: so each event is told in order and at least once, or counted as dropped. The next
call says how many are `missed`. Messages don't come while much waits, but wait in the log: see `webhook_feed`.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Final, Literal, TypeAlias

import orjson

from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.limits import TokenBucket
from gateway.core.webhook_retries import BreakerState, Retries, RetryOptions

__all__ = ["EVENT_TYPE", "Call", "EventName", "Webhook", "WebhookOptions"]

logger = logging.getLogger(__name__)

EventName: TypeAlias = Literal["message", "joined", "left", "connect", "disconnect"]

EVENT_TYPE: Final = "tidegate.events"
"""The `type` of each call, as the Standard Webhooks have it."""

CALL_BYTES: Final = 256 * 1024
"""How much of events one call has, besides one event that is larger."""

OUTCOMES: Final = ("delivered", "refused", "dropped")


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """What one webhook is told, and how much may wait for it."""

    name: str
    events: frozenset[EventName] = frozenset({"message"})
    rooms: tuple[str, ...] = ()
    """Filters: whose messages and presence it is told."""
    batch_events: int = 100
    """Events in one call."""
    queue_events: int = 1000
    """Events that wait besides the call under way: half of it messages, half others."""
    queue_bytes: int = 4 * 1024 * 1024
    give_up_seconds: float = 3600.0
    """How long one call is tried."""
    retries: RetryOptions = field(default_factory=RetryOptions)


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be posted, however often."""

    id: str
    body: bytes
    events: int
    missed: int
    since: float
    """When it was first due, by the monotonic clock."""


@dataclass(slots=True)
class _Share:
    """How much of a kind waits."""

    events: int = 0
    size_bytes: int = 0

    def add(self, events: int, size_bytes: int) -> None:
        self.events += events
        self.size_bytes += size_bytes


class Webhook:
    """One webhook of a namespace."""

    def __init__(
        self, options: WebhookOptions, namespace: str, clock: Clock, random: Random, counters: Counters
    ) -> None:
        self.options = options
        self.namespace = namespace
        self.outcomes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        """What became of events."""
        self.failures = 0
        """Calls that failed, and were made again or given up."""
        self.gone = False
        """Whether the endpoint said that it wants nothing more, ever."""
        self.wake: Callable[[], None] = lambda: None
        """Called when there is something to be sent."""
        self.settled: Callable[[], None] = lambda: None
        """Called when it is known what became of a call, so that fewer events wait."""
        self._clock = clock
        self._random = random
        self._counters = counters
        self._complaints = TokenBucket(0.1, 5, clock)
        self._retries = Retries(options.retries, random)
        self._queue: deque[tuple[bytes, _Share]] = deque()
        self._messages, self._others = _Share(), _Share()
        self._call: Call | None = None
        self._due = clock.monotonic()
        self._missed = 0

    def __len__(self) -> int:
        """How many events wait, those of the call under way included."""
        return len(self._queue) + (0 if self._call is None else self._call.events)

    @property
    def breaker(self) -> BreakerState:
        """Whether calls are made."""
        return self._retries.state

    @property
    def is_crowded(self) -> bool:
        """Whether as many messages wait as may: others are to wait in the log then."""
        return self._is_full(self._messages)

    def _is_full(self, share: "_Share") -> bool:
        """Each has a half, so that neither keeps the other out."""
        return 2 * share.events >= self.options.queue_events or 2 * share.size_bytes >= self.options.queue_bytes

    def offer(self, event: bytes, *, from_log: bool = False) -> None:
        """Let an event, a JSON object, wait to be told; or drop it, if as much waits as may.

        Args:
            event: The event.
            from_log: Whether it comes from somebody who asks first, by `is_crowded`; it is taken then.
        """
        share = self._messages if from_log else self._others
        if self.gone:
            self._drop(1, "gone")
        elif not from_log and self._is_full(share):
            self._drop(1, "full")
        else:
            self._queue.append((event, share))
            share.add(1, len(event))
            self.wake()

    def wait_seconds(self) -> float | None:
        """How long until a call is due; None if nothing waits."""
        return max(0.0, self._due - self._clock.monotonic()) if len(self) else None

    def call(self) -> Call | None:
        """What is to be posted now, whether that is due or not; the same until it is known what became of it."""
        if self._call is None and self._queue:
            self._call = self._make_call()
        if self._call is not None:
            self._retries.trying()
        return self._call

    def _make_call(self) -> Call:
        events: list[bytes] = []
        size_bytes = 0
        while self._queue and len(events) < self.options.batch_events:
            if events and size_bytes + len(self._queue[0][0]) > CALL_BYTES:
                break
            event, share = self._queue.popleft()
            share.add(-1, -len(event))
            events.append(event)
            size_bytes += len(event)
        data = {
            "namespace": self.namespace,
            "webhook": self.options.name,
            "missed": self._missed,
            "events": [orjson.Fragment(event) for event in events],
        }
        sent_at = datetime.fromtimestamp(self._clock.time(), UTC).isoformat(timespec="milliseconds")
        body = orjson.dumps({"type": EVENT_TYPE, "timestamp": sent_at.replace("+00:00", "Z"), "data": data})
        missed, self._missed = self._missed, 0
        identifier = f"msg_{self._random.getrandbits(128):032x}"
        return Call(identifier, body, len(events), missed, self._clock.monotonic())

    def delivered(self) -> None:
        """The endpoint has taken the call."""
        call = self._settle()
        if call is not None:
            self._retries.succeeded()
            self.outcomes["delivered"] += call.events
            self.settled()

    def refused(self, reason: str) -> None:
        """The endpoint doesn't want the call, and wouldn't however often it is made."""
        call = self._settle()
        if call is None:
            return
        self._retries.succeeded()  # it is there, after all
        self._missed += call.missed + call.events
        self.outcomes["refused"] += call.events
        self._counters.drops["webhook_refused"] += call.events
        self._complain("%d events were refused: %s", call.events, reason)
        self.settled()

    def failed(self, reason: str, retry_after_seconds: float | None = None) -> None:
        """The call failed; it is made again, unless it has failed for too long."""
        call, before = self._call, self.breaker
        if call is None:
            return
        pause_seconds = self._retries.failed(retry_after_seconds)
        self.failures += 1
        self._due = self._clock.monotonic() + pause_seconds
        if self.breaker is BreakerState.OPEN and before is BreakerState.CLOSED:
            logger.warning(
                "%s fails again and again, at last: %s: nothing is sent for %.1f s", self, reason, pause_seconds
            )
        else:
            self._complain("failed: %s: it is tried again in %.1f s", reason, pause_seconds)
        if self._clock.monotonic() - call.since >= self.options.give_up_seconds:
            self._settle()
            self._missed += call.missed
            self._drop(call.events, "gave_up")
            self.settled()

    def abandon(self, reason: str) -> None:
        """The endpoint wants nothing more, ever: drop what waits, and whatever comes."""
        self.gone = True
        logger.error("%s is given up until the gateway is restarted: %s", self, reason)
        self._drop_all("gone")
        self.settled()

    def close(self) -> int:
        """The gateway ends: drop what waits; how many events that is."""
        return self._drop_all("shutdown")

    def _settle(self) -> Call | None:
        """The call under way is over; None if it was dropped before its end was known."""
        call, self._call = self._call, None
        self._due = self._clock.monotonic()
        return call

    def _drop_all(self, cause: str) -> int:
        count = len(self)
        self._call = None
        self._queue.clear()
        self._messages, self._others = _Share(), _Share()
        if count:
            self._drop(count, cause)
        return count

    def _drop(self, count: int, cause: str) -> None:
        self.outcomes["dropped"] += count
        self._missed += count
        self._counters.drops[f"webhook_{cause}"] += count
        self._complain("%d events were dropped: %s", count, cause)

    def _complain(self, text: str, *details: object) -> None:
        if not self._complaints.take():
            logger.warning(f"%s: {text}", self, *details)  # noqa: G004 - the texts are all above

    def __str__(self) -> str:
        return f"webhook {self.options.name!r} of namespace {self.namespace}"
