"""How many there are of something by key, here and at other nodes: such as connections of each address.

Each node tells how many it has; what it told is forgotten when it is gone. As of rates, only what is worth telling is.
"""

from collections import Counter
from collections.abc import Mapping
from heapq import nlargest
from typing import Any

from gateway.core.shared_limits import SharedLimits
from gateway.core.shared_rates import UNTOLD_SHARE

__all__ = ["Counts"]


class Counts:
    """Numbers by key; a `Share` once others are told of them.

    Args:
        capacity: How many keys are known of each other node.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self.dropped = 0
        self._capacity = capacity
        self._here: Counter[str] = Counter()
        self._elsewhere: Counter[str] = Counter()
        self._by_node: dict[str, dict[str, int]] = {}
        self._shared = False
        self._most = 0
        self._told: dict[str, int] = {}
        self._changed: dict[str, None] = {}
        """Keys whose number may not be what was told."""

    def __getitem__(self, key: str) -> int:
        """How many there are, everywhere."""
        return self._here[key] + self._elsewhere[key]

    def __len__(self) -> int:
        """How many keys have any here."""
        return len(self._here)

    def add(self, key: str) -> None:
        """One more is here."""
        self._here[key] += 1
        if self._shared:
            self._changed[key] = None

    def remove(self, key: str) -> None:
        """One less is here."""
        self._here[key] -= 1
        if not self._here[key]:
            del self._here[key]
        if self._shared:
            self._changed[key] = None

    def share(self, name: str, most: int, shared: SharedLimits) -> None:
        """Have other nodes know, and know of theirs; `most` is what the least may have who has a limit."""
        self._shared, self._most = True, most
        self._changed.update(dict.fromkeys(self._here))
        shared.add(name, self)

    def report(self, most: int, nodes: int) -> dict[str, Any]:
        """See `Share`."""
        least = max(1, self._most // (UNTOLD_SHARE * nodes))
        differing = {}
        for key in self._changed:
            here = self._here[key] if self._here[key] >= least else 0
            if here != self._told.get(key, 0):
                differing[key] = here
        if len(differing) > most:
            chosen = set(nlargest(most, differing, key=lambda key: abs(differing[key] - self._told.get(key, 0))))
            self._changed = {key: None for key in differing if key not in chosen}
            differing = {key: differing[key] for key in chosen}
        else:
            self._changed.clear()
        self._told.update(differing)
        for key in [key for key, here in differing.items() if not here]:
            del self._told[key]
        return differing

    def hear(self, node: str, told: Mapping[str, Any]) -> None:
        """See `Share`."""
        of_node = self._by_node.setdefault(node, {})
        for key, value in told.items():
            number = max(0, int(value))
            before = of_node.pop(key, 0)
            if number and len(of_node) >= self._capacity:
                self.dropped += 1
                number = 0
            if number:
                of_node[key] = number
            self._shift(key, number - before)

    def retell(self) -> None:
        """See `Share`."""
        self._told = dict.fromkeys(self._told, -1)  # of what others know, what isn't so any more is told, too
        self._changed.update(dict.fromkeys((*self._told, *self._here)))

    def forget(self, node: str) -> None:
        """See `Share`."""
        for key, number in self._by_node.pop(node, {}).items():
            self._shift(key, -number)

    def _shift(self, key: str, difference: int) -> None:
        self._elsewhere[key] += difference
        if not self._elsewhere[key]:
            del self._elsewhere[key]
