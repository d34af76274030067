"""Names and the patterns over them: topics and rooms, MQTT filters (`+`, `#`), and patterns with captures.

Topics and rooms have the same form, levels between `/`, so one set of rules serves both. What a pattern means to the
gateway is said in `routing`; here are only parse, match, capture and render. Many filters at once: `trie`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = [
    "MAXIMUM_LEVELS",
    "MAXIMUM_NAME_BYTES",
    "Capture",
    "InvalidName",
    "Pattern",
    "Translation",
    "all_capturable",
    "check_filter",
    "check_name",
    "check_topic",
    "filter_matches",
    "has_wildcard",
    "is_too_deep",
]

MAXIMUM_NAME_BYTES: Final = 65_535
"""The longest topic, UTF-8 encoded (MQTT 5 §1.5.4)."""
MAXIMUM_LEVELS: Final = 128
"""The most levels: each costs memory and time wherever names are kept, and 65,535 bytes have room for 32,768."""

_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}")
_NOT_CAPTURABLE = re.compile(r"[+#\0]|(?:^|/)(?:\$|/|$)")


class InvalidName(ValueError):
    """A topic, room, filter or pattern that isn't one; the text says what was found and expected."""


def has_wildcard(name: str) -> bool:
    """Whether `name` stands for many (`+`, `#`) rather than for itself."""
    return "+" in name or "#" in name


def is_too_deep(name: str) -> bool:
    """Whether `name` has more than `MAXIMUM_LEVELS`."""
    return name.count("/") >= MAXIMUM_LEVELS


def all_capturable(name: str) -> bool:
    """Whether captures may match every level of `name`: none empty, no `+`, `#`, NUL, no leading `$`."""
    return _NOT_CAPTURABLE.search(name) is None


_UNFIT = re.compile("[\x01-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\U0010fffe\U0010ffff]")


def check_name(name: str) -> None:
    """Check a topic or room that stands for itself.

    Raises:
        InvalidName: it is empty, too long or too deep, or has an empty level, a wildcard, NUL, or a level that starts
            with `$`.
    """
    _check_size(name)
    if has_wildcard(name):
        raise InvalidName(f"{name!r} has a wildcard: expected one name without + or #")
    if not all_capturable(name):
        raise InvalidName(f"{name!r} is no name: expected levels between /, none empty, none starting with $, no NUL")
    _check_signs(name)


def check_topic(name: str) -> None:
    """Check a topic of a device that a route can take: as `check_name`, but levels may start with `$`, as in `$SYS`.

    Raises:
        InvalidName: it is none.
    """
    check_name(name.replace("$", "_"))


def check_filter(name: str) -> None:
    """Check a name or a filter over names: `+` is one whole level, `#` all that remain (MQTT 5 §4.7.1).

    Raises:
        InvalidName: as `check_name`, and for a wildcard that isn't a whole level or a `#` that isn't the last one.
    """
    _check_size(name)
    _check_signs(name)
    levels = name.split("/")
    for position, level in enumerate(levels):
        if level == "+" or (level == "#" and position == len(levels) - 1):
            continue
        if level == "#":
            raise InvalidName(f"{name!r}: # stands for all that remains: expected it as the last level")
        if has_wildcard(level):
            raise InvalidName(f"{name!r}: a wildcard is a whole level: expected + or # alone, found {level!r}")
        if not all_capturable(level):
            raise InvalidName(f"{name!r}: expected levels between /, none empty, none starting with $, no NUL")


def _check_signs(name: str) -> None:
    if _UNFIT.search(name):  # a broker may end the connection, and so for everybody (MQTT 5 §1.5.4)
        raise InvalidName(f"{name!r} is no name: expected no control characters and no non-characters of Unicode")


def _check_size(name: str) -> None:
    if not name:
        raise InvalidName("it is empty: expected a name such as sites/oslo")
    if len(name.encode("utf-8", "surrogatepass")) > MAXIMUM_NAME_BYTES:
        raise InvalidName(f"it is longer than {MAXIMUM_NAME_BYTES} bytes")
    if is_too_deep(name):
        raise InvalidName(f"it has {name.count('/') + 1} levels: expected at most {MAXIMUM_LEVELS}")


def filter_matches(topic_filter: str, name: str) -> bool:
    """Whether one MQTT filter matches one name (MQTT 5 §4.7). For many filters at once there is `trie.FilterTrie`."""
    wanted, levels = topic_filter.split("/"), name.split("/")
    if name.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(levels) or level not in ("+", levels[position]):
            return False
    return len(wanted) == len(levels)


@dataclass(frozen=True, slots=True)
class Capture:
    """A level of a pattern that matches any text and remembers it: `{name}`, or `{name...}` for all that remains."""

    name: str
    rest: bool


@dataclass(frozen=True, slots=True)
class Pattern:
    """A topic or room pattern: literal levels and captures."""

    text: str
    levels: tuple[str | Capture, ...]

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Parse `sensors/{site}/{device...}`.

        Raises:
            InvalidName: an empty level, a wildcard, a capture that isn't a whole level, a duplicate capture, or a
                `{name...}` before the end.
        """
        _check_size(text)
        parts = text.split("/")
        levels = tuple(_parse_level(text, part) for part in parts)
        seen: set[str] = set()
        for position, level in enumerate(levels):
            if not isinstance(level, Capture):
                continue
            if level.name in seen:
                raise InvalidName(f"capture {{{level.name}}} stands twice in {text!r}: expected each name once")
            if level.rest and position != len(levels) - 1:
                raise InvalidName(f"{parts[position]} takes all that remains: expected it at the end of {text!r}")
            seen.add(level.name)
        return cls(text, levels)

    @property
    def captures(self) -> tuple[str, ...]:
        """The names of the captures, in order."""
        return tuple(level.name for level in self.levels if isinstance(level, Capture))

    @property
    def filter(self) -> str:
        """The MQTT filter that matches all that the pattern matches."""
        return "/".join(level if isinstance(level, str) else ("#" if level.rest else "+") for level in self.levels)

    @property
    def has_rest(self) -> bool:
        """Whether the pattern ends in `{name...}`."""
        last = self.levels[-1]
        return isinstance(last, Capture) and last.rest


def _parse_level(text: str, level: str) -> str | Capture:
    if level == "":
        raise InvalidName(f"{text!r} has an empty level: expected text or a {{capture}} between the slashes")
    match = _CAPTURE.fullmatch(level)
    if match:
        return Capture(match[1], match[2] is not None)
    if has_wildcard(level):
        raise InvalidName(f"wildcard in {level!r}: expected a capture, {{name}} for + or {{name...}} for #")
    if "{" in level or "}" in level:
        raise InvalidName(f"{level!r}: expected a whole level, {{name}} or {{name...}}, of letters, digits and _")
    if "\0" in level:
        raise InvalidName(f"{text!r} has a NUL: expected text without it")
    return level


class Translation:
    """Renders the target pattern from a name that the source pattern's filter matched."""

    __slots__ = ("_captured", "_minimum", "_parts", "_rest")

    def __init__(self, source: Pattern, target: Pattern) -> None:
        position = {level.name: i for i, level in enumerate(source.levels) if isinstance(level, Capture)}
        self._captured = tuple(position.values())
        self._minimum = len(source.levels)
        self._parts = tuple(
            level if isinstance(level, str) else position[level.name]
            for level in target.levels
            if isinstance(level, str) or not level.rest
        )
        self._rest = len(source.levels) - 1 if target.has_rest else None

    def render(self, levels: Sequence[str], capturable: bool) -> str | None:
        """The target's name; None if a capture would match a level that it may not.

        `capturable` is `all_capturable` of the whole name, found once for all translations of it.
        """
        if len(levels) < self._minimum:  # "a/#" matches "a" too, {rest...} does not
            return None
        if not capturable and not self._may_capture(levels):
            return None
        rendered = [levels[part] if type(part) is int else part for part in self._parts]
        if self._rest is not None:
            rendered += levels[self._rest :]
        return "/".join(rendered)  # type: ignore[arg-type]

    def _may_capture(self, levels: Sequence[str]) -> bool:
        last = self._minimum - 1
        captured: Iterable[str] = (levels[i] for i in self._captured)
        if self._captured and self._captured[-1] == last:
            captured = (*captured, *levels[last + 1 :])  # nothing but {rest...} matches beyond the last level
        return all(all_capturable(level) for level in captured)
