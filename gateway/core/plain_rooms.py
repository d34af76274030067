"""Rooms that clients bring into use by sending into them, and how much all of them together may send into a room.

A room without a route begins with the first message that a client sends there. What that leaves in the log outlives the
client, and takes the place of what other rooms have left there; so rooms are counted, in all and by the address that
brought them into use. One into which nobody has sent for `MEMORY_SECONDS` counts no more. Nodes that share a log tell
each other which rooms are in use: a room counts once, however many of them it is used by.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.clock import Clock
from gateway.core.limit_errors import RoomRateLimited, TooManyRooms
from gateway.core.limits import Limits, TokenBuckets, rounded_up
from gateway.core.shared_limits import SharedLimits, shared_key

__all__ = ["MEMORY_SECONDS", "PlainRooms", "RoomRates"]

MEMORY_SECONDS: Final = 600.0
"""How long a room counts after the last message."""
TELL_SECONDS: Final = MEMORY_SECONDS / 4
"""How long other nodes aren't told again that a room is in use."""


@dataclass(slots=True)
class _Room:
    address: str
    used: float
    told: float
    """When nodes last told each other of it."""


class PlainRooms:
    """The rooms of a namespace that clients have brought into use, the one longest unused first."""

    def __init__(self, maximum: int, clock: Clock) -> None:
        self._maximum = maximum
        self._clock = clock
        self._rooms: OrderedDict[str, _Room] = OrderedDict()
        self._by_address: Counter[str] = Counter()
        self._note: Callable[[str, Any], None] | None = None

    def share(self, name: str, shared: SharedLimits) -> None:
        """Count rooms that are in use at other nodes, too, and tell them of those that are here."""
        self._note = shared.notes(name, self._hear, self._in_use)

    def _hear(self, room: str, address: Any) -> None:
        now = self._clock.monotonic()
        self._forget_unused(now)
        known = self._rooms.get(room)
        if known is not None:
            known.used = known.told = now
            self._rooms.move_to_end(room)
        elif len(self._rooms) < self._maximum:
            self._add(room, str(address), now)

    def _in_use(self) -> Iterator[tuple[str, Any]]:
        self._forget_unused(self._clock.monotonic())
        for room, used in self._rooms.items():
            yield room, used.address

    def use(self, room: str, address: str, maximum_by_address: int) -> None:
        """A client at `address` is about to send into a room.

        Raises:
            TooManyRooms: it is a new one, and there are as many as may be; `retry_after_seconds` if time heals that.
        """
        now, room = self._clock.monotonic(), shared_key(room)
        self._forget_unused(now)
        known = self._rooms.get(room)
        if known is not None:
            known.used = now
            self._rooms.move_to_end(room)
            if self._note is not None and known.told + TELL_SECONDS <= now:
                known.told = now
                self._note(room, known.address)
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
        self._add(room, address, now)
        if self._note is not None:
            self._note(room, address)

    def _add(self, room: str, address: str, now: float) -> None:
        self._rooms[room] = _Room(address, now, now)
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
        wait_seconds = self._buckets.take(shared_key(room))
        if wait_seconds:
            raise RoomRateLimited(
                f"too much is sent into {room[:200]!r}: expected at most {self._rate_per_second:g} messages a second",
                retry_after_seconds=rounded_up(wait_seconds),
            )

    def share(self, name: str, shared: SharedLimits) -> None:
        """Account for what is sent by way of other nodes, too, and have them know what is sent here."""
        self._buckets.share(name, shared)

    def __len__(self) -> int:
        """How many rooms are remembered."""
        return len(self._buckets)
