"""What is wrong with a configuration, in words for the person who wrote it: where, which key, found and expected.

No value of a secret comes here: who makes a message leaves it out.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

__all__ = ["ConfigurationError", "Keys", "Place", "Problem", "dotted", "is_unicode", "shown", "without_user_info"]

Keys: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys of mappings and places in lists."""

SHOWN_CHARACTERS: Final = 60
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")
_USER_INFO = re.compile(r"(?<=//)[^/\s]*@")
_PLAIN_KEY = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was read: a file with line and column, counted from 1, or the name of an environment variable."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.source, self.line, self.column) if part is not None)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change: `config.yaml:12:5: routes[2].qos: expected 0, 1 or 2, found 3`."""

    source: str
    """The file, the environment variable, or `command line`."""
    line: int | None
    column: int | None
    key: str
    """Dotted, such as `routes[2].qos`; empty if it is about the file as a whole."""
    message: str

    @classmethod
    def at(cls, place: Place, keys: Keys, message: str) -> "Problem":
        """A problem of the value that `keys` lead to, which stands at `place`."""
        return cls(place.source, place.line, place.column, dotted(keys), message)

    def __str__(self) -> str:
        where = str(Place(self.source, self.line, self.column))
        return ": ".join(part for part in (where, self.key, self.message) if part)


class ConfigurationError(Exception):
    """A configuration that can't be used, with all that is wrong with it, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def is_unicode(text: str) -> bool:
    """Whether `text` can be encoded: bytes that are no UTF-8, and YAML's escapes, may give half a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def dotted(keys: Sequence[str | int]) -> str:
    """`routes[2].qos` for `("routes", 2, "qos")`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{_shown_key(key)}"
    return text.removeprefix(".")


def _shown_key(key: str) -> str:
    return key if len(key) <= SHOWN_CHARACTERS and _PLAIN_KEY.fullmatch(key) else shown(key)


def without_user_info(text: str) -> str:
    """Text without the user and password that a URL in it has."""
    return _USER_INFO.sub("…@", text)


def shown(value: Any) -> str:
    """A value that was found, as its writer may know it: short, on one line, without a URL's user and password."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str() if len(value) <= SHOWN_CHARACTERS and _NUMBER.fullmatch(value):
            return value
        case str():
            text = without_user_info(value)
            return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")
        case int() | float():
            return str(value)
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return type(value).__name__
