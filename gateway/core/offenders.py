"""Addresses whose clients go over limits again and again: they are refused for a while, each time for longer.

An address collects offences, which are forgotten at a steady rate. One more than may be, and nothing is taken from it
for `refuse_seconds`, the next time for twice as long, up to `refuse_max_seconds`; one that behaves for that long
afterwards begins anew. What comes while it is refused is no further offence: who shares the address may not know why.
Nodes count offences together, and what one refuses, all do.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.addresses import Network, TrustedProxies, network_of
from gateway.core.clock import Clock
from gateway.core.limit_errors import AddressRefused
from gateway.core.limits import Spent, TokenBucket, rounded_up
from gateway.core.shared_limits import SharedLimits

__all__ = ["CLOSED", "REFUSED", "OffenceBounds", "Offenders"]

logger = logging.getLogger(__name__)

CLOSED: Final = 1.0
"""What it weighs that a connection had to be closed."""
REFUSED: Final = 0.1
"""What it weighs that a client goes on with what is refused, such as new connections; a flood of that adds up."""
DOUBLINGS: Final = 40


@dataclass(frozen=True, slots=True)
class OffenceBounds:
    """How much is put up with, and what then."""

    offences: int | None = 100
    """None: nobody is refused for what came before."""
    window_seconds: float = 60.0
    """In so many seconds as many offences are forgotten as may be."""
    refuse_seconds: float = 10.0
    refuse_max_seconds: float = 3600.0


@dataclass(slots=True)
class _Record:
    bucket: TokenBucket
    times: int = 0
    """How often it was refused already."""
    until: float = 0.0
    """Up to when it is refused, by the clock."""


class Offenders:
    """Who is refused. The address that offended least recently is forgotten if there are too many.

    Args:
        exempt: Networks that are never refused, such as those of trusted proxies, who speak for others.
    """

    def __init__(
        self, bounds: OffenceBounds, clock: Clock, exempt: Iterable[Network] = (), capacity: int = 10_000
    ) -> None:
        self._bounds = bounds
        self._clock = clock
        self._exempt = TrustedProxies(exempt)
        self._capacity = capacity
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._complaints = TokenBucket(0.1, 5, clock)
        self._offended: Spent | None = None
        self._note: Callable[[str, Any], None] | None = None
        self.refusals = 0
        """How often an address came to be refused, by what this node knew."""

    def share(self, shared: SharedLimits) -> None:
        """Judge together with other nodes."""
        if self._bounds.offences is not None:
            self._offended = shared.rate("offences", self._bounds.offences, self._bounds.window_seconds, self._hear)
            self._note = shared.notes("refused", self._hear_refused, self._all_refused)

    def _hear(self, network: str, weight: float) -> None:
        """An address has offended another node; should that be one too many, the next offence is judged by it."""
        if self._bounds.offences is not None and not self._exempt.trusts(_address_of(network)):
            record = self._records.get(network) or self._add(network, self._bounds.offences)
            if self._clock.monotonic() >= record.until:
                record.bucket.owe(weight)

    def _hear_refused(self, network: str, told: Any) -> None:
        seconds, times = told
        if self._bounds.offences is None or self._exempt.trusts(_address_of(network)):
            return
        record = self._records.get(network) or self._add(network, self._bounds.offences)
        record.times = max(record.times, int(times))
        until = self._clock.monotonic() + min(float(seconds), self._bounds.refuse_max_seconds)
        if until > record.until:
            record.until = until
            record.bucket = self._bucket(self._bounds.offences)

    def _all_refused(self) -> Iterator[tuple[str, Any]]:
        now = self._clock.monotonic()
        for network, record in self._records.items():
            if record.until > now:
                yield network, (record.until - now, record.times)

    def offend(self, address: str, weight: float = CLOSED) -> None:
        """A client there went over a limit in a way that no client does which heeds what it is told."""
        if self._bounds.offences is None or self._exempt.trusts(address):
            return
        network, now = network_of(address), self._clock.monotonic()
        record = self._records.get(network) or self._add(network, self._bounds.offences)
        self._records.move_to_end(network)
        if now < record.until:
            return
        if now >= record.until + self._bounds.refuse_max_seconds:
            record.times = 0
        if record.bucket.take(weight):
            self._refuse(network, record, now, self._bounds.offences)
        elif self._offended is not None:
            self._offended(network, weight)

    def _add(self, network: str, offences: int) -> _Record:
        record = self._records[network] = _Record(self._bucket(offences))
        if len(self._records) > self._capacity:
            self._records.popitem(last=False)
        return record

    def _bucket(self, offences: int) -> TokenBucket:
        return TokenBucket(offences / self._bounds.window_seconds, offences, self._clock)

    def _refuse(self, network: str, record: _Record, now: float, offences: int) -> None:
        seconds = self._bounds.refuse_seconds * 2 ** min(record.times, DOUBLINGS)
        seconds = min(seconds, self._bounds.refuse_max_seconds)
        record.times += 1
        record.until = now + seconds
        record.bucket = self._bucket(offences)
        self.refusals += 1
        if self._note is not None:
            self._note(network, (seconds, record.times))
        if not self._complaints.take():
            logger.warning("%s is refused for %g s: its clients went over limits too often", network, seconds)

    def refused_for(self, address: str) -> float:
        """How many seconds nothing is taken from an address; 0 if it isn't refused."""
        record = self._records.get(network_of(address)) if self._records else None
        return 0.0 if record is None else max(0.0, record.until - self._clock.monotonic())

    def check(self, address: str) -> None:
        """Check that an address isn't refused.

        Raises:
            AddressRefused: it is; it says for how long.
        """
        wait_seconds = self.refused_for(address)
        if wait_seconds:
            raise AddressRefused(
                "connections from this address went over limits too often: expected none for a while",
                retry_after_seconds=rounded_up(wait_seconds),
            )

    @property
    def refused(self) -> int:
        """How many addresses are refused now."""
        now = self._clock.monotonic()
        return sum(record.until > now for record in self._records.values())

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._records)


def _address_of(network: str) -> str:
    return network.partition("/")[0]
