"""How often each address may do something: what is done most often needs a place for each one that does it."""

from abc import ABC, abstractmethod
from collections import OrderedDict

from gateway.core.addresses import network_of
from gateway.core.clock import Clock
from gateway.core.errors import TidegateError
from gateway.core.limits import TokenBucket, rounded_up
from gateway.core.offenders import REFUSED, Offenders

__all__ = ["AddressRates"]


class AddressRates(ABC):
    """A rate and a burst for each address, of IPv6 for each /64. The one that came least recently is forgotten."""

    def __init__(
        self, rate_per_second: float, burst: float, offenders: Offenders, clock: Clock, capacity: int = 10_000
    ) -> None:
        self.rate_per_second = rate_per_second
        self.burst = burst
        self._offenders = offenders
        self._clock = clock
        self._capacity = capacity
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    @abstractmethod
    def _error(self, network: str, retry_after_seconds: float) -> TidegateError:
        """Why one more is refused."""

    def check(self, address: str) -> None:
        """Count one more.

        Raises:
            TidegateError: they come too fast; it says when to try again.
        """
        network = network_of(address)
        bucket = self._buckets.get(network)
        if bucket is None:
            bucket = self._buckets[network] = TokenBucket(self.rate_per_second, self.burst, self._clock)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(network)
        wait_seconds = bucket.take()
        if wait_seconds:
            self._offenders.offend(address, REFUSED)
            raise self._error(network, rounded_up(wait_seconds))

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._buckets)
