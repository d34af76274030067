"""What each key spends of a rate, told to other nodes: all take it from their own buckets, and so all have one.

Only what is worth telling is: a share of the burst that, however many nodes keep it to themselves, adds up to a quarter
of it. Less is kept until it is so much, or until the key has spent nothing for so long that its bucket is full again.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from heapq import nlargest
from typing import Any, Final

from gateway.core.clock import Clock

__all__ = ["UNTOLD_SHARE", "SharedRate"]

UNTOLD_SHARE: Final = 4
"""All nodes together keep less than a part of this size of the burst to themselves."""


class SharedRate:
    """A `Share` for amounts that are spent.

    Args:
        burst: What one key may spend at once.
        settled_seconds: After so long without spending, nothing that it spent matters any more.
        owe: Takes what a key has spent elsewhere; less than 0 if it was given back there.
        capacity: How many keys may have spent what isn't told yet; beyond, the one that did so longest ago isn't told.
    """

    def __init__(
        self,
        burst: float,
        settled_seconds: float,
        owe: Callable[[str, float], None],
        clock: Clock,
        capacity: int = 10_000,
    ) -> None:
        self.dropped = 0
        self._burst = burst
        self._settled_seconds = settled_seconds
        self._owe = owe
        self._clock = clock
        self._capacity = capacity
        self._untold: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """How much, and when the last of it was spent; in that order."""

    def spend(self, key: str, amount: float) -> None:
        """A key has spent so much here; less than 0 if it was given back."""
        before = self._untold.pop(key, None)
        if before is not None:
            amount += before[0]
        if not amount:
            return
        self._untold[key] = (amount, self._clock.monotonic())
        if len(self._untold) > self._capacity:
            self._untold.popitem(last=False)
            self.dropped += 1

    def report(self, most: int, nodes: int) -> dict[str, Any]:
        """See `Share`."""
        least = self._burst / (UNTOLD_SHARE * nodes)
        worth = [key for key, (amount, _) in self._untold.items() if abs(amount) >= least]
        if len(worth) > most:
            worth = nlargest(most, worth, key=lambda key: abs(self._untold[key][0]))
        told = {key: self._untold.pop(key)[0] for key in worth}
        settled = self._clock.monotonic() - self._settled_seconds
        while self._untold and next(iter(self._untold.values()))[1] <= settled:
            self._untold.popitem(last=False)
        return told

    def hear(self, node: str, told: Mapping[str, Any]) -> None:  # noqa: ARG002 - who spent it is no matter
        """See `Share`."""
        for key, amount in told.items():
            self._owe(key, float(amount))

    def retell(self) -> None:
        """Nothing: what was spent matters for a few seconds."""

    def forget(self, node: str) -> None:
        """Nothing: what it has spent is spent."""
