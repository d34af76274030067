"""Two trees over levels: many filters asked with one name, and many names asked with one filter.

A question costs as many steps as the name has levels, however many filters there are. Nothing here recurses: a topic
may have tens of thousands of levels.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

__all__ = ["FilterTrie", "NameTree"]

T = TypeVar("T", bound=Hashable)
V = TypeVar("V")


class _Node(Generic[T]):
    __slots__ = ("any_level", "children", "rest", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.any_level: _Node[T] | None = None
        self.values: dict[T, None] = {}
        """What filters that end here hold."""
        self.rest: dict[T, None] = {}
        """What filters that end here in `#` hold; they match this level's parent too (MQTT 5 §4.7.1.2)."""

    def is_empty(self) -> bool:
        return not (self.children or self.any_level or self.values or self.rest)


class FilterTrie(Generic[T]):
    """MQTT filters, each holding values, found by the names they match (MQTT 5 §4.7)."""

    __slots__ = ("_root", "_size")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._size = 0

    def __len__(self) -> int:
        """How many values are held, over all filters."""
        return self._size

    def add(self, topic_filter: str, value: T) -> None:
        """Let `topic_filter` hold `value` (once, however often it is added)."""
        node, held = self._root, None
        for level in topic_filter.split("/"):
            if level == "#":
                held = node.rest
            elif level == "+":
                node.any_level = node = node.any_level or _Node()
            else:
                node = node.children.setdefault(level, _Node())
        held = node.values if held is None else held
        self._size += value not in held
        held[value] = None

    def remove(self, topic_filter: str, value: T) -> None:
        """Take `value` from `topic_filter`; nothing happens if it isn't there."""
        path: list[tuple[_Node[T], str]] = []
        node: _Node[T] | None = self._root
        levels = topic_filter.split("/")
        for level in levels if levels[-1] != "#" else levels[:-1]:
            assert node is not None
            path.append((node, level))
            node = node.any_level if level == "+" else node.children.get(level)
            if node is None:
                return
        assert node is not None
        held = node.rest if levels[-1] == "#" else node.values
        if value not in held:
            return
        del held[value]
        self._size -= 1
        for parent, level in reversed(path):
            if not node.is_empty():
                return
            if level == "+":
                parent.any_level = None
            else:
                del parent.children[level]
            node = parent

    def match(self, levels: Sequence[str]) -> list[T]:
        """The values of all filters that match the name with these levels, in no particular order.

        A value held by several matching filters is given once for each.
        """
        if not self._size:
            return []
        found: list[T] = []
        nodes = [self._root]
        if levels[0].startswith("$"):  # wildcards don't reach $SYS from the first level (MQTT 5 §4.7.2)
            start = self._root.children.get(levels[0])
            nodes = [start] if start is not None else []
            levels = levels[1:]
        for level in levels:
            following: list[_Node[T]] = []
            for node in nodes:
                if node.rest:
                    found += node.rest
                child = node.children.get(level)
                if child is not None:
                    following.append(child)
                if node.any_level is not None:
                    following.append(node.any_level)
            nodes = following
        for node in nodes:
            found += node.values
            found += node.rest
        return found

    def covering(self, topic_filter: str) -> list[T]:
        """The values of all filters that match every name that `topic_filter` matches."""
        return self._related(topic_filter, intersecting=False)

    def intersecting(self, topic_filter: str) -> list[T]:
        """The values of all filters that match some name that `topic_filter` matches."""
        return self._related(topic_filter, intersecting=True)

    def _related(self, topic_filter: str, *, intersecting: bool) -> list[T]:
        found: list[T] = []
        nodes = [self._root]
        levels = topic_filter.split("/")
        for position, level in enumerate(levels):
            following: list[_Node[T]] = []
            for node in nodes:
                if position or not level.startswith("$"):
                    found += node.rest
                if level == "#":
                    if intersecting:
                        found += _below(node, first_level=position == 0)
                    continue
                following += _step(node, level, position, intersecting=intersecting)
            nodes = following
        for node in nodes if levels[-1] != "#" else ():
            found += node.values
            found += node.rest
        return found


def _step(node: _Node[T], level: str, position: int, *, intersecting: bool) -> Iterator[_Node[T]]:
    """The nodes one level down whose filters cover, or intersect, a filter with this `level`."""
    if node.any_level is not None and (position or not level.startswith("$")):
        yield node.any_level
    if level != "+":
        if level in node.children:
            yield node.children[level]
    elif intersecting:
        yield from (child for name, child in node.children.items() if position or not name.startswith("$"))


def _below(node: _Node[T], *, first_level: bool) -> Iterator[T]:
    """All values in and below `node`, but those under `$` names at the first level, and but its own `rest`."""
    yield from node.values
    waiting = [child for name, child in node.children.items() if not (first_level and name.startswith("$"))]
    waiting += [node.any_level] if node.any_level is not None else []
    while waiting:
        below = waiting.pop()
        yield from below.values
        yield from below.rest
        waiting += below.children.values()
        waiting += [below.any_level] if below.any_level is not None else []


class _Branch(Generic[V]):
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Branch[V]] = {}
        self.value: V | None = None


class NameTree(Generic[V]):
    """Names, each with one value, found by a filter over them."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Branch[V] = _Branch()

    def set(self, name: str, value: V) -> None:
        """Give `name` this value in place of any other."""
        branch = self._root
        for level in name.split("/"):
            branch = branch.children.setdefault(level, _Branch())
        branch.value = value

    def remove(self, name: str) -> None:
        """Forget `name`.

        Raises:
            KeyError: it isn't there.
        """
        path: list[tuple[_Branch[V], str]] = []
        branch = self._root
        for level in name.split("/"):
            path.append((branch, level))
            branch = branch.children[level]
        branch.value = None
        for parent, level in reversed(path):
            if branch.children or branch.value is not None:
                return
            del parent.children[level]
            branch = parent

    def find(self, topic_filter: str) -> Iterator[V]:
        """The values of all names that `topic_filter` matches, in the order in which their levels were first set."""
        branches = [self._root]
        levels = topic_filter.split("/")
        for position, level in enumerate(levels):
            if level == "#":
                if position == 0:
                    branches = [branch for name, branch in self._root.children.items() if not name.startswith("$")]
                yield from _all_values(branches)
                return
            following: list[_Branch[V]] = []
            for branch in branches:
                if level == "+":
                    following += (b for n, b in branch.children.items() if position or not n.startswith("$"))
                elif level in branch.children:
                    following.append(branch.children[level])
            branches = following
        yield from (branch.value for branch in branches if branch.value is not None)


def _all_values(branches: Sequence[_Branch[V]]) -> Iterator[V]:
    waiting = list(reversed(branches))
    while waiting:
        branch = waiting.pop()
        if branch.value is not None:
            yield branch.value
        waiting += reversed(branch.children.values())
