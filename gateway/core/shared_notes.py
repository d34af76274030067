"""What is so from now on, told to other nodes once, and again to those that come: such as which address is refused."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

__all__ = ["SharedNotes"]


class SharedNotes:
    """A `Share` for news, of which the latest of a key counts.

    Args:
        hear: Takes one from another node.
        known: All that holds still, for those who come.
        capacity: How many may wait to be told; beyond, the oldest isn't told.
    """

    def __init__(
        self, hear: Callable[[str, Any], None], known: Callable[[], Iterable[tuple[str, Any]]], capacity: int = 50_000
    ) -> None:
        self.dropped = 0
        self._hear = hear
        self._known = known
        self._capacity = capacity
        self._untold: dict[str, Any] = {}

    def note(self, key: str, value: Any) -> None:
        """It is so from now on."""
        self._untold.pop(key, None)
        self._untold[key] = value
        if len(self._untold) > self._capacity:
            del self._untold[next(iter(self._untold))]
            self.dropped += 1

    def report(self, most: int, nodes: int) -> dict[str, Any]:  # noqa: ARG002 - each is worth telling
        """See `Share`."""
        return {key: self._untold.pop(key) for key in tuple(islice(self._untold, most))}

    def hear(self, node: str, told: Mapping[str, Any]) -> None:  # noqa: ARG002 - who says so is no matter
        """See `Share`."""
        for key, value in told.items():
            self._hear(key, value)

    def retell(self) -> None:
        """See `Share`."""
        for key, value in self._known():
            self.note(key, value)

    def forget(self, node: str) -> None:
        """Nothing: what it said holds."""
