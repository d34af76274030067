"""Rooms that clients bring into use by sending into them, and how much all of them together may send into a room.

A room without a route begins with the first message that a client sends there. What that leaves in the log outlives the
client, and takes the place of what other rooms have left there; so rooms are counted, in all and by the address that
brought them into use. One into which nobody has sent for `MEMORY_SECONDS` counts no more.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final

from gateway.core.clock import Clock
from gateway.core.limit_errors import RoomRateLimited, TooManyRooms
from gateway.core.limits import Limits, TokenBuckets, rounded_up

__all__ = ["MEMORY_SECONDS", "PlainRooms", "RoomRates"]

MEMORY_SECONDS: Final = 600.0
"""How long a room counts after the last message."""


@dataclass(slots=True)
class _Room:
    address: str
    used: float


class PlainRooms:
    """The rooms of a namespace that clients have brought into use, the one longest unused first."""

    def __init__(self, maximum: int, clock: Clock) -> None:
        self._maximum = maximum
        self._clock = clock
        self._rooms: OrderedDict[str, _Room] = OrderedDict()
        self._by_address: Counter[str] = Counter()

    def use(self, room: str, address: str, maximum_by_address: int) -> None:
        """A client at `address` is about to send into a room.

        Raises:
            TooManyRooms: it is a new one, and there are as many as may be; `retry_after_seconds` if time heals that.
        """
        now = self._clock.monotonic()
        self._forget_unused(now)
        known = self._rooms.get(room)
        if known is not None:
            known.used = now
            self._rooms.move_to_end(room)
            return
        if len(self._rooms) >= self._maximum:
            raise TooManyRooms(
                f"too many rooms are in use: expected at most {self._maximum}",
                retry_after_seconds=self._until_one_is_unused(now),
                limit="rooms",
            )
        if self._by_address[address] >= maximum_by_address:
            raise TooManyRooms(
                f"too many rooms were brought into use from {address or 'here'}: expected at most {maximum_by_address}",
                retry_after_seconds=self._until_one_is_unused(now),
                limit="rooms_per_address",
            )
        self._rooms[room] = _Room(address, now)
        self._by_address[address] += 1

    def _forget_unused(self, now: float) -> None:
        while self._rooms:
            name, room = next(iter(self._rooms.items()))
            if room.used + MEMORY_SECONDS > now:
                return
            del self._rooms[name]
            self._by_address[room.address] -= 1
            if not self._by_address[room.address]:
                del self._by_address[room.address]

    def _until_one_is_unused(self, now: float) -> float:
        """How long it takes at least: the rooms may be used again meanwhile."""
        return rounded_up(next(iter(self._rooms.values())).used + MEMORY_SECONDS - now)

    def __len__(self) -> int:
        """How many count."""
        self._forget_unused(self._clock.monotonic())
        return len(self._rooms)


class RoomRates:
    """How fast all clients together may send into each room. The one that was used least recently is forgotten."""

    def __init__(self, limits: Limits, clock: Clock, capacity: int = 10_000) -> None:
        self._rate_per_second = limits.publishes_per_room_per_second
        self._buckets = TokenBuckets(self._rate_per_second, limits.publishes_per_room_burst, clock, capacity)

    def spend(self, room: str) -> None:
        """Account for one more message.

        Raises:
            RoomRateLimited: there are too many; it says when to try again.
        """
        wait_seconds = self._buckets.take(room)
        if wait_seconds:
            raise RoomRateLimited(
                f"too much is sent into {room[:200]!r}: expected at most {self._rate_per_second:g} messages a second",
                retry_after_seconds=rounded_up(wait_seconds),
            )

    def __len__(self) -> int:
        """How many rooms are remembered."""
        return len(self._buckets)
