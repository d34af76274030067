"""Which channels bring a node the rooms that are in use on it: a room's own, or that of a tree of rooms.

Each message is published to its room's channel and to those of the trees that it is in, down to three levels. A pattern
is a tree, that of the levels before its first wildcard. What a tree brings needs no channel of its own. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.core.topics import has_wildcard

__all__ = ["Change", "Channels"]

DEPTH: Final = 3
"""How many levels the name of a tree has at most."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done, in this order, so that nothing is missed."""

    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()


class Channels:
    """The channels of one node."""

    def __init__(self) -> None:
        self._wanted: Counter[str] = Counter()
        self._within: dict[str, dict[str, None]] = {}
        """The channels that are wanted and in a tree, by tree: a node has very many rooms."""
        self._subscribed: set[str] = set()

    def __len__(self) -> int:
        """How many channels the node is subscribed to."""
        return len(self._subscribed)

    def watch(self, room_filter: str) -> Change:
        """Somebody wants a room, or all that a filter matches."""
        channel = _channel(room_filter)
        self._wanted[channel] += 1
        if self._wanted[channel] > 1:
            return Change()
        for tree in _trees_over(channel):
            self._within.setdefault(tree, {})[channel] = None
        if self._is_covered(channel):
            return Change()
        covered = tuple(each for each in self._within.get(channel, ()) if each in self._subscribed)
        self._subscribed.difference_update(covered)
        self._subscribed.add(channel)
        return Change((channel,), covered)

    def unwatch(self, room_filter: str) -> Change:
        """Somebody wants it no more."""
        channel = _channel(room_filter)
        self._wanted[channel] -= 1
        if self._wanted[channel]:
            return Change()
        del self._wanted[channel]
        for tree in _trees_over(channel):
            del self._within[tree][channel]
            if not self._within[tree]:
                del self._within[tree]
        if channel not in self._subscribed:
            return Change()
        self._subscribed.remove(channel)
        return Change(tuple(self._uncovered(self._within.get(channel, ()))), (channel,))

    def _uncovered(self, channels: Iterable[str]) -> Iterator[str]:
        for channel in sorted(channels, key=len):  # trees before what is in them
            if channel not in self._subscribed and not self._is_covered(channel):
                self._subscribed.add(channel)
                yield channel

    def _is_covered(self, channel: str) -> bool:
        return any(tree in self._subscribed for tree in _trees_over(channel))


def _channel(room_filter: str) -> str:
    if not has_wildcard(room_filter):
        return f"room:{room_filter}"
    literal: list[str] = []
    for level in room_filter.split("/")[:DEPTH]:
        if level in ("+", "#"):
            break
        literal.append(level)
    return f"tree:{'/'.join(literal)}"


def _trees_over(channel: str) -> set[str]:
    """The trees that bring what a channel does, and more."""
    levels = channel.partition(":")[2].split("/")
    return {"tree:" + "/".join(levels[:depth]) for depth in range(min(DEPTH, len(levels)) + 1)} - {channel}
