"""What an identity may do: rules by role over rooms, allowed if any rule allows.

Rules are filters over rooms, with `{user}` and `{claims.x}` in their levels. What these stand for is put in once for
each identity, as text of one level or part of one: a value that has more to it (`/`, `+`, `#`, NUL, a leading `$`, or
nothing at all) makes its filter grant nothing. A pattern is allowed only where one filter covers every room that it
could match. That is never too much; where only several filters together would cover it, it is refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Any, Final

from gateway.core.errors import Forbidden
from gateway.core.identity import ANONYMOUS, Identity
from gateway.core.topics import InvalidName, all_capturable, check_filter
from gateway.core.trie import FilterTrie

__all__ = ["OPEN", "Access", "AccessRule", "Action", "Decision", "Grants", "check_rule_filter"]

EVERYBODY: Final = "*"
"""The role that all have who are let in."""
MAXIMUM_EXPANSIONS: Final = 1000
"""How many filters one of a rule may stand for, where claims are lists; one that would be more grants nothing."""

_VARIABLE = re.compile(r"\{(user|claims\.[A-Za-z_][A-Za-z0-9_-]*)\}")


class Action(StrEnum):
    """What can be allowed."""

    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    REQUEST = "request"
    PRESENCE = "presence"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Allows those who have one of its roles what its filters say."""

    roles: frozenset[str]
    allows: Mapping[Action, tuple[str, ...]]

    def concerns(self, identity: Identity) -> bool:
        """Whether it is about somebody."""
        return EVERYBODY in self.roles or not self.roles.isdisjoint(identity.roles)


@dataclass(frozen=True, slots=True)
class Decision:
    """A filter of a rule that allows something, by the rule's place in the list."""

    rule: int
    filter: str
    """As it stands in the rule."""


class Grants:
    """What one identity may do in one namespace."""

    __slots__ = ("_access", "_tries", "identity")

    def __init__(
        self,
        identity: Identity | None,
        access: "Access | None" = None,
    ) -> None:
        self.identity = identity
        """None for a client that has still to say who it is."""
        self._access = access
        """The rules; None where all is open."""
        self._tries: dict[Action, FilterTrie[Decision]] = {}
        """What the rules say of each action that was asked for."""

    @property
    def outdated(self) -> bool:
        """Whether they were made by rules that hold no more."""
        return self._access is not None and self._access.retired

    @property
    def user(self) -> str | None:
        """The user's name, if there is one."""
        return None if self.identity is None else self.identity.user

    def allows(self, action: Action, room: str) -> bool:
        """Whether a room, or all that a pattern could match, is allowed."""
        return self._access is None or self._access.is_open or bool(self._trie(action).covering(room))

    def _trie(self, action: Action) -> FilterTrie[Decision]:
        trie = self._tries.get(action)
        if trie is None:
            assert self._access is not None
            trie = self._tries[action] = self._access.trie(action, self.identity)
        return trie

    def check(self, action: Action, room: str) -> None:
        """Check that it is allowed.

        Raises:
            Forbidden: it isn't.
        """
        if not self.allows(action, room):
            who = "anonymous clients" if self.user is None else repr(self.user)
            raise Forbidden(f"{action} {room[:200]!r} is not allowed to {who}: no access rule covers all of it")

    def decisions(self, action: Action, room: str) -> list[Decision]:
        """Which filters allow it, in the order of the rules; none where it is forbidden, or where all is open."""
        found = [] if self._access is None or self._access.is_open else self._trie(action).covering(room)
        return sorted(found, key=lambda decision: decision.rule)


OPEN: Final = Grants(ANONYMOUS)
"""All is allowed to anybody."""


class Access:
    """The rules of a namespace; None for none, where all is open."""

    __slots__ = ("_rules", "retired")

    def __init__(self, rules: Sequence[AccessRule] | None = None) -> None:
        self._rules = None if rules is None else tuple(rules)
        self.retired = False
        """Whether others have taken their place: what these have granted is to be granted anew."""

    def of(self, identity: Identity | None) -> Grants:
        """What somebody may do; one who hasn't said who it is, where that is asked, may do nothing."""
        return Grants(identity, self)

    @property
    def is_open(self) -> bool:
        """Whether there are no rules, and all is allowed to anybody."""
        return self._rules is None

    def trie(self, action: Action, identity: Identity | None) -> FilterTrie[Decision]:
        """The filters that allow an action to somebody."""
        found: FilterTrie[Decision] = FilterTrie()
        for index, rule in enumerate(self._rules or ()):
            if identity is not None and rule.concerns(identity):
                for text in rule.allows.get(action, ()):
                    for room_filter in _expand(text, identity):
                        found.add(room_filter, Decision(index, text))
        return found


def check_rule_filter(text: str) -> str:
    """The filter itself, if it is one over rooms, perhaps with `{user}` and `{claims.x}`.

    Raises:
        InvalidName: it isn't.
    """
    plain = _VARIABLE.sub("x", text)
    if "{" in plain or "}" in plain:
        raise InvalidName(f"{text!r}: expected no braces but {{user}} and {{claims.name}}")
    check_filter(plain)
    return text


def _expand(text: str, identity: Identity) -> list[str]:
    """The filters that one of a rule stands for; a claim that is a list gives one for each of its values."""
    names = list(dict.fromkeys(_VARIABLE.findall(text)))
    values = [_values(name, identity) for name in names]
    count = 1
    for found in values:
        count *= len(found)
    if not 0 < count <= MAXIMUM_EXPANSIONS:
        return []
    filters = []
    for chosen in product(*values):
        put_in = dict(zip(names, chosen, strict=True))
        levels = [_VARIABLE.sub(lambda match: put_in[match[1]], level) for level in text.split("/")]  # noqa: B023
        if all(level in ("+", "#") or all_capturable(level) for level in levels):
            filters.append("/".join(levels))
    return filters


def _values(name: str, identity: Identity) -> list[str]:
    """The texts that a variable stands for, as far as each may be part of a level."""
    value: Any = identity.user if name == "user" else identity.claims.get(name.removeprefix("claims."))
    texts = [_text(item) for item in (value if isinstance(value, list | tuple) else [value])]
    return list(dict.fromkeys(text for text in texts if text and "/" not in text and all_capturable(text)))


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
