"""What a configuration says of rooms, with a route or without one; for each room the first rule that matches holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.retention import Retention
from gateway.core.trie import FilterTrie

__all__ = ["RoomRule", "RoomRules"]


@dataclass(frozen=True, slots=True)
class RoomRule:
    """What holds of the rooms that match a filter."""

    filter: str
    retention: Retention
    presence: bool = False
    """Whether it is known, and told, who is in them."""


class RoomRules:
    """The rules of a namespace."""

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
