"""The newest payloads that didn't decode, for the people who run the gateway: which topic, what was wrong."""

from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["KEPT", "BadPayload", "BadPayloads"]

KEPT: Final = 20
"""How many are remembered."""
SHOWN_BYTES: Final = 32
"""Of each payload, from its beginning."""
SHOWN_CHARACTERS: Final = 200
"""Of its topic, and of the error."""


@dataclass(frozen=True, slots=True)
class BadPayload:
    """One of them."""

    time: float
    """When it came, in seconds since the Unix epoch."""
    route: int
    """Its place in the table, counted from 0."""
    topic: str
    payload: str
    """What the route says that payloads are."""
    error: str
    size_bytes: int
    head: str
    """Its first bytes, in hexadecimal."""


class BadPayloads:
    """The newest of a namespace."""

    def __init__(self) -> None:
        self._kept: deque[BadPayload] = deque(maxlen=KEPT)

    def add(self, time: float, route: int, topic: str, payload: str, error: str, raw: bytes) -> None:
        """Remember one, and forget the oldest if there are too many."""
        shown, told = topic[:SHOWN_CHARACTERS], error[:SHOWN_CHARACTERS]
        head = raw[:SHOWN_BYTES].hex()
        self._kept.append(BadPayload(round(time, 3), route, shown, payload, told, len(raw), head))

    def newest(self) -> list[BadPayload]:
        """What is remembered, the newest first."""
        return list(reversed(self._kept))
