"""A YAML file as a tree with the line and column of every key.

A scalar stays the text that was written (but null), so that `password: 0123` and `client_id: no` mean what they say
and the file is read by the same rules as the environment; the settings say which text is a number. Anchors, aliases
and tags are refused: a configuration needs none, and aliases let a small file stand for a huge one.
"""

from pathlib import Path
from typing import Final

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from gateway.config.files import UnreadableFile, read_bounded
from gateway.config.problems import ConfigurationError, Keys, Place, Problem, is_unicode
from gateway.config.tree import MAXIMUM_DEPTH, Node, Scalar, TooDeep
from gateway.config.yaml_errors import NO_CHARACTER, in_plain_words

__all__ = ["read_yaml", "read_yaml_file"]

MAXIMUM_BYTES: Final = 1024 * 1024
NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


def read_yaml_file(path: Path) -> tuple[Node, list[Problem]]:
    """The tree of a file, and its repeated keys, past which reading went on. An empty file is an empty mapping.

    Raises:
        ConfigurationError: it can't be read, isn't YAML as it is taken here, or isn't a mapping.
    """
    source = str(path)
    try:
        content = read_bounded(path, MAXIMUM_BYTES)
    except UnreadableFile as error:
        raise ConfigurationError([Problem(source, None, None, "", error.reason)]) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ConfigurationError([Problem(source, line, column, "", "expected text in UTF-8")]) from None
    return read_yaml(text, source)


def read_yaml(text: str, source: str) -> tuple[Node, list[Problem]]:
    """As `read_yaml_file`, but from a text."""
    reader = _Reader(source)
    try:
        return reader.read(text), reader.problems
    except _Refused as error:
        problem = error.problem
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two: an escape that is no character
        place, message = in_plain_words(error, text, reader.place)
        problem = Problem.at(place, (), message)
    raise ConfigurationError([*reader.problems, problem])


class _Refused(Exception):
    """YAML, but more of it than is taken here."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Reader:
    """Reads the parser's events as they come, so that what is too deep is refused before it is parsed."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._loader = yaml.SafeLoader("")
        self.problems: list[Problem] = []

    @property
    def place(self) -> Place:
        """How far reading has come."""
        return Place(self._source, self._loader.line + 1, self._loader.column + 1)

    def read(self, text: str) -> Node:
        """The tree of the one document in `text`."""
        self._loader = yaml.SafeLoader(text)
        self._next()  # the stream's start
        root = Node(Place(self._source, 1, 1), {})
        if not isinstance(self._peek(), StreamEndEvent):
            self._next()  # the document's start
            root = self._value(self._take(()), ())
            self._next()  # its end
            if not isinstance(self._peek(), StreamEndEvent):
                raise self._refused(self._peek(), (), "expected one document, found a second one")
        if root.value is None:
            return Node(root.place, {})
        if not isinstance(root.value, dict):
            message = "expected a mapping (`key: value`) at the top, found " + (
                "a list" if isinstance(root.value, list) else "text"
            )
            raise _Refused(Problem.at(root.place, (), message))
        return root

    def _next(self) -> Event:
        event: Event = self._loader.get_event()  # type: ignore[no-untyped-call]
        return event

    def _peek(self) -> Event:
        event: Event = self._loader.peek_event()  # type: ignore[no-untyped-call]
        return event

    def _take(self, keys: Keys) -> NodeEvent:
        """The next event, which begins a value."""
        event = self._next()
        assert isinstance(event, NodeEvent)
        if isinstance(event, AliasEvent):
            raise self._refused(
                event, keys, "expected no alias (*): repeat the value, or quote text that starts with *"
            )
        if event.anchor is not None:
            raise self._refused(event, keys, "expected no anchor (&): leave it out, or quote text that starts with &")
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            raise self._refused(event, keys, "expected no tag (!): leave it out, or quote text that starts with !")
        if isinstance(event, ScalarEvent) and not is_unicode(event.value):
            raise self._refused(event, keys, NO_CHARACTER)
        return event

    def _value(self, event: NodeEvent, keys: Keys, place: Place | None = None) -> Node:
        place = place or self._place_of(event)
        if len(keys) > MAXIMUM_DEPTH:
            raise _Refused(Problem.at(place, keys[:1], str(TooDeep())))
        match event:
            case MappingStartEvent():
                return Node(place, self._mapping(keys))
            case SequenceStartEvent():
                return Node(place, self._sequence(keys))
            case _:
                assert isinstance(event, ScalarEvent)
                return Node(place, _scalar(event))

    def _mapping(self, keys: Keys) -> dict[str, Node]:
        mapping: dict[str, Node] = {}
        while not isinstance(self._peek(), MappingEndEvent):
            event = self._take(keys)
            if not isinstance(event, ScalarEvent):
                raise self._refused(event, keys, "expected text as the key, found a list or mapping")
            key, place = event.value, self._place_of(event)
            earlier = mapping.get(key)
            if earlier is not None:
                message = f"expected each key once, found it in line {earlier.place.line} too"
                self.problems.append(Problem.at(place, (*keys, key), message))
            mapping[key] = self._value(self._take((*keys, key)), (*keys, key), place)
        self._next()
        return mapping

    def _sequence(self, keys: Keys) -> list[Node]:
        items: list[Node] = []
        while not isinstance(self._peek(), SequenceEndEvent):
            item_keys = (*keys, len(items))
            items.append(self._value(self._take(item_keys), item_keys))
        self._next()
        return items

    def _place_of(self, event: Event) -> Place:
        mark = event.start_mark
        assert mark is not None
        return Place(self._source, mark.line + 1, mark.column + 1)

    def _refused(self, event: Event, keys: Keys, message: str) -> _Refused:
        return _Refused(Problem.at(self._place_of(event), keys, message))


def _scalar(event: ScalarEvent) -> Scalar:
    plain = event.style is None
    text: str = event.value
    return None if plain and text in NULLS else text
