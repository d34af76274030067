"""YAML with positions: the data of a configuration file, and where in the file each key and value stands.

Aliases and duplicate keys are refused: the first can blow up a small file, the second hides what was meant.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

__all__ = ["MAXIMUM_FILE_BYTES", "KeyPath", "Located", "Position", "YamlError", "read_yaml"]

MAXIMUM_FILE_BYTES: Final = 1024 * 1024

KeyPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; both count from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Located:
    """A file's data and the positions of its keys."""

    data: Any = None
    positions: dict[KeyPath, Position] = field(default_factory=dict)

    def position(self, path: KeyPath) -> Position | None:
        """Where `path` stands, or the nearest thing around it that is in the file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.positions:
                return self.positions[path[:length]]
        return None


class YamlError(Exception):
    """A file that can't be read as YAML, with all places where it is wrong."""

    def __init__(self, *problems: tuple[Position | None, KeyPath, str]) -> None:
        super().__init__("; ".join(text for _, _, text in problems))
        self.problems = problems


def read_yaml(path: Path) -> Located:
    """Read a file.

    Raises:
        YamlError: there is no such file, or it can't be read as YAML.

    """
    text = _read(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise YamlError((_position(mark), (), f"not YAML: {what}")) from None
    except (yaml.YAMLError, ValueError) as error:
        raise YamlError((None, (), f"not YAML: {' '.join(str(error).split())}")) from None
    except RecursionError:
        raise YamlError((None, (), "nested too deeply")) from None
    located = Located()
    reader = _Reader(located)
    if root is not None:
        located.data = reader.read(root, ())
    if reader.problems:
        raise YamlError(*reader.problems)
    return located


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise YamlError((None, (), "it is a directory: expected a file"))
        with path.open("rb") as file:
            raw = file.read(MAXIMUM_FILE_BYTES + 1)
        if len(raw) > MAXIMUM_FILE_BYTES:
            raise YamlError((None, (), f"larger than {MAXIMUM_FILE_BYTES} bytes"))
        return raw.decode()
    except FileNotFoundError:
        raise YamlError((None, (), "there is no such file: name one with --config")) from None
    except UnicodeDecodeError as error:
        raise YamlError((None, (), f"not UTF-8 text: byte {error.start}")) from None
    except OSError as error:
        raise YamlError((None, (), f"it can't be read: {error.strerror}")) from None


def _position(mark: yaml.Mark | None) -> Position | None:
    return None if mark is None else Position(mark.line + 1, mark.column + 1)


class _Reader:
    """Walks the nodes of a document, keeping positions and collecting what is refused."""

    def __init__(self, located: Located) -> None:
        self.problems: list[tuple[Position | None, KeyPath, str]] = []
        self._located = located
        self._seen: set[int] = set()
        self._constructor = yaml.constructor.SafeConstructor()

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        if id(node) in self._seen:
            self._refuse(node, path, "an alias (*name): expected the value itself")
            return None
        self._seen.add(id(node))
        match node:
            case yaml.MappingNode():
                return dict(self._pairs(node, path))
            case yaml.SequenceNode():
                return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
            case _:
                return self._scalar(node, path)

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self._located.positions[path] = Position(node.start_mark.line + 1, node.start_mark.column + 1)
        return self.read(node, path)

    def _pairs(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, Any]]:
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, path, "expected a plain key")
                continue
            key = str(key_node.value)
            if key in lines:
                self._refuse(key_node, (*path, key), f"the key stands twice: see line {lines[key]}")
                continue
            lines[key] = key_node.start_mark.line + 1
            self._located.positions[(*path, key)] = Position(lines[key], key_node.start_mark.column + 1)
            yield key, self.read(value_node, (*path, key))

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        try:
            return self._constructor.construct_object(node)  # type: ignore[no-untyped-call]
        except (yaml.YAMLError, ValueError, OverflowError):
            self._refuse(node, path, f"{str(node.value)[:40]!r} can't be read as {node.tag.rpartition(':')[2]}")
            return None

    def _refuse(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        self.problems.append((_position(node.start_mark), path, text))
