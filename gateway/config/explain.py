"""What pydantic finds wrong, as problems in the product's words, each at its place.

`values` gives most of the words; here are those about form: unknown and missing keys, mappings and lists.
"""

from difflib import get_close_matches
from typing import Any, Final

from pydantic_core import ErrorDetails

from gateway.config.problems import Keys, Problem, shown
from gateway.config.settings import Settings
from gateway.config.shape import at_end_of, fields_of
from gateway.config.tree import Node
from gateway.config.values import EXPECTED, EXPECTED_SECRET

__all__ = ["explain"]

FORMS: Final = {
    "model_type": "a mapping (`key: value`)",
    "dict_type": "a mapping (`name: …`)",
    "tuple_type": "a list",
}
OF_A_KEY: Final = "[key]"
"""What pydantic puts at the end of the way when a mapping's key is wrong, not its value."""


def explain(error: ErrorDetails, tree: Node, kind: Any = Settings) -> Problem:
    """The problem that an error of validating `tree`, as a value of this type, is."""
    keys = tuple(key for key in error["loc"] if key != OF_A_KEY)
    return Problem.at(tree.find(*keys).place, keys, _message(error, keys, kind))


def _message(error: ErrorDetails, keys: Keys, kind_of_all: Any) -> str:
    found = error["input"]
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(keys, kind_of_all)
        case "missing":
            return f"missing: expected such as `{keys[-1]}: {_example(keys, kind_of_all)}`"
        case "value_error":
            return str(error["ctx"]["error"])
        case kind if kind == EXPECTED:
            return f"expected {error['msg']}, found {shown(found)}"
        case kind if kind == EXPECTED_SECRET:
            return f"expected {error['msg']}"
        case kind if kind in FORMS:  # a value in the place of a section may hold a password
            return f"expected {FORMS[kind]}, found {'text' if isinstance(found, str) else shown(found)}"
    return "expected another value"


def _unknown_key(keys: Keys, kind_of_all: Any) -> str:
    known = list(fields_of(at_end_of(kind_of_all, keys[:-1])))
    close = get_close_matches(str(keys[-1]).lower(), known, n=1)
    key = shown(keys[-1]).strip("'")
    hint = f"did you mean `{close[0]}`?" if close else f"expected one of {', '.join(known)}"
    return f"unknown key `{key}`: {hint}"


def _example(keys: Keys, kind_of_all: Any) -> str:
    examples = fields_of(at_end_of(kind_of_all, keys[:-1]))[str(keys[-1])].examples or ["…"]
    return str(examples[0])
