"""How the clients of a gateway that leaves are sent away: one after the other, so that they don't come back in a crowd.

Each has a slot of the time there is, and leaves at a random moment of it, in random order. One that still waits for
an answer leaves once it has that.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Final, Protocol

from gateway.core.clock import Clock, Timer

__all__ = ["Departures", "Guest"]

SLICE_SECONDS: Final = 0.01
"""Those whose moments are as close together leave together."""
BUSY_SECONDS: Final = 0.05
"""How often one that waits for an answer is looked at."""
SEARCH_SECONDS: Final = 0.5
"""How often those are looked for who have come meanwhile, over connections that were there."""

logger = logging.getLogger(__name__)


class Guest(Protocol):
    """A client that is to leave. Two that are equal are the same one."""

    @property
    def busy(self) -> bool:
        """Whether it waits for an answer."""
        ...

    def leave(self) -> None:
        """Send it away; nothing happens if it has left."""
        ...


class Departures:
    """Sends clients away.

    Args:
        find: All clients that there are now.
        seconds: How long it is to take.
    """

    def __init__(self, find: Callable[[], Iterable[Guest]], seconds: float, clock: Clock, random: Random) -> None:
        self._find = find
        self._seconds = seconds
        self._clock = clock
        self._random = random
        self._search_at = 0.0
        self._due: deque[tuple[float, Guest]] = deque()
        self._busy: list[Guest] = []
        self._known: set[Guest] = set()
        self._timer: Timer | None = None

    def begin(self) -> None:
        """From now on let them leave."""
        self._invite(self._clock.monotonic(), self._seconds)
        self._go_on()

    def hurry(self) -> None:
        """Let all leave now, those too that still wait."""
        if self._timer is not None:
            self._timer.cancel()
        self._invite(self._clock.monotonic(), 0)
        due, busy, self._due, self._busy = self._due, self._busy, deque(), []
        for guest in (*busy, *(guest for _, guest in due)):
            self._leave(guest)

    @property
    def over(self) -> bool:
        """Whether all have left."""
        return not (self._due or self._busy)

    def _invite(self, now: float, within_seconds: float) -> None:
        """Give all who aren't known yet their moments."""
        guests = [guest for guest in self._find() if guest not in self._known]
        self._known.update(guests)
        self._random.shuffle(guests)
        slot_seconds = within_seconds / max(1, len(guests))
        moments = (now + (number + self._random.random()) * slot_seconds for number in range(len(guests)))
        self._due = deque(sorted([*self._due, *zip(moments, guests, strict=True)], key=lambda entry: entry[0]))
        self._search_at = now + SEARCH_SECONDS

    def _go_on(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        if now >= self._search_at:
            self._invite(now, SEARCH_SECONDS)
        self._leave_by(now)
        if not self.over:
            self._timer = self._clock.call_later(self._pause(now), self._go_on)

    def _leave_by(self, now: float) -> None:
        asked, self._busy = self._busy, []
        while self._due and self._due[0][0] <= now + SLICE_SECONDS:
            asked.append(self._due.popleft()[1])
        for guest in asked:
            if guest.busy:
                self._busy.append(guest)
            else:
                self._leave(guest)

    def _pause(self, now: float) -> float:
        moments = [self._search_at]
        if self._due:
            moments.append(self._due[0][0])
        if self._busy:
            moments.append(now + BUSY_SECONDS)
        return max(SLICE_SECONDS, min(moments) - now)

    def _leave(self, guest: Guest) -> None:
        try:
            guest.leave()
        except Exception:
            logger.exception("a client could not be told that the gateway is shutting down")
