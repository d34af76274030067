"""How often a busy connection is read: rather several messages at once than each by itself.

To wake up for a message, and to write it to each of its receivers alone, costs more than all that is done with it. What
comes now and then is read at once; of what comes fast, a message waits a moment for others, as network cards do it with
their interrupts.
"""

from typing import Final

__all__ = ["Pace"]

WANTED_MESSAGES: Final = 16
"""So many at once are enough: mosquitto sends no more than 20 before it wants an acknowledgement."""

WEIGHT: Final = 0.1
"""Of the newest read in the average."""

LONGEST_SECONDS: Final = 1.0
"""What counts at most between two messages: after a rest it is soon known again how fast they come."""


class Pace:
    """How long to wait until the next read, by how fast messages came of late.

    Args:
        gather_seconds: The longest that a message waits for others; 0 for none that waits.
    """

    __slots__ = ("_average_seconds", "_gather_seconds", "_read_at")

    def __init__(self, gather_seconds: float) -> None:
        self._gather_seconds = gather_seconds
        self._average_seconds = LONGEST_SECONDS
        """Between two messages."""
        self._read_at = 0.0

    def pause_seconds(self, messages: int, now: float) -> float:
        """How long to wait after a read that brought so many messages; 0 where that brings no others."""
        if not messages:
            return 0.0
        between, self._read_at = (now - self._read_at) / messages, now
        self._average_seconds += WEIGHT * (min(LONGEST_SECONDS, between) - self._average_seconds)
        if self._gather_seconds < 2 * self._average_seconds:
            return 0.0
        return min(self._gather_seconds, max(0, WANTED_MESSAGES - messages) * self._average_seconds)
