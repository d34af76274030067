"""How a payload misfits a JSON Schema, in the words of all other errors: where, what was expected, what was found."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import orjson
from jsonschema import ValidationError

__all__ = ["misfit", "way"]

SHOWN_CHARACTERS: Final = 40
WAY_CHARACTERS: Final = 200
_PLAIN = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)

BOUNDS: Final[Mapping[str, str]] = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} properties",
    "maxProperties": "at most {} properties",
    "pattern": "text that matches {}",
    "const": "{}",
}


def misfit(error: ValidationError) -> str:
    """Such as `data.switch: expected boolean, found "on"`."""
    return f"{way('data', error.absolute_path)}: {_words(error)}"


def way(start: str, path: Iterable[str | int]) -> str:
    """A path in words: `data.lamps[2].level`; bounded, and on one line whatever the keys hold."""
    text = start
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if _PLAIN.fullmatch(step) and len(step) <= SHOWN_CHARACTERS else f"[{_shown(step)}]"
        if len(text) > WAY_CHARACTERS:
            return f"{text[:WAY_CHARACTERS]}…"
    return text.removeprefix(".") or "schema"


def _words(error: ValidationError) -> str:
    value = cast("Any", error.validator_value)
    keyword, found = str(error.validator), _shown(error.instance)
    if keyword in BOUNDS:
        return f"expected {BOUNDS[keyword].format(_shown(value))}, found {found}"
    match keyword:
        case "type":
            kinds = value if isinstance(value, list) else [value]
            return f"expected {' or '.join(map(str, kinds))}, found {found}"
        case "enum":
            return f"expected one of {_listed(value)}, found {found}"
        case "required" if isinstance(value, list):
            instance = cast("Any", error.instance)
            return f"expected {_listed([name for name in value if name not in instance])} in it"
        case "additionalProperties" | "properties":
            return f"expected no property {_shown(error.message)}"
        case "uniqueItems":
            return "expected no item twice"
        case "None":  # the schema is `false`
            return f"expected nothing here, found {found}"
    return f"expected what the schema says by `{keyword}`, found {found}"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(_shown, values[:10])) + (", …" if len(values) > 10 else "")


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = orjson.dumps(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
