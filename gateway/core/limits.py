"""How much clients may do: the limits, and rates as token buckets.

Connections are counted in `connections`, rooms in `plain_rooms`; what a role changes is in `role_limits`.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.core.clock import Clock
from gateway.core.errors import MessageTooLarge
from gateway.core.limit_errors import RateLimited
from gateway.core.shared_limits import SharedLimits

__all__ = ["Budget", "Limits", "Spent", "TokenBucket", "TokenBuckets", "rounded_up"]

DEBT_NODES: Final = 8
"""A key owes no more than so many other nodes may have let through within a second."""

Spent: TypeAlias = Callable[[str, float], None]
"""Told of what a key has spent."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all together, may use."""

    connections: int = 10_000
    connections_per_address: int = 100
    connections_per_user: int = 100
    handshakes_per_address_per_second: float = 50
    handshakes_burst: int = 500
    """New connections from one address at once: all clients behind it come back together after a restart."""
    handshake_seconds: float = 10.0
    """How long a new connection has for its first request."""
    header_bytes: int = 64 * 1024
    """A request's line and headers."""
    url_bytes: int = 16 * 1024
    """A request's path and query."""
    idle_seconds: float | None = 600.0
    """How long a WebSocket without a subscription may be silent; None for any time."""
    subscriptions_per_connection: int = 100
    rooms: int = 20_000
    """Rooms without a route that clients have sent into of late, in all."""
    rooms_per_address: int = 1000
    """Those of them that clients of one address brought into use."""
    publishes_per_room_per_second: float = 200
    """What all clients together send into one room."""
    publishes_per_room_burst: int = 400
    message_bytes: int = 64 * 1024
    batch_bytes: int = 1024 * 1024
    """The largest body of many messages."""
    batch_messages: int = 1000
    """How many those may be."""
    messages_per_second: float = 20
    messages_burst: int = 120
    bytes_per_second: int = 256 * 1024
    bytes_burst: int = 512 * 1024
    refusals: int = 10
    """Refused messages in a row, after which the connection is closed."""
    write_buffer_bytes: int = 48 * 1024
    lag_seconds: float = 30.0
    """How long a client may take nothing."""
    requests_in_flight: int = 100
    """Requests of one client that wait for a device's answer."""
    request_timeout_max_seconds: float = 60
    failed_logins: int = 5
    """Wrong passwords of one user from one address before it has to wait."""
    failed_login_delay_seconds: float = 1.0
    """The first wait; each further one is twice as long."""
    failed_login_delay_max_seconds: float = 900.0
    last_values: int = 100_000
    """Last values kept, over all rooms."""
    log_bytes: int = 64 * 1024 * 1024
    """Memory for history and last values."""
    presence_members: int = 100_000
    """Members of rooms with presence, over all of them."""
    presence_members_told: int = 100
    """Members of one room, up to which they are told, and not only how many there are."""
    presence_state_bytes: int = 1024
    """The largest state of a member, as JSON text."""
    bytes_per_second_out: int | None = None
    """Bytes that one session is sent, on the long run; None for any number."""


class TokenBucket:
    """Lets through `rate_per_second` on the long run and `burst` at once."""

    __slots__ = ("_burst", "_clock", "_rate_per_second", "_time", "_tokens")

    def __init__(self, rate_per_second: float, burst: float, clock: Clock) -> None:
        self._rate_per_second = rate_per_second
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._time = clock.monotonic()

    def take(self, amount: float = 1) -> float:
        """Take `amount` and return 0, or take nothing and return the seconds until it would be there.

        More than the burst is let through when the bucket is full: an amount that can never be there would never pass.
        """
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._time) * self._rate_per_second)
        self._time = now
        lacking = min(amount, self._burst) - self._tokens
        if lacking > 1e-9:
            return lacking / self._rate_per_second
        self._tokens -= amount
        return 0.0

    def spend(self, amount: float) -> float:
        """Take `amount` even if it isn't there; the seconds until nothing is owed."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._time) * self._rate_per_second) - amount
        self._time = now
        return max(0.0, -self._tokens) / self._rate_per_second

    def owe(self, amount: float) -> None:
        """Take what was let through elsewhere, whether it is there or not, down to a bound."""
        self.spend(0)
        deepest = min(self._tokens, -DEBT_NODES * (self._burst + self._rate_per_second))
        self._tokens = max(self._tokens - amount, deepest)

    def at(self, rate_per_second: float, burst: float) -> "TokenBucket":
        """Another rate from now on; what was saved up or is owed stays."""
        self.spend(0)
        changed = TokenBucket(rate_per_second, burst, self._clock)
        changed._tokens = min(burst, self._tokens)
        return changed


class TokenBuckets:
    """A bucket for each key. The one that was used least recently is forgotten if there are too many."""

    def __init__(self, rate_per_second: float, burst: float, clock: Clock, capacity: int) -> None:
        self._rate_per_second = rate_per_second
        self._burst = burst
        self._clock = clock
        self._capacity = capacity
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._spent: Spent | None = None

    def share(self, name: str, shared: SharedLimits) -> None:
        """Have other nodes take from their buckets what is taken here, and the other way round."""
        self._spent = shared.rate(name, self._burst, self._burst / self._rate_per_second, self._owe)

    def _owe(self, key: str, amount: float) -> None:
        self._of(key).owe(amount)

    def take(self, key: str) -> float:
        """Take one from a key's bucket and return 0, or take nothing and return the seconds until it would be there."""
        wait_seconds = self._of(key).take()
        if self._spent is not None and not wait_seconds:
            self._spent(key, 1)
        return wait_seconds

    def _of(self, key: str) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate_per_second, self._burst, self._clock)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._buckets)


class Budget:
    """What one client may still send."""

    __slots__ = ("_bytes", "_clock", "_messages", "_refused", "_spent", "limits", "used")

    def __init__(self, limits: Limits, clock: Clock, spent: Callable[[int], None] | None = None) -> None:
        self.limits = limits
        self._spent = spent
        self._clock = clock
        self._messages = TokenBucket(limits.messages_per_second, limits.messages_burst, clock)
        self._bytes = TokenBucket(limits.bytes_per_second, limits.bytes_burst, clock)
        self._refused = 0
        self.used = clock.monotonic()
        """When something was last sent."""

    def change(self, limits: Limits) -> None:
        """Let other limits hold from now on; what was saved up or is owed stays."""
        self._messages = self._messages.at(limits.messages_per_second, limits.messages_burst)
        self._bytes = self._bytes.at(limits.bytes_per_second, limits.bytes_burst)
        self.limits = limits

    def spend(self, size_bytes: int) -> None:
        """Account for a message of this size.

        What is too large costs nothing, since it is never read.

        Raises:
            MessageTooLarge: it is larger than `message_bytes`.
            RateLimited: too many messages or bytes; it says when to try again.
        """
        self.used = self._clock.monotonic()
        if size_bytes > self.limits.message_bytes:
            raise MessageTooLarge(f"{size_bytes} bytes: expected at most {self.limits.message_bytes}")
        limit, wait_seconds = "messages_per_second", self._messages.take()
        if not wait_seconds:
            limit, wait_seconds = "bytes_per_second", self._bytes.take(size_bytes)
        if wait_seconds:
            what = f"{limit.partition('_')[0]}: expected at most {getattr(self.limits, limit):g} a second"
            raise RateLimited(f"too many {what}", retry_after_seconds=rounded_up(wait_seconds), limit=limit)
        if self._spent is not None:
            self._spent(size_bytes)

    def owe(self, messages: float, size_bytes: float) -> None:
        """Account for what was sent by way of other nodes."""
        self._messages.owe(messages)
        self._bytes.owe(size_bytes)

    def accept(self) -> None:
        """A message was let through: the refusals before it are forgotten."""
        self._refused = 0

    def refuse(self) -> bool:
        """A message went over a limit; whether there were so many in a row that the connection is to be closed."""
        self._refused += 1
        return self._refused >= self.limits.refusals


def rounded_up(seconds: float) -> float:
    """To milliseconds, upwards: who waits so long is let through."""
    return -(-seconds * 1000 // 1) / 1000
