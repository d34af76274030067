"""Pings to all WebSocket clients, and the end of those that don't answer (RFC 6455 §5.5.2).

One timer for all of them: see `Wheel`.
"""

from random import Random
from typing import Final, Protocol

from gateway.core.clock import Clock
from gateway.core.wheel import Wheel

__all__ = ["Beating", "Heartbeats"]

PAYLOAD_BYTES: Final = 4


class Beating(Protocol):
    """A connection with a client that is asked whether it is there."""

    def ping(self, payload: bytes) -> None:
        """Ask."""
        ...

    def silent(self) -> None:
        """The client hasn't answered in time."""
        ...


class Heartbeats:
    """When which client is asked, and until when it has to answer."""

    def __init__(self, interval_seconds: float, timeout_seconds: float, clock: Clock, random: Random) -> None:
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._random = random
        self._resting: Wheel[Beating] = Wheel(clock, self._ask)
        self._asked: Wheel[Beating] = Wheel(clock, lambda connection: connection.silent())

    def begin(self, connection: Beating) -> None:
        """Ask one for the first time after the interval."""
        self._resting.add(connection, self._interval_seconds)

    def end(self, connection: Beating) -> None:
        """Ask one no more."""
        self._resting.discard(connection)
        self._asked.discard(connection)

    def answered(self, connection: Beating) -> None:
        """One has answered: ask it again after the interval."""
        self._asked.discard(connection)
        self.begin(connection)

    def _ask(self, connection: Beating) -> None:
        self._asked.add(connection, self._timeout_seconds)
        connection.ping(self._random.randbytes(PAYLOAD_BYTES))

    def __len__(self) -> int:
        """How many are asked."""
        return len(self._resting) + len(self._asked)
