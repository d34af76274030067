"""What an address may use by HTTP alone, before it is known what it asks of which namespace.

The limits of clients stand behind this: it bounds what asks for nothing of theirs, such as idle connections, pages and
requests that are refused. So it lets through whatever any of them lets through, and as much again.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Self

from gateway.core.address_rates import AddressRates
from gateway.core.addresses import TrustedProxies, network_of
from gateway.core.clock import Clock
from gateway.core.connections import CONNECTION_RETRY_SECONDS
from gateway.core.errors import TidegateError
from gateway.core.limit_errors import RateLimited, TooManyConnections, TooManyConnectionsFromAddress
from gateway.core.offenders import Offenders
from gateway.core.role_limits import RoleLimits

__all__ = ["HttpConnections", "HttpRequests"]


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
        self._by_network: Counter[str] = Counter()

    @classmethod
    def within(cls, limits: Sequence[RoleLimits], proxies: TrustedProxies) -> Self:
        """Twice as many as there may be streams in all namespaces. Those of trusted proxies count in all only."""
        return cls(
            2 * sum(each.general.connections for each in limits),
            2 * sum(each.most_connections_per_address for each in limits),
            proxies,
        )

    def enter(self, peer: str) -> TidegateError | None:
        """Count one more, made by `peer`; or why it isn't taken."""
        if self._total >= self._most:
            return TooManyConnections(
                f"too many connections: expected at most {self._most} over HTTP",
                retry_after_seconds=CONNECTION_RETRY_SECONDS,
            )
        network = network_of(peer)
        if self._by_network[network] >= self._most_per_address and not self._proxies.trusts(peer):
            return TooManyConnectionsFromAddress(
                f"too many connections from {network}: expected at most {self._most_per_address} over HTTP",
                retry_after_seconds=CONNECTION_RETRY_SECONDS,
            )
        self._total += 1
        self._by_network[network] += 1
        return None

    def leave(self, peer: str) -> None:
        """One that was counted has ended, or speaks HTTP no more."""
        self._total -= 1
        network = network_of(peer)
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]

    def __len__(self) -> int:
        """How many there are."""
        return self._total
