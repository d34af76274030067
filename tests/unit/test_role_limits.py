from hypothesis import given
from hypothesis import strategies as st

from gateway.config import RoleLimitsSettings
from gateway.core.identity import ANONYMOUS, Identity
from gateway.core.limits import Limits
from gateway.core.role_limits import BY_ROLE, REMEMBERED, RoleLimits

GENERAL = Limits(messages_per_second=10, idle_seconds=60)


def who(*roles: str) -> Identity:
    return Identity("ann", frozenset(roles))


def test_without_roles_or_with_others_the_general_limits_hold() -> None:
    limits = RoleLimits(GENERAL, {"crew": {"messages_per_second": 50}})
    assert limits.of(None) is GENERAL
    assert limits.of(ANONYMOUS) is GENERAL
    assert limits.of(who("guest")) is GENERAL


def test_a_role_may_have_more_or_less() -> None:
    limits = RoleLimits(GENERAL, {"crew": {"messages_per_second": 50}, "guest": {"messages_per_second": 1}})
    assert limits.of(who("crew")).messages_per_second == 50
    assert limits.of(who("guest")).messages_per_second == 1
    assert limits.of(who("crew")).idle_seconds == 60


def test_of_several_roles_the_most_generous_holds_for_each_key() -> None:
    limits = RoleLimits(
        GENERAL,
        {
            "a": {"messages_per_second": 50, "message_bytes": 1},
            "b": {"messages_per_second": 20, "message_bytes": 2},
            "c": {"idle_seconds": None},
            "d": {"idle_seconds": 5},
        },
    )
    found = limits.of(who("a", "b", "c", "d"))
    assert (found.messages_per_second, found.message_bytes, found.idle_seconds) == (50, 2, None)


def test_the_limits_of_a_set_of_roles_are_found_once() -> None:
    limits = RoleLimits(GENERAL, {"a": {"message_bytes": 1}})
    assert limits.of(who("a", "x")) is limits.of(who("a", "y"))


def test_a_server_reads_as_much_as_anybody_may_send() -> None:
    limits = RoleLimits(
        Limits(message_bytes=10, connections_per_address=2),
        {"a": {"message_bytes": 500}, "b": {"message_bytes": 5, "connections_per_address": 9}},
    )
    assert limits.largest_message_bytes == 500
    assert limits.most_connections_per_address == 9
    assert RoleLimits(Limits(message_bytes=10)).largest_message_bytes == 10


ROLES = st.dictionaries(
    st.sampled_from("abcd"),
    st.dictionaries(st.sampled_from(["idle_seconds", "bytes_per_second_out"]), st.one_of(st.none(), st.integers(1, 9))),
)


@given(ROLES, st.sets(st.sampled_from("abcde")))
def test_each_key_is_what_a_naive_search_says(by_role: dict[str, dict[str, int | None]], roles: set[str]) -> None:
    found = RoleLimits(GENERAL, by_role).of(who(*roles))
    for key in ("idle_seconds", "bytes_per_second_out"):
        named = [by_role[role][key] for role in roles if key in by_role.get(role, {})]
        if not named:
            assert getattr(found, key) == getattr(GENERAL, key)
        elif None in named:
            assert getattr(found, key) is None
        else:
            assert getattr(found, key) == max(value for value in named if value is not None)


def test_what_a_role_may_change_are_limits_and_the_keys_of_the_configuration() -> None:
    assert all(hasattr(GENERAL, key) for key in BY_ROLE)
    assert list(BY_ROLE) == list(RoleLimitsSettings.model_fields)


def test_what_is_remembered_of_sets_of_roles_is_bounded_and_found_anew() -> None:
    limits = RoleLimits(GENERAL, {f"r{number}": {"message_bytes": number + 1} for number in range(REMEMBERED + 50)})
    for number in range(REMEMBERED + 50):
        assert limits.of(who(f"r{number}")).message_bytes == number + 1
        assert len(limits._found) <= REMEMBERED
    assert limits.of(who("r0")).message_bytes == 1
