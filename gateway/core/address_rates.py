"""How often each address may do something: what is done most often needs a place for each one that does it."""

from abc import ABC, abstractmethod

from gateway.core.addresses import network_of
from gateway.core.clock import Clock
from gateway.core.errors import TidegateError
from gateway.core.limits import TokenBuckets, rounded_up
from gateway.core.offenders import REFUSED, Offenders
from gateway.core.shared_limits import SharedLimits

__all__ = ["AddressRates"]


class AddressRates(ABC):
    """A rate and a burst for each address, of IPv6 for each /64. The one that came least recently is forgotten."""

    def __init__(
        self, rate_per_second: float, burst: float, offenders: Offenders, clock: Clock, capacity: int = 10_000
    ) -> None:
        self.rate_per_second = rate_per_second
        self.burst = burst
        self._offenders = offenders
        self._buckets = TokenBuckets(rate_per_second, burst, clock, capacity)

    @abstractmethod
    def _error(self, network: str, retry_after_seconds: float) -> TidegateError:
        """Why one more is refused."""

    def check(self, address: str) -> None:
        """Count one more.

        Raises:
            TidegateError: they come too fast; it says when to try again.
        """
        network = network_of(address)
        wait_seconds = self._buckets.take(network)
        if wait_seconds:
            self._offenders.offend(address, REFUSED)
            raise self._error(network, rounded_up(wait_seconds))

    def share(self, name: str, shared: SharedLimits) -> None:
        """Count what comes to other nodes, too, and have them count what comes here."""
        self._buckets.share(name, shared)

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._buckets)
