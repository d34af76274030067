"""What a room is told: one message, with its place in the namespace's sequence."""

import re
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["EVERYONE", "Audience", "Cursor", "Message"]

_CURSOR = re.compile(r"([0-9a-z]{1,32})-(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in a namespace's sequence. A new epoch says that the log before it may be gone."""

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
class Audience:
    """Who of a room's subscribers gets a message."""

    session: str | None = None
    """Only the session of this id."""
    user: str | None = None
    """Only the sessions of this user."""
    sender: bool = True
    """Whether the session that sent it gets it too."""

    @property
    def is_addressed(self) -> bool:
        """Whether it picks receivers; such messages are for those who are there, and never kept."""
        return self.session is not None or self.user is not None


EVERYONE: Final = Audience()


@dataclass(slots=True)  # not frozen: it is made for each message, and that would take thrice as long
class Message:
    """One message of a room."""

    room: str
    data: bytes
    """JSON text without line breaks, as `payload.decode` gives it."""
    epoch: str
    sequence: int
    """Its place in the namespace's sequence; what is never kept has the place of the message before it."""
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
    audience: Audience = EVERYONE
    kept: bool = True
    """Whether it has a place of its own in the log; else it is for those who can take it now."""
    user: str | None = None
    """The user who sent it, if that is known."""

    @property
    def cursor(self) -> str:
        """The position after this message."""
        return f"{self.epoch}-{self.sequence}"
