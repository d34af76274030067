"""Many things that are due some time: one timer for all of them, and next to no memory for each."""

import heapq
import logging
import math
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from gateway.core.clock import Clock, Timer

__all__ = ["Wheel"]

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.1
"""What is due within one tick is due together, at its end."""

EARLY_TICKS: Final = 0.01
"""How much too early a timer may come."""

T = TypeVar("T")


class Wheel(Generic[T]):
    """Calls back for each item when its time has come, at most one tick later.

    Args:
        due: Called with the item, which isn't held any more.
    """

    __slots__ = ("_buckets", "_clock", "_due", "_ticks", "_timer", "_times")

    def __init__(self, clock: Clock, due: Callable[[T], None]) -> None:
        self._clock = clock
        self._due = due
        self._ticks: dict[T, int] = {}
        self._buckets: dict[int, dict[T, None]] = {}
        self._times: list[int] = []
        """The ticks of all buckets, as a heap."""
        self._timer: Timer | None = None

    def add(self, item: T, delay_seconds: float) -> None:
        """Let an item be due in so many seconds, and not when it was to be due before."""
        self.discard(item)
        tick = math.ceil((self._clock.monotonic() + delay_seconds) / TICK_SECONDS)
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            heapq.heappush(self._times, tick)
            if self._times[0] == tick:
                self._wait()
        bucket[item] = None
        self._ticks[item] = tick

    def discard(self, item: T) -> None:
        """Let an item not be due; nothing happens if it isn't held."""
        tick = self._ticks.pop(item, None)
        if tick is None:
            return
        bucket = self._buckets.get(tick)  # none if its time is just now
        if bucket is not None:
            del bucket[item]
            if not bucket:
                bucket.clear()  # an empty one may be as large as it ever was
        if not self._ticks:
            self._rest()

    def _wait(self) -> None:
        self._stop()
        wait_seconds = self._times[0] * TICK_SECONDS - self._clock.monotonic()
        self._timer = self._clock.call_later(max(0.0, wait_seconds), self._turn)

    def _rest(self) -> None:
        self._stop()
        self._times.clear()
        self._buckets.clear()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        self._timer = None
        now = math.floor(self._clock.monotonic() / TICK_SECONDS + EARLY_TICKS)
        while self._times and self._times[0] <= now:
            for item in self._buckets.pop(heapq.heappop(self._times)):
                if self._ticks.get(item, math.inf) <= now:  # else another that was due has changed that
                    del self._ticks[item]
                    self._call(item)
        if not self._ticks:
            self._rest()
        elif self._timer is None:
            self._wait()

    def _call(self, item: T) -> None:
        try:
            self._due(item)
        except Exception:
            logger.exception("what was due failed")  # and the others are due all the same

    def __len__(self) -> int:
        """How many items are held."""
        return len(self._ticks)
