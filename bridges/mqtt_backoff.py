"""How long to wait before connecting again: the longer, the more often it went wrong. Sans-I/O."""

from random import Random
from typing import Final

__all__ = ["Backoff"]

TAKEN_OVER_FACTOR: Final = 2


class Backoff:
    """The pauses of one upstream."""

    def __init__(self, min_seconds: float, max_seconds: float, random: Random) -> None:
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._random = random
        self._failures = 0
        self.quick_losses = 0
        """Connections in a row that were lost soon after they were made."""

    def failed(self, up_seconds: float | None, *, taken_over: bool = False) -> float:
        """The pause after an attempt that never came up (None), or a connection that lasted so long.

        Only one that lasted `max_seconds` counts as well: a broker that flaps isn't asked at full speed. After another
        client has taken the session over, which ours would take back, the pause is longer than any other.
        """
        if up_seconds is not None:
            settled = up_seconds >= self._max_seconds
            self.quick_losses = 0 if settled else self.quick_losses + 1
            if settled:
                self._failures = 0
        ceiling = min(self._max_seconds, self._min_seconds * 2 ** min(self._failures, 16))
        self._failures += 1
        if taken_over:
            return self._random.uniform(self._max_seconds, self._max_seconds * TAKEN_OVER_FACTOR)
        return self._random.uniform(self._min_seconds, ceiling)
