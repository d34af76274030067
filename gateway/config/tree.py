"""What one source says, as a tree: every value with the place that it was read at. Trees of several sources merge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gateway.config.problems import Keys, Place

__all__ = ["MAXIMUM_DEPTH", "Node", "Scalar", "TooDeep"]

MAXIMUM_DEPTH: Final = 32
"""How deep mappings and lists may be nested: trees are walked by recursion."""

Scalar: TypeAlias = str | int | float | bool | None


class TooDeep(ValueError):
    """Data that is nested too deeply."""

    def __init__(self) -> None:
        super().__init__(f"expected at most {MAXIMUM_DEPTH} levels of nesting, found more")


@dataclass(frozen=True, slots=True)
class Node:
    """A value; that of a mapping's key stands where the key does."""

    place: Place
    value: "Scalar | list[Node] | dict[str, Node]"

    @classmethod
    def of(cls, data: Any, place: Place, depth: int = 0) -> "Node":
        """The tree of plain data, all of it from one place.

        Raises:
            TooDeep: it is.
        """
        if depth > MAXIMUM_DEPTH:
            raise TooDeep
        if isinstance(data, Mapping):
            return cls(place, {str(key): cls.of(value, place, depth + 1) for key, value in data.items()})
        if isinstance(data, list | tuple):
            return cls(place, [cls.of(value, place, depth + 1) for value in data])
        return cls(place, data)

    def plain(self) -> Any:
        """The data alone."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def find(self, *keys: str | int) -> "Node":
        """What `keys` lead to, or as far as they lead: a missing key is missed in its mapping."""
        node = self
        for key in keys:
            match node.value, key:
                case dict() as mapping, str() if key in mapping:
                    node = mapping[key]
                case list() as items, int() if key < len(items):
                    node = items[key]
                case _:
                    break
        return node

    def overlaid(self, upper: "Node") -> "Node":
        """Both trees in one: mappings merge, of anything else the upper one wins."""
        if not (isinstance(self.value, dict) and isinstance(upper.value, dict)):
            return upper
        merged = dict(self.value)
        for key, node in upper.value.items():
            merged[key] = merged[key].overlaid(node) if key in merged else node
        return Node(self.place, merged)

    def rewritten(self, change: Callable[[Keys, Scalar], Scalar], keys: Keys = ()) -> "Node":
        """The same tree with every scalar changed."""
        if isinstance(self.value, dict):
            return Node(self.place, {key: node.rewritten(change, (*keys, key)) for key, node in self.value.items()})
        if isinstance(self.value, list):
            return Node(self.place, [node.rewritten(change, (*keys, at)) for at, node in enumerate(self.value)])
        return Node(self.place, change(keys, self.value))
