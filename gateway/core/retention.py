"""What a room remembers of its messages, and which rule says so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.core.trie import FilterTrie

__all__ = ["NOTHING", "Retention", "RoomRule", "RoomRules"]


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a room is kept."""

    last: bool = True
    """The last value of each topic."""
    messages: int = 0
    """So many messages, the newest."""
    seconds: float = math.inf
    """But none of those that are older than this."""


NOTHING: Final = Retention(last=False)


@dataclass(frozen=True, slots=True)
class RoomRule:
    """What is kept of the rooms that match a filter."""

    filter: str
    retention: Retention


class RoomRules:
    """The rules of a namespace; for each room the first one that matches holds."""

    __slots__ = ("_rules", "_trie")

    def __init__(self, rules: Sequence[RoomRule] = ()) -> None:
        self._rules = tuple(rules)
        self._trie: FilterTrie[int] = FilterTrie()
        for index, rule in enumerate(self._rules):
            self._trie.add(rule.filter, index)

    def of(self, room: str) -> RoomRule | None:
        """The rule for a room."""
        found = self._trie.match(room.split("/"))
        return self._rules[min(found)] if found else None
