from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.access import Access, AccessRule, Action
from gateway.core.errors import Forbidden
from gateway.core.identity import ANONYMOUS, Identity
from tests.unit import naive

LEVEL = st.sampled_from(["a", "b", "c"])
ROOMS = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
ROLES = st.sampled_from(["guest", "operator", "*"])
HOSTILE = st.text(st.sampled_from("ab/+#$\0"), max_size=4)


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.one_of(LEVEL, st.just("+")), max_size=3))
    if not levels or draw(st.booleans()):
        levels.append("#")
    return "/".join(levels)


def rule(role: str, *subscribe: str, **allows: tuple[str, ...]) -> AccessRule:
    return AccessRule(
        frozenset([role]), {Action.SUBSCRIBE: subscribe, **{Action(name): given for name, given in allows.items()}}
    )


RULES = st.lists(st.tuples(ROLES, filters()), max_size=5)


def naively(rules: list[tuple[str, str]], roles: set[str], room: str) -> bool:
    return any((role == "*" or role in roles) and naive.matches(allowed, room) for role, allowed in rules)


@given(RULES, st.sets(st.sampled_from(["guest", "operator"])), ROOMS)
def test_a_room_is_allowed_if_a_rule_for_a_role_matches_it(
    rules: list[tuple[str, str]], roles: set[str], room: str
) -> None:
    grants = Access([rule(*each) for each in rules]).of(Identity("ann", frozenset(roles)))

    assert grants.allows(Action.SUBSCRIBE, room) is naively(rules, roles, room)


@given(RULES, filters(), st.lists(ROOMS, max_size=20))
def test_a_pattern_is_allowed_only_if_every_room_that_it_matches_is(
    rules: list[tuple[str, str]], asked: str, rooms: list[str]
) -> None:
    grants = Access([rule(*each) for each in rules]).of(Identity("ann", frozenset(["guest"])))

    if grants.allows(Action.SUBSCRIBE, asked):
        assert all(naively(rules, {"guest"}, room) for room in rooms if naive.matches(asked, room))


@given(HOSTILE, HOSTILE, st.lists(LEVEL, min_size=1, max_size=3).map("/".join))
def test_a_value_never_widens_a_rule(user: str, claim: str, room: str) -> None:
    access = Access([rule("*", "users/{user}/#", "teams/t-{claims.team}/+")])
    grants = access.of(Identity(user, claims={"team": claim}))

    assert not grants.allows(Action.SUBSCRIBE, room)
    for other in ("users/other/a", "users/+/a", "users/#", "users", "teams/t-other/a", "teams/+/a", "#", "+/a/a"):
        assert not grants.allows(Action.SUBSCRIBE, other), other


@pytest.mark.parametrize("hostile", ["", "+", "#", "a/b", "a/#", "$SYS", "a\0", "+x", None, True, 1.5, {}, []])
def test_a_value_that_is_no_text_of_a_level_grants_nothing(hostile: Any) -> None:
    grants = Access([rule("*", "teams/{claims.team}/#")]).of(Identity("ann", claims={"team": hostile}))

    for room in ("teams/x", f"teams/{hostile}/x", "teams/+/x", "teams/#"):
        assert not grants.allows(Action.SUBSCRIBE, room)


def test_a_value_stands_for_itself_a_list_for_each_of_its_values_a_number_for_its_digits() -> None:
    access = Access([rule("*", "users/{user}/#", "sites/{claims.sites}/line-{claims.line}")])
    grants = access.of(Identity("ann", claims={"sites": ["oslo", "bergen", "#"], "line": 7}))

    allowed = ["users/ann/inbox", "users/ann/#", "sites/oslo/line-7", "sites/bergen/line-7"]
    refused = ["users/bob/inbox", "users/+/inbox", "sites/paris/line-7", "sites/oslo/line-8", "sites/+/line-7"]
    assert [grants.allows(Action.SUBSCRIBE, room) for room in allowed] == [True] * 4
    assert [grants.allows(Action.SUBSCRIBE, room) for room in refused] == [False] * 5


def test_a_claim_with_too_many_values_grants_nothing() -> None:
    access = Access([rule("*", "a/{claims.x}/{claims.y}")])
    many = [str(number) for number in range(40)]

    assert not access.of(Identity("ann", claims={"x": many, "y": many})).allows(Action.SUBSCRIBE, "a/1/1")
    assert access.of(Identity("ann", claims={"x": many, "y": ["1"]})).allows(Action.SUBSCRIBE, "a/1/1")


def test_each_action_is_allowed_for_itself() -> None:
    grants = Access([rule("*", "a", publish=("b",), request=("c",))]).of(ANONYMOUS)

    assert [(action.value, room) for action in Action for room in "abc" if grants.allows(action, room)] == [
        ("subscribe", "a"),
        ("publish", "b"),
        ("request", "c"),
    ]


def test_without_rules_all_is_open_and_with_none_that_allows_all_is_closed() -> None:
    assert Access(None).of(ANONYMOUS).allows(Action.PUBLISH, "a")
    assert not Access([]).of(Identity("ann")).allows(Action.PUBLISH, "a")


def test_the_role_of_everybody_is_not_that_of_somebody_who_was_not_let_in() -> None:
    access = Access([rule("*", "#")])

    assert access.of(ANONYMOUS).allows(Action.SUBSCRIBE, "a")
    assert not access.of(None).allows(Action.SUBSCRIBE, "a")


def test_a_refusal_names_action_room_and_user() -> None:
    with pytest.raises(Forbidden, match="publish 'a' is not allowed to 'ann': no access rule"):
        Access([]).of(Identity("ann")).check(Action.PUBLISH, "a")


def test_the_deciding_rules_are_named_as_they_stand() -> None:
    access = Access([rule("boss", "#"), rule("*", "users/{user}/+"), rule("*", "users/#")])
    found = access.of(Identity("ann")).decisions(Action.SUBSCRIBE, "users/ann/inbox")

    assert [(each.rule, each.filter) for each in found] == [(1, "users/{user}/+"), (2, "users/#")]
