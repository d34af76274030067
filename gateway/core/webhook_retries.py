"""When a webhook that failed is tried again: pauses that grow, and a circuit breaker. Sans-I/O.

Closed, each failure makes the next pause longer. After so many in a row the breaker opens: nothing is sent for a while.
Then one call is let through, half-open; it closes the breaker, or opens it again.
"""

from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

__all__ = ["BreakerState", "Retries", "RetryOptions"]

JITTER: Final = 0.25
"""By how much of itself the pause of an open breaker is longer at most."""

MAXIMUM_RETRY_AFTER_SECONDS: Final = 3600.0
"""The longest pause that an endpoint may ask for."""


class BreakerState(Enum):
    """Whether calls are made."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """The pauses."""

    min_seconds: float = 0.5
    max_seconds: float = 30.0
    breaker_failures: int = 5
    """So many failures in a row open the breaker."""
    breaker_seconds: float = 30.0
    """How long it stays open."""


class Retries:
    """What one webhook's failures lead to."""

    __slots__ = ("_failures", "_options", "_random", "state")

    def __init__(self, options: RetryOptions, random: Random) -> None:
        self._options = options
        self._random = random
        self._failures = 0
        self.state = BreakerState.CLOSED

    def trying(self) -> None:
        """A call is made, after the pause."""
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN

    def succeeded(self) -> None:
        """The endpoint answered as it should."""
        self._failures = 0
        self.state = BreakerState.CLOSED

    def failed(self, retry_after_seconds: float | None = None) -> float:
        """The pause after a call that failed, in seconds; no shorter than what the endpoint asked for."""
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= self._options.breaker_failures:
            self.state = BreakerState.OPEN
            least = self._options.breaker_seconds
            pause = self._random.uniform(least, least * (1 + JITTER))
        else:
            least, most = self._options.min_seconds, self._options.max_seconds
            pause = self._random.uniform(least, max(least, min(most, least * 2 ** min(self._failures, 16))))
        return max(pause, min(retry_after_seconds or 0.0, MAXIMUM_RETRY_AFTER_SECONDS))
