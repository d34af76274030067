"""Environment variables as a tree: `TIDEGATE_LISTEN__PORT` is `listen.port`; lists and sections are JSON.

The environment settings of pydantic-settings stop at the first variable that is wrong and pass over unknown ones, so
its conventions are kept here, not its source.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

import orjson

from gateway.config.problems import Place, Problem
from gateway.config.settings import Settings
from gateway.config.shape import at_end_of, fields_of, inside, is_list, is_mapping, is_optional
from gateway.config.tree import Node, TooDeep

__all__ = ["read_environment"]

PREFIX: Final = "TIDEGATE_"
DELIMITER: Final = "__"
NULL: Final = "null"
OF_CLIENTS: Final = "TIDEGATE_TOKEN"
"""What `tidegate sub`, `pub`, `ticket` and `token check` read: no key, though it may be there when others are."""
EXAMPLE: Final = "TIDEGATE_LISTEN__PORT"

_OF_A_CLUSTER = re.compile(
    r"(\w+_)?SERVICE_(HOST|PORT(_\w+)?)|(\w+_)?PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?|(\w+_)?PORT=\w+://.*"
)
"""What Kubernetes and Docker set by themselves in every container that may reach a service called `tidegate`."""


def read_environment(environment: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """The tree of all variables that are ours, and what is wrong with the others that begin as ours do."""
    tree, problems = Node(Place("environment"), {}), []
    ours = {name: text for name, text in environment.items() if name.startswith(PREFIX) and name != OF_CLIENTS}
    for name in sorted(ours, key=lambda name: (name.count(DELIMITER), name)):  # the more special ones win
        rest = name.removeprefix(PREFIX)
        if _OF_A_CLUSTER.fullmatch(rest) or _OF_A_CLUSTER.fullmatch(f"{rest}={ours[name]}"):
            continue
        keys = tuple(rest.lower().split(DELIMITER))
        kind = at_end_of(Settings, keys)
        if kind is None:
            problems.append(Problem(name, None, None, "", _unknown(name, keys)))
            continue
        try:
            tree = tree.overlaid(_wrapped(keys, _read(kind, ours[name], Place(name))))
        except _Unreadable as error:
            problems.append(Problem.at(Place(name), keys, str(error)))
    return tree, problems


class _Unreadable(ValueError):
    """The text isn't shown: it may hold a password."""


def _read(kind: Any, text: str, place: Place) -> Node:
    if not (fields_of(kind) or is_mapping(kind) or is_list(kind)):
        return Node(place, None if is_optional(kind) and text == NULL else text)
    what = "a JSON list, such as [...]" if is_list(kind) else "a JSON object, such as {...}"
    try:
        return Node.of(orjson.loads(text), place)
    except orjson.JSONDecodeError as error:
        raise _Unreadable(f"expected {what}, found what is no JSON (at character {error.pos + 1})") from None
    except TooDeep as error:
        raise _Unreadable(str(error)) from None


def _wrapped(keys: tuple[str, ...], node: Node) -> Node:
    for key in reversed(keys):
        node = Node(node.place, {key: node})
    return node


def _unknown(name: str, keys: tuple[str, ...]) -> str:
    for length in range(1, len(keys)):
        if is_list(at_end_of(Settings, keys[:length])):
            return f"unknown variable: a list is set as a whole, as JSON in {_variable(keys[:length])}"
    known = list(_variables(Settings, (), keys))
    rest = DELIMITER.join(keys).upper()
    meant = [variable for variable in known if variable.endswith(f"_{rest}")]
    meant = meant or get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    hint = f"did you mean {' or '.join(meant)}?" if meant else f"expected such as {EXAMPLE}"
    return f"unknown variable: {hint}"


def _variables(kind: Any, keys: tuple[str, ...], wanted: tuple[str, ...]) -> Iterator[str]:
    """All variables, within mappings those of the name that is wanted."""
    if keys:
        yield _variable(keys)
    names: Iterator[str] | list[str] = list(fields_of(kind))
    if is_mapping(kind):
        names = list(wanted[len(keys) : len(keys) + 1])
    for name in names:
        yield from _variables(inside(kind, name), (*keys, name), wanted)


def _variable(keys: tuple[str, ...]) -> str:
    return PREFIX + DELIMITER.join(keys).upper()
