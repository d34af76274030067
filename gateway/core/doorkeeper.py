"""What is asked of an address before anything is read of what it sends: whether it is refused, and how often it comes.

A connection is judged by who made it. Of a trusted proxy that says nothing: what comes through it is judged by the
address that the proxy names, request by request, by `check` and by each door.
"""

from gateway.core.address_rates import AddressRates
from gateway.core.addresses import TrustedProxies
from gateway.core.clock import Clock
from gateway.core.errors import TidegateError
from gateway.core.limit_errors import TooManyHandshakes
from gateway.core.limits import Limits
from gateway.core.offenders import Offenders

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

    def __init__(self, handshakes: Handshakes, offenders: Offenders, proxies: TrustedProxies) -> None:
        self._handshakes = handshakes
        self._proxies = proxies
        self.offenders = offenders

    def refuses(self, peer: str) -> TidegateError | None:
        """Why a connection that `peer` has just made isn't taken; None if it is."""
        if self._proxies.trusts(peer):
            return None
        try:
            self.offenders.check(peer)
            self._handshakes.check(peer)
        except TidegateError as error:
            return error
        return None
