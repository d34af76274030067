"""What a cluster has to carry: browsers, rooms, messages, and how unequally browsers choose rooms.

Rooms of much the same popularity are one `Group`, so that a million of them cost no more to look at than a thousand.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

__all__ = ["Group", "Load", "share_with_subscriber"]

EXACT_RANKS: Final = 64
"""The most popular rooms, each of which is a group of its own."""
GROWTH: Final = 1.1
"""How much further each group of the others reaches than the one before it."""


@dataclass(frozen=True)
class Group:
    """Rooms that are alike."""

    rooms: float
    subscribers: float
    """Of each."""
    messages_per_second: float
    """Into each."""


@dataclass(frozen=True)
class Load:
    """What is asked of a cluster."""

    browsers: float = 1_000_000
    rooms_per_browser: int = 5
    messages_per_second: float = 100_000
    """Into all rooms together."""
    rooms: float = 100_000
    popularity: float = 0.0
    """How unequally browsers choose: the room of rank r is chosen in proportion to r to the power of minus this."""
    loudness: float = 0.0
    """How much more is said in popular rooms: 0, as much in each; 1, in proportion to their popularity."""
    payload_bytes: int = 100

    def part(self, parts: int) -> "Load":
        """One of so many equal parts: namespaces with their own rooms and browsers."""
        return replace(
            self,
            browsers=self.browsers / parts,
            messages_per_second=self.messages_per_second / parts,
            rooms=max(1.0, self.rooms / parts),
        )

    @cached_property
    def groups(self) -> Sequence[Group]:
        """All rooms, the most popular first. Nobody subscribes to a room twice, so none has more than all browsers."""
        ranked = [(count, rank**-self.popularity) for count, rank in _ranks(self.rooms)]
        chosen = sum(count * weight for count, weight in ranked)
        said = sum(count * weight**self.loudness for count, weight in ranked)
        subscriptions = self.browsers * self.rooms_per_browser
        return tuple(
            Group(
                count,
                min(self.browsers, subscriptions * weight / chosen),
                self.messages_per_second * weight**self.loudness / said,
            )
            for count, weight in ranked
        )

    @cached_property
    def deliveries_per_second(self) -> float:
        """One message to one browser is one delivery."""
        return sum(group.rooms * group.messages_per_second * group.subscribers for group in self.groups)

    def pushes_per_message(self, nodes: float) -> float:
        """To how many of so many nodes a message goes: those with a subscriber, who are spread at random."""
        return sum(
            group.rooms * group.messages_per_second * nodes * share_with_subscriber(group.subscribers / nodes)
            for group in self.groups
        ) / max(self.messages_per_second, 1e-9)


def share_with_subscriber(expected: float) -> float:
    """How probable it is that a node with so many expected subscribers of a room has any (Poisson)."""
    return -math.expm1(-expected)


def _ranks(rooms: float) -> list[tuple[float, float]]:
    """How many rooms of much the same rank there are, and which rank that is."""
    found, first = [], 1.0
    while first <= rooms:
        after = first + 1 if first <= EXACT_RANKS else min(math.floor(first * GROWTH), rooms + 1)
        after = min(max(after, first + 1e-9), rooms + 1)
        found.append((after - first, math.sqrt(first * max(first, after - 1))))
        first = after
    return found
