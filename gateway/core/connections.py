"""How many connections there are: in all, per address, and per user as soon as it is known who somebody is."""

from collections.abc import Callable
from typing import Final, Self

from gateway.core.identity import Identity
from gateway.core.limit_errors import TooManyConnections, TooManyConnectionsFromAddress, TooManyConnectionsOfUser
from gateway.core.role_limits import RoleLimits
from gateway.core.shared_counts import Counts
from gateway.core.shared_limits import SharedLimits, shared_key

__all__ = ["ConnectionLimiter", "Seat"]

CONNECTION_RETRY_SECONDS: Final = 5.0
"""When to try again after too many connections: nobody knows when one ends."""


def _nothing() -> None:
    pass


class Seat:
    """What one connection holds: it counts in all, for its address, and for its user. `free` gives all of it back."""

    __slots__ = ("_limiter", "address", "most_of_address", "offend", "user")

    def __init__(self, limiter: "ConnectionLimiter", address: str, offend: Callable[[], None]) -> None:
        self._limiter: ConnectionLimiter | None = limiter
        self.address = address
        self.user: str | None = None
        """The user that it counts for, as limits count users."""
        self.most_of_address: int | None = None
        """How many it may be one of from its address, as was checked last: who comes later doesn't count then."""
        self.offend = offend
        """To be called when the connection is ended for what its client did."""

    def identify(self, identity: Identity | None) -> None:
        """Count for its user, and hold it to the limits of who it is. A user once counted stays that.

        Raises:
            TooManyConnectionsFromAddress: there are more than it may have, this one included.
            TooManyConnectionsOfUser: there would be too many; nothing has changed then.
        """
        if self._limiter is not None:
            self._limiter.identify(self, identity)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def free(self) -> None:
        """Give all of it back. Only the first call counts."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.release(self)


class ConnectionLimiter:
    """Counts the connections of a namespace."""

    __slots__ = ("_by_address", "_by_user", "_limits", "_total")

    def __init__(self, limits: RoleLimits) -> None:
        self._limits = limits
        self._total = 0
        self._by_address = Counts()
        self._by_user = Counts()

    def share(self, name: str, shared: SharedLimits) -> None:
        """Count connections to other nodes, too, but in all: how many a node can have is its own."""
        self._by_address.share(f"{name}/addresses", self._limits.least("connections_per_address"), shared)
        self._by_user.share(f"{name}/users", self._limits.least("connections_per_user"), shared)

    def acquire(self, address: str, offend: Callable[[], None] = _nothing) -> Seat:
        """Count one more connection from `address`, of somebody who isn't known yet.

        Raises:
            TooManyConnections: there are too many in all.
            TooManyConnectionsFromAddress: there are more from this address than anybody may have.
        """
        most = self._limits.general.connections
        if self._total >= most:
            raise TooManyConnections(
                f"too many connections: expected at most {most}", retry_after_seconds=CONNECTION_RETRY_SECONDS
            )
        most = self._limits.most_connections_per_address
        if self._by_address[address] >= most:
            raise _too_many_from(address, most)
        self._total += 1
        self._by_address.add(address)
        return Seat(self, address, offend)

    def identify(self, seat: Seat, identity: Identity | None) -> None:
        """See `Seat.identify`."""
        limits = self._limits.of(identity)
        most = limits.connections_per_address
        if seat.most_of_address != most and self._by_address[seat.address] > most:
            raise _too_many_from(seat.address, most)
        seat.most_of_address = most
        user = None if identity is None else identity.user
        if user is None or seat.user is not None:
            return
        key = shared_key(user)
        if self._by_user[key] >= limits.connections_per_user:
            raise TooManyConnectionsOfUser(
                f"too many connections of {user!r}: expected at most {limits.connections_per_user}",
                retry_after_seconds=CONNECTION_RETRY_SECONDS,
            )
        self._by_user.add(key)
        seat.user = key

    def release(self, seat: Seat) -> None:
        """See `Seat.free`."""
        self._total -= 1
        self._by_address.remove(seat.address)
        if seat.user is not None:
            self._by_user.remove(seat.user)

    def __len__(self) -> int:
        """How many addresses and users are counted."""
        return len(self._by_address) + len(self._by_user)


def _too_many_from(address: str, most: int) -> TooManyConnectionsFromAddress:
    return TooManyConnectionsFromAddress(
        f"too many connections from {address}: expected at most {most}",
        retry_after_seconds=CONNECTION_RETRY_SECONDS,
    )
