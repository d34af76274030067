"""Clients of MQTT by their identifiers: who is connected, and what is kept of who isn't (MQTT 5 §4.1).

A client is known by its user and its client identifier together: nobody takes over, or comes back to, what is another
user's. What is kept are subscriptions and a place in the sequence, never messages; the log has those.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from bridges.mqtt_websocket_sink import Held, Sent
from gateway.core.clock import Clock, Timer
from gateway.core.counters import Counters
from gateway.core.message import Cursor
from gateway.core.wheel import Wheel

__all__ = ["Bequest", "ClientSessions", "Kept", "Key", "Live"]

Key: TypeAlias = tuple[str | None, str]
"""A user, or None for anybody, and a client identifier."""

MAXIMUM_OF_ONE: Final = 100
"""Sessions that are kept, and wills that wait, for one user, or for one address's clients without a user."""
MAXIMUM_WILLS: Final = 10_000
"""Wills that may wait."""
MAXIMUM_WILL_BYTES: Final = 16 * 1024 * 1024
"""Of all of those."""


@dataclass(slots=True)
class Kept:
    """What is kept of a client that is away."""

    held: Mapping[str, Held]
    cursor: Cursor
    """Up to there it was told all, and has acknowledged what was to be."""
    untold: frozenset[str] = frozenset()
    """Rooms whose last values it wasn't all told."""
    unacknowledged: Mapping[int, Sent] = field(default_factory=dict)
    """What it hasn't acknowledged, by packet identifiers."""
    unsent: tuple[Sent, ...] = ()
    """Last values that waited for that."""
    unreleased: Sequence[int] = ()
    """Packet identifiers of messages of QoS 2 that it has sent and not released."""
    owner: str = ""
    """Whom it counts for."""


@dataclass(frozen=True, slots=True)
class Bequest:
    """A will, as far as it may have to wait."""

    publish: Callable[[], None]
    size_bytes: int
    owner: str
    """Whom it counts for."""


class Live(Protocol):
    """A client's connection."""

    def taken_over(self) -> None:
        """Another connection of the same client has come."""
        ...


class ClientSessions:
    """The clients of one namespace.

    Args:
        maximum: How many are kept that are away; beyond, those who are away longest are forgotten.
    """

    def __init__(self, maximum: int, clock: Clock, counters: Counters) -> None:
        self._maximum = maximum
        self._clock = clock
        self._counters = counters
        self._live: dict[Key, Live] = {}
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._owned: Counter[str] = Counter()
        self._expiry: Wheel[Key] = Wheel(clock, self._expire)
        self._wills: dict[Key, tuple[Timer, Bequest]] = {}
        self._will_bytes = 0
        self._wills_of: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many are kept that are away."""
        return len(self._kept)

    def arrive(self, key: Key, client: Live, *, clean: bool) -> Kept | None:
        """A client has come: another connection of it ends; what was kept of it, unless it begins anew."""
        before = self._live.get(key)
        if before is not None:
            before.taken_over()
        self._live[key] = client
        self._revoke(key)
        kept = self._forget(key)
        return None if clean else kept

    def leave(self, key: Key, client: Live, kept: Kept | None, seconds: float) -> None:
        """A client's connection has ended; what is to be kept of it, for so long."""
        if self._live.get(key) is client:
            del self._live[key]
        if kept is None or seconds <= 0:
            return
        self._forget(key)
        self._kept[key] = kept
        self._owned[kept.owner] += 1
        self._expiry.add(key, seconds)
        if self._owned[kept.owner] > MAXIMUM_OF_ONE:
            self._drop(next(other for other, each in self._kept.items() if each.owner == kept.owner))
        elif len(self._kept) > self._maximum:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Key) -> None:
        self._forget(key)
        self._counters.drops["mqtt_session"] += 1

    def _forget(self, key: Key) -> Kept | None:
        kept = self._kept.pop(key, None)
        self._expiry.discard(key)
        if kept is not None:
            self._owned[kept.owner] -= 1
            if not self._owned[kept.owner]:
                del self._owned[kept.owner]
        return kept

    def _expire(self, key: Key) -> None:
        self._forget(key)

    def bequeath(self, key: Key, will: Bequest, delay_seconds: float) -> None:
        """Publish a client's will, after a delay unless it comes back before (MQTT 5 §3.1.3.2.2).

        At once, if as many wait as may: a will that comes early is better than one that never comes.
        """

        def due() -> None:
            self._revoke(key)
            will.publish()

        if delay_seconds <= 0 or not self._has_place(will):
            self._clock.call_later(0, will.publish)
            return
        self._revoke(key)
        self._wills[key] = self._clock.call_later(delay_seconds, due), will
        self._will_bytes += will.size_bytes
        self._wills_of[will.owner] += 1

    def _has_place(self, will: Bequest) -> bool:
        return (
            len(self._wills) < MAXIMUM_WILLS
            and self._will_bytes + will.size_bytes <= MAXIMUM_WILL_BYTES
            and self._wills_of[will.owner] < MAXIMUM_OF_ONE
        )

    def _revoke(self, key: Key) -> None:
        """Let a will that waits wait no more."""
        timer, will = self._wills.pop(key, (None, None))
        if timer is None or will is None:
            return
        timer.cancel()
        self._will_bytes -= will.size_bytes
        self._wills_of[will.owner] -= 1
        if not self._wills_of[will.owner]:
            del self._wills_of[will.owner]
