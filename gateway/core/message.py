"""What a room is told: one message, with its place in the namespace's sequence."""

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["Cursor", "Message"]

_CURSOR = re.compile(r"([0-9a-z]{1,32})-(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in a namespace's sequence. A new epoch says that the log before it is gone."""

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `<epoch>-<sequence>`.

        Raises:
            ValueError: it isn't one.
        """
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:80]!r} is no cursor: expected one that the gateway gave")
        return cls(match[1], int(match[2]))


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a room."""

    room: str
    data: bytes
    """JSON text without line breaks, as `payload.decode` gives it."""
    cursor: str
    time: float
    """When the gateway had it, in seconds since the Unix epoch."""
    topic: str | None = None
    """Where a device published it; None for what a browser sent."""
    sender: str | None = None
    """The session that sent it; None for what a device published."""
    retained: bool = False
    """The broker had kept it: it may be old."""
    binary: bool = False
    """`data` is base64."""
