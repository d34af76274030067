"""What is asked of an address before anything is read of what it sends: whether it is refused, and how often it comes.

A connection is judged by who made it. Of a trusted proxy that says nothing: what comes through it is judged by the
address that the proxy names, request by request, by `check` and by each door.
"""

from collections import OrderedDict

from gateway.core.addresses import TrustedProxies, network_of
from gateway.core.clock import Clock
from gateway.core.errors import TidegateError
from gateway.core.limit_errors import TooManyHandshakes
from gateway.core.limits import Limits, TokenBucket, rounded_up
from gateway.core.offenders import REFUSED, Offenders

__all__ = ["Doorkeeper", "Handshakes"]


class Handshakes:
    """How fast new connections come from each address. The one that came least recently is forgotten."""

    def __init__(self, limits: Limits, offenders: Offenders, clock: Clock, capacity: int = 10_000) -> None:
        self._rate_per_second = limits.handshakes_per_address_per_second
        self._burst = limits.handshakes_burst
        self._offenders = offenders
        self._clock = clock
        self._capacity = capacity
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def check(self, address: str) -> None:
        """Count one more.

        Raises:
            TooManyHandshakes: they come too fast; it says when to try again.
        """
        network = network_of(address)
        bucket = self._buckets.get(network)
        if bucket is None:
            bucket = self._buckets[network] = TokenBucket(self._rate_per_second, self._burst, self._clock)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(network)
        wait_seconds = bucket.take()
        if wait_seconds:
            self._offenders.offend(address, REFUSED)
            raise TooManyHandshakes(
                f"too many new connections from {network}: expected at most {self._rate_per_second:g} a second",
                retry_after_seconds=rounded_up(wait_seconds),
            )

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._buckets)


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
