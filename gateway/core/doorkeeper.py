"""What is asked of an address before anything is read of what it sends: whether it is refused, and how often it comes.

A connection is judged by who made it. Of a trusted proxy that says nothing: what comes through it is judged by the
address that the proxy names, request by request, by `check` and by each door.
"""

from gateway.core.address_rates import AddressRates
from gateway.core.addresses import TrustedProxies
from gateway.core.clock import Clock
from gateway.core.limit_errors import TooManyHandshakes
from gateway.core.limits import Limits
from gateway.core.offenders import Offenders
from gateway.core.plain_http import HttpConnections, Place
from gateway.core.shared_limits import SharedLimits

__all__ = ["Doorkeeper", "Handshakes"]


class Handshakes(AddressRates):
    """How fast new connections come from each address."""

    def __init__(self, limits: Limits, offenders: Offenders, clock: Clock, capacity: int = 10_000) -> None:
        super().__init__(limits.handshakes_per_address_per_second, limits.handshakes_burst, offenders, clock, capacity)

    def _error(self, network: str, retry_after_seconds: float) -> TooManyHandshakes:
        return TooManyHandshakes(
            f"too many new connections from {network}: expected at most {self.rate_per_second:g} a second",
            retry_after_seconds=retry_after_seconds,
        )


class Doorkeeper:
    """Stands before all namespaces."""

    def __init__(
        self, handshakes: Handshakes, offenders: Offenders, proxies: TrustedProxies, connections: HttpConnections
    ) -> None:
        self._handshakes = handshakes
        self._proxies = proxies
        self._connections = connections
        self.offenders = offenders

    def share(self, shared: SharedLimits) -> None:
        """Judge addresses together with other nodes."""
        self._handshakes.share("handshakes", shared)
        self._connections.share("http_connections", shared)
        self.offenders.share(shared)

    def admit(self, peer: str) -> Place:
        """Take a connection that `peer` has just made.

        Raises:
            AddressRefused, TooManyHandshakes, TooManyConnections, TooManyConnectionsFromAddress: it isn't taken.
        """
        if not self._proxies.trusts(peer):
            self.offenders.check(peer)
            self._handshakes.check(peer)
        return self._connections.enter(peer)
