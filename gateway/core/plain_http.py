"""What an address may use by HTTP alone, before it is known what it asks of which namespace.

The limits of clients stand behind this: it bounds what asks for nothing of theirs, such as idle connections, pages and
requests that are refused. So it lets through whatever any of them lets through, and as much again.
"""

from collections.abc import Sequence
from typing import Final, Self

from gateway.core.address_rates import AddressRates
from gateway.core.addresses import TrustedProxies, network_of
from gateway.core.clock import Clock
from gateway.core.connections import CONNECTION_RETRY_SECONDS
from gateway.core.limit_errors import RateLimited, TooManyConnections, TooManyConnectionsFromAddress
from gateway.core.offenders import Offenders
from gateway.core.role_limits import RoleLimits
from gateway.core.shared_counts import Counts
from gateway.core.shared_limits import SharedLimits

__all__ = ["HTTP_SHARE", "HttpConnections", "HttpRequests", "Place"]

HTTP_SHARE: Final = 2
"""How many times as many connections may speak HTTP as there may be streams."""


class HttpRequests(AddressRates):
    """How fast requests come from each address."""

    @classmethod
    def within(cls, limits: Sequence[RoleLimits], offenders: Offenders, clock: Clock) -> Self:
        """As fast as new connections may come, besides all messages that any namespace takes over HTTP."""
        general = [each.general for each in limits]
        return cls(
            max(each.handshakes_per_address_per_second for each in general)
            + sum(each.most_messages_per_second for each in limits),
            max(each.handshakes_burst for each in general) + sum(each.most_messages_at_once for each in limits),
            offenders,
            clock,
        )

    def _error(self, network: str, retry_after_seconds: float) -> RateLimited:
        return RateLimited(
            f"too many requests from {network}: expected at most {self.rate_per_second:g} a second",
            retry_after_seconds=retry_after_seconds,
            limit="messages_per_second",
        )


class HttpConnections:
    """Connections that speak HTTP, event streams among them; a WebSocket is none any more."""

    def __init__(self, most: int, most_per_address: int, proxies: TrustedProxies) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._proxies = proxies
        self._total = 0
        self._by_network = Counts()

    def share(self, name: str, shared: SharedLimits) -> None:
        """Count those of an address to other nodes, too."""
        self._by_network.share(name, self._most_per_address, shared)

    @classmethod
    def within(cls, limits: Sequence[RoleLimits], proxies: TrustedProxies) -> Self:
        """`HTTP_SHARE` times as many as there may be streams in all namespaces.

        Those of trusted proxies count in all only.
        """
        return cls(
            HTTP_SHARE * sum(each.general.connections for each in limits),
            HTTP_SHARE * sum(each.most_connections_per_address for each in limits),
            proxies,
        )

    def enter(self, peer: str) -> "Place":
        """Count one more, made by `peer`.

        Raises:
            TooManyConnections, TooManyConnectionsFromAddress: it isn't taken.
        """
        if self._total >= self._most:
            raise TooManyConnections(
                f"too many connections: expected at most {self._most} over HTTP",
                retry_after_seconds=CONNECTION_RETRY_SECONDS,
            )
        network = network_of(peer)
        if self._by_network[network] >= self._most_per_address and not self._proxies.trusts(peer):
            raise TooManyConnectionsFromAddress(
                f"too many connections from {network}: expected at most {self._most_per_address} over HTTP",
                retry_after_seconds=CONNECTION_RETRY_SECONDS,
            )
        self._total += 1
        self._by_network.add(network)
        return Place(self, network)

    def leave(self, network: str) -> None:
        """See `Place.free`."""
        self._total -= 1
        self._by_network.remove(network)

    def __len__(self) -> int:
        """How many there are."""
        return self._total


class Place:
    """What one connection counts for, from when it is taken until it ends or speaks HTTP no more."""

    __slots__ = ("_connections", "_network")

    def __init__(self, connections: HttpConnections, network: str) -> None:
        self._connections: HttpConnections | None = connections
        self._network = network

    def free(self) -> None:
        """Count it no more. Only the first call counts."""
        connections, self._connections = self._connections, None
        if connections is not None:
            connections.leave(self._network)
