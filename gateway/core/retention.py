"""What a room remembers of its messages."""

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["NOTHING", "Retention"]


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a room is kept."""

    last: bool = True
    """The last value of each topic."""
    messages: int = 0
    """So many messages, the newest."""
    seconds: float = math.inf
    """But none of those that are older than this."""

    @property
    def keeps_any(self) -> bool:
        """Whether anything is kept."""
        return self.last or self.messages > 0


NOTHING: Final = Retention(last=False)
