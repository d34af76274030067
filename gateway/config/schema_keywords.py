"""How the check of a payload against a JSON Schema is bounded, whatever the payload and the schema.

Each keyword that is looked at takes a step, and steps are few; patterns run in time linear in the text (RE2); and what
the library does in quadratic time is done here otherwise. Nothing in a payload can make the event loop wait.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import orjson
import re2
from jsonschema import ValidationError

__all__ = ["MAXIMUM_STEPS", "MAXIMUM_VALUES", "Budget", "TooMuch", "bounded_keywords", "compile_pattern", "copied"]

MAXIMUM_STEPS: Final = 5_000
"""Keywords that one check looks at; some 10 µs each."""
MAXIMUM_VALUES: Final = 5_000
"""Values in one payload."""
MAXIMUM_DEPTH: Final = 64
EXACT: Final = 2.0**53
"""Up to here each whole number has a float of its own."""

Keyword: TypeAlias = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]
Patterns: TypeAlias = Mapping[str, Any]


class TooMuch(Exception):
    """A check that would take too long; the text says what was expected."""


class Budget:
    """How many steps are left to the check that is under way."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAXIMUM_STEPS

    def renew(self) -> None:
        """For the next check."""
        self._left = MAXIMUM_STEPS

    def spend(self, steps: int = 1) -> None:
        """Take steps.

        Raises:
            TooMuch: none are left.
        """
        self._left -= steps
        if self._left < 0:
            raise TooMuch(f"expected what can be checked in {MAXIMUM_STEPS} steps, found more")


def compile_pattern(pattern: str) -> Any:
    """A regular expression.

    Raises:
        ValueError: it is none, or one that takes more than linear time.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        raise ValueError(
            f"pattern: expected a regular expression without lookaround, back-reference or more than 1000 repetitions "
            f"(RE2), found {pattern[:60]!r}"
        ) from None


class _Object(dict[str, Any]):
    """An object that the library's error texts don't spell out, time and again."""

    def __repr__(self) -> str:
        return "an object"


class _List(list[Any]):
    """The same of a list."""

    def __repr__(self) -> str:
        return "a list"


def copied(data: Any) -> Any:
    """Data as it can be checked: counted, its texts of errors short, 1.0 the same as 1 (JSON Schema core §4.2.2).

    Raises:
        TooMuch: it has too many values or levels.
    """
    left = MAXIMUM_VALUES

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise TooMuch(f"expected at most {MAXIMUM_VALUES} values, found more")
        if depth > MAXIMUM_DEPTH:
            raise TooMuch(f"expected at most {MAXIMUM_DEPTH} levels of nesting, found more")
        if isinstance(value, dict):
            return _Object((key, copy(inner, depth + 1)) for key, inner in value.items())
        if isinstance(value, list):
            return _List(copy(inner, depth + 1) for inner in value)
        if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
            return int(value)
        return value

    return copy(data, 0)


def bounded_keywords(keywords: Mapping[str, Keyword], budget: Budget, patterns: Patterns) -> dict[str, Keyword]:
    """The keywords of a draft, each of which takes a step of the budget."""
    own = {
        "pattern": _pattern(patterns),
        "properties": _properties,
        "patternProperties": _pattern_properties(budget, patterns),
        "additionalProperties": _additional_properties(budget, patterns),
        "uniqueItems": _unique_items,
    }
    return {name: _counted(own.get(name, keyword), budget) for name, keyword in keywords.items()}


def _counted(keyword: Keyword, budget: Budget) -> Keyword:
    def count(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
        budget.spend()
        return keyword(validator, value, instance, schema)

    return count


def _pattern(patterns: Patterns) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
        if isinstance(instance, str) and not patterns[value].search(instance):
            yield ValidationError("pattern")

    return check


def _properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    if not isinstance(instance, dict):
        return
    for key, inner in value.items():
        if key in instance and inner is False:  # the library leaves out which
            yield ValidationError(key)
        elif key in instance:
            yield from validator.descend(instance[key], inner, path=key, schema_path=key)


def _pattern_properties(budget: Budget, patterns: Patterns) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
        if not isinstance(instance, dict):
            return
        budget.spend(len(value) * len(instance))
        for pattern, inner in value.items():
            for key in instance:
                if patterns[pattern].search(key):
                    yield from validator.descend(instance[key], inner, path=key, schema_path=pattern)

    return check


def _additional_properties(budget: Budget, patterns: Patterns) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if not isinstance(instance, dict):
            return
        known, shapes = schema.get("properties", {}), schema.get("patternProperties", {})
        budget.spend(len(shapes) * len(instance))
        for key in instance:
            if key in known or any(patterns[shape].search(key) for shape in shapes):
                continue
            if isinstance(value, dict):
                yield from validator.descend(instance[key], value, path=key)
            elif not value:
                yield ValidationError(key)

    return check


def _unique_items(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    if not value or not isinstance(instance, list):
        return
    texts = {orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in instance}
    if len(texts) < len(instance):
        yield ValidationError("uniqueItems")
