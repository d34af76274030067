"""What nodes tell each other of their limits besides rates: counts, news, and who is there."""

from collections import Counter
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.app import create_app
from gateway.config import load_settings
from gateway.core.addresses import TrustedProxies
from gateway.core.connections import ConnectionLimiter, Seat
from gateway.core.errors import TidegateError
from gateway.core.identity import Identity
from gateway.core.limit_errors import (
    AddressRefused,
    RateLimited,
    TooManyConnectionsFromAddress,
    TooManyConnectionsOfUser,
    TooManyRooms,
)
from gateway.core.limits import Limits
from gateway.core.login_attempts import LoginAttempts, LoginLimits
from gateway.core.offenders import OffenceBounds, Offenders
from gateway.core.plain_http import HttpConnections
from gateway.core.plain_rooms import MEMORY_SECONDS, PlainRooms
from gateway.core.role_limits import RoleLimits
from gateway.core.shared_counts import Counts
from gateway.core.shared_limits import FEWEST_KEYS, KEYS_OF_ALL, MOST_KEYS, SharedLimits, shared_key
from gateway.core.shared_notes import SharedNotes
from tests.unit.conftest import HandClock
from tests.unit.shared_world import SILENCE_SECONDS, Nodes

ADDRESS, USER = "192.0.2.1", "ann"


def limiters(nodes: Nodes, by_role: dict[str, dict[str, int]] | None = None, **limits: int) -> list[ConnectionLimiter]:
    made = [ConnectionLimiter(RoleLimits(Limits(**limits), by_role)) for _ in nodes.all]
    for each, node in zip(made, nodes.all, strict=True):
        each.share("connections", node)
    return made


def come(to: ConnectionLimiter, user: str | None = None) -> Seat:
    seat = to.acquire(ADDRESS)
    seat.identify(Identity(user))
    return seat


def test_connections_of_an_address_and_of_a_user_count_together() -> None:
    nodes = Nodes()
    one, two, three = limiters(nodes, connections_per_address=4, connections_per_user=2)
    first = come(one, USER)
    come(two, USER)
    nodes.tell()
    with pytest.raises(TooManyConnectionsOfUser):
        come(three, USER)
    come(three)
    nodes.tell()
    with pytest.raises(TooManyConnectionsFromAddress):
        one.acquire(ADDRESS)
    one.acquire("192.0.2.2")
    first.free()
    nodes.tell()
    three.acquire(ADDRESS)


def test_who_is_there_alone_may_have_as_many_as_ever() -> None:
    nodes = Nodes()
    one, *_ = limiters(nodes, connections_per_address=4)
    for _ in range(4):
        nodes.tell()
        one.acquire(ADDRESS)
    with pytest.raises(TooManyConnectionsFromAddress):
        one.acquire(ADDRESS)


def test_connections_in_all_are_each_nodes_own() -> None:
    nodes = Nodes(2)
    one, two = limiters(nodes, connections=1)
    one.acquire(ADDRESS)
    nodes.tell()
    two.acquire("192.0.2.2")


def test_connections_that_speak_http_count_together() -> None:
    nodes = Nodes(2)
    one, two = (HttpConnections(100, 4, TrustedProxies([])) for _ in nodes.all)
    one.share("http", nodes.all[0])
    two.share("http", nodes.all[1])
    for _ in range(4):
        one.enter(ADDRESS)
    nodes.tell()
    with pytest.raises(TooManyConnectionsFromAddress):
        two.enter(ADDRESS)


def test_few_connections_are_not_told_of_unless_the_limit_is_low() -> None:
    nodes = Nodes(2)
    one, two = limiters(nodes, connections_per_address=16)
    come(one)
    nodes.tell()
    assert nodes.all[0].outcomes["told"] == 0
    come(one)
    nodes.tell()
    assert two._by_address[ADDRESS] == 2

    nodes = Nodes(2)
    one, two = limiters(nodes, {"single": {"connections_per_address": 1}}, connections_per_address=16)
    come(one)
    nodes.tell()
    with pytest.raises(TooManyConnectionsFromAddress):
        two.acquire(ADDRESS).identify(Identity("bob", frozenset({"single"})))


@pytest.mark.parametrize("silent", [True, False])
def test_what_a_node_has_counts_no_more_once_it_is_gone(silent: bool) -> None:
    nodes = Nodes(2)
    one, two = limiters(nodes, connections_per_address=1)
    one.acquire(ADDRESS)
    nodes.tell()
    with pytest.raises(TooManyConnectionsFromAddress):
        two.acquire(ADDRESS)
    if silent:
        nodes.clock.now += SILENCE_SECONDS
        nodes.tell(1)
    else:
        nodes.send(nodes.all[0].leave())
    two.acquire(ADDRESS)
    assert nodes.all[1].nodes == 1


def test_a_node_that_has_nothing_to_tell_is_there_as_long_as_it_says_so() -> None:
    nodes = Nodes(2)
    one, two = limiters(nodes, connections_per_address=1)
    one.acquire(ADDRESS)
    for _ in range(10):
        nodes.clock.now += SILENCE_SECONDS - 1
        nodes.tell()
    with pytest.raises(TooManyConnectionsFromAddress):
        two.acquire(ADDRESS)


def test_a_node_that_was_started_anew_has_nothing_of_what_it_had() -> None:
    nodes = Nodes(2)
    one, two = limiters(nodes, connections_per_address=1)
    one.acquire(ADDRESS)
    nodes.tell()
    nodes.send(SharedLimits("node-0", SILENCE_SECONDS, nodes.clock).begin(), [nodes.all[1]])
    two.acquire(ADDRESS)


def test_a_node_that_was_only_silent_tells_all_again() -> None:
    nodes = Nodes(2)
    one, two = limiters(nodes, connections_per_address=1)
    one.acquire(ADDRESS)
    nodes.tell()
    nodes.clock.now += SILENCE_SECONDS
    nodes.tell(1)
    assert (two._by_address[ADDRESS], nodes.all[1].nodes) == (0, 1)
    nodes.tell()  # the silent one is heard, and asked
    nodes.tell()
    assert (two._by_address[ADDRESS], nodes.all[1].nodes) == (1, 2)
    told = nodes.all[0].outcomes["told"]
    nodes.tell()
    assert nodes.all[0].outcomes["told"] == told  # it was asked once


def test_who_comes_is_told_what_others_have_been_told() -> None:
    nodes = Nodes(2)
    one, two = limiters(nodes, connections_per_address=1)
    one.acquire(ADDRESS)
    nodes.tell()
    new = SharedLimits("new", SILENCE_SECONDS, nodes.clock)
    limiter = ConnectionLimiter(RoleLimits(Limits(connections_per_address=1)))
    limiter.share("connections", new)
    nodes.send(new.begin())
    nodes.send(nodes.all[0].report(), [new, nodes.all[1]])
    with pytest.raises(TooManyConnectionsFromAddress):
        limiter.acquire(ADDRESS)
    assert two._by_address[ADDRESS] == 1


def test_a_node_that_was_cut_off_believes_nothing_of_what_it_knew_before() -> None:
    nodes = Nodes(2)
    one, two = limiters(nodes, connections_per_address=2)
    seats = [one.acquire(ADDRESS), one.acquire(ADDRESS)]
    nodes.tell()
    seats[0].free()
    nodes.all[0].report()  # which the other one doesn't hear
    seats[1].free()
    nodes.all[0].report()
    nodes.send(nodes.all[1].begin())
    nodes.tell()
    two.acquire(ADDRESS)
    two.acquire(ADDRESS)


def test_what_is_so_no_more_is_told_though_all_is_told_again_meanwhile() -> None:
    nodes = Nodes(3)
    one, two, _ = limiters(nodes, connections_per_address=1)
    seat = one.acquire(ADDRESS)
    nodes.tell()
    seat.free()
    nodes.send(nodes.all[2].begin())
    nodes.tell()
    two.acquire(ADDRESS)


def test_the_greatest_changes_are_told_first(clock: HandClock) -> None:
    counts, shared = Counts(), SharedLimits("a", SILENCE_SECONDS, clock)
    counts.share("counts", 1, shared)
    for key in "abbccc":
        counts.add(key)
    assert counts.report(2, 1) == {"c": 3, "b": 2}
    assert counts.report(2, 1) == {"a": 1}
    assert counts.report(2, 1) == {}


def test_what_is_known_of_another_node_is_bounded() -> None:
    counts = Counts(capacity=2)
    counts.hear("b", {"x": 1, "y": 1, "z": 1})
    assert (counts["x"], counts["y"], counts["z"], counts.dropped) == (1, 1, 0, 1)
    counts.hear("b", {"x": 0, "z": 2})
    assert (counts["x"], counts["z"]) == (0, 2)
    counts.forget("b")
    assert [counts[key] for key in "xyz"] == [0, 0, 0]


COUNTED = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["add", "remove", "tell", "hello"]), st.sampled_from("ab")),
    max_size=60,
)


@settings(deadline=None)
@given(COUNTED)
def test_once_all_have_told_each_node_knows_how_many_there_are(steps: list[tuple[int, str, str]]) -> None:
    nodes, counts, here = Nodes(3), [Counts() for _ in range(3)], [Counter[str]() for _ in range(3)]
    for each, node in zip(counts, nodes.all, strict=True):
        each.share("counts", 1, node)
    for which, what, key in steps:
        if what == "tell":
            nodes.tell(which)
        elif what == "hello":
            nodes.send(nodes.all[which].begin())
        elif what == "add":
            counts[which].add(key)
            here[which][key] += 1
        elif here[which][key]:
            counts[which].remove(key)
            here[which][key] -= 1
    nodes.tell()
    for each in counts:
        assert [each[key] for key in "ab"] == [sum(own[key] for own in here) for key in "ab"]


BOUNDS = OffenceBounds(offences=3, window_seconds=60, refuse_seconds=10, refuse_max_seconds=100)


def offenders(nodes: Nodes, *exempt: str) -> list[Offenders]:
    made = [Offenders(BOUNDS, nodes.clock, [ip_network(each) for each in exempt]) for _ in nodes.all]
    for each, node in zip(made, nodes.all, strict=True):
        each.share(node)
    return made


def test_what_one_node_refuses_all_do_and_as_long() -> None:
    nodes = Nodes()
    one, two, three = offenders(nodes)
    for _ in range(4):
        one.offend("2001:db8::1")
    nodes.clock.now += 1
    nodes.tell()
    for each in (two, three):
        with pytest.raises(AddressRefused):
            each.check("2001:db8::2")
    assert two.refused_for("2001:db8::1") == 10
    nodes.clock.now += 11
    two.check("2001:db8::1")


def test_the_next_time_is_twice_as_long_wherever_it_is() -> None:
    nodes = Nodes(2)
    one, two = offenders(nodes)
    for _ in range(4):
        one.offend(ADDRESS)
    nodes.tell()
    nodes.clock.now += 10
    for _ in range(4):
        two.offend(ADDRESS)
    assert two.refused_for(ADDRESS) == 20


def test_offences_add_up_over_nodes() -> None:
    nodes = Nodes(3)
    one, two, three = offenders(nodes)
    for each in (one, two, three):
        each.offend(ADDRESS)
    nodes.tell()
    three.check(ADDRESS)
    three.offend(ADDRESS)
    with pytest.raises(AddressRefused):
        three.check(ADDRESS)


def test_who_is_exempt_here_is_not_refused_for_what_others_say() -> None:
    nodes = Nodes(2)
    (one, _), (exempting,) = offenders(nodes), offenders(Nodes(1), ADDRESS)
    exempting.share(nodes.all[1])
    for _ in range(4):
        one.offend(ADDRESS)
    nodes.tell()
    exempting.check(ADDRESS)


def test_a_node_that_comes_is_told_who_is_refused() -> None:
    nodes = Nodes(1)
    (one,) = offenders(nodes)
    for _ in range(4):
        one.offend(ADDRESS)
    nodes.tell()
    new, late = SharedLimits("new", SILENCE_SECONDS, nodes.clock), Offenders(BOUNDS, nodes.clock)
    late.share(new)
    nodes.clock.now += 4
    nodes.send(new.begin())
    nodes.send(nodes.all[0].report(), [new])
    assert late.refused_for(ADDRESS) == 6


def attempts(nodes: Nodes) -> list[LoginAttempts]:
    made = [LoginAttempts(LoginLimits(2, 1, 900), nodes.clock) for _ in nodes.all]
    for each, node in zip(made, nodes.all, strict=True):
        each.share(node)
    return made


def test_wrong_passwords_count_together() -> None:
    nodes = Nodes()
    one, two, three = attempts(nodes)
    one.begin(USER, ADDRESS)
    two.begin(USER, ADDRESS)
    nodes.tell()
    for each in (one, two, three):
        with pytest.raises(RateLimited) as refused:
            each.begin(USER, ADDRESS)
        assert refused.value.retry_after_seconds == 1
    three.begin(USER, "192.0.2.2")


def test_a_right_password_is_no_failure_anywhere_and_what_was_tried_before_is_forgotten() -> None:
    nodes = Nodes(2)
    one, two = attempts(nodes)
    two.begin(USER, ADDRESS)
    attempt = one.begin(USER, ADDRESS)
    nodes.tell()
    one.succeeded(attempt)
    nodes.tell()
    two.begin(USER, ADDRESS)
    two.begin(USER, ADDRESS)


def test_who_has_logged_in_at_one_node_does_not_wait_at_another_for_what_others_did_to_the_user() -> None:
    nodes = Nodes(2)
    one, two = attempts(nodes)
    one.succeeded(one.begin(USER, ADDRESS))
    nodes.tell()
    for number in range(8):
        two.begin(USER, f"192.0.2.{number + 10}")
    with pytest.raises(RateLimited):
        two.begin(USER, "192.0.2.9")
    two.begin(USER, ADDRESS)


def rooms(nodes: Nodes, maximum: int = 100) -> list[PlainRooms]:
    made = [PlainRooms(maximum, nodes.clock) for _ in nodes.all]
    for each, node in zip(made, nodes.all, strict=True):
        each.share("rooms", node)
    return made


def test_a_room_counts_once_however_many_nodes_it_is_used_by() -> None:
    nodes = Nodes(2)
    one, two = rooms(nodes)
    one.use("a", ADDRESS, 2)
    nodes.tell()
    two.use("a", ADDRESS, 2)
    two.use("b", ADDRESS, 2)
    nodes.tell()
    for each in (one, two):
        assert len(each) == 2
        with pytest.raises(TooManyRooms):
            each.use("c", ADDRESS, 2)


def test_a_room_that_is_used_at_another_node_is_in_use() -> None:
    nodes = Nodes(2)
    one, two = rooms(nodes)
    two.use("b", ADDRESS, 9)
    begun = nodes.clock.now
    for _ in range(30):
        one.use("a", ADDRESS, 9)
        nodes.tell()
        nodes.clock.now += MEMORY_SECONDS / 10
        assert len(two) == 1 + (nodes.clock.now - begun < MEMORY_SECONDS)
    assert nodes.all[0].outcomes["told"] + nodes.all[1].outcomes["told"] < 20
    nodes.clock.now += MEMORY_SECONDS
    assert (len(one), len(two)) == (0, 0)


def test_rooms_of_other_nodes_are_bounded_too_and_told_to_who_comes() -> None:
    nodes = Nodes(1)
    (one,) = rooms(nodes)
    for name in "abc":
        one.use(name, ADDRESS, 9)
    nodes.tell()
    new, late = SharedLimits("new", SILENCE_SECONDS, nodes.clock), PlainRooms(2, nodes.clock)
    late.share("rooms", new)
    nodes.send(new.begin())
    nodes.send(nodes.all[0].report(), [new])
    assert len(late) == 2


def test_of_one_key_the_latest_is_told_and_what_waits_is_bounded() -> None:
    heard: list[tuple[str, int]] = []
    notes = SharedNotes(lambda key, value: heard.append((key, value)), list, capacity=2)
    for key, value in (("a", 1), ("b", 1), ("a", 2), ("c", 1)):
        notes.note(key, value)
    assert notes.dropped == 1
    assert notes.report(1, 1) == {"a": 2}
    assert notes.report(9, 1) == {"c": 1}


@pytest.mark.parametrize("number", [1, 10, 1000])
def test_what_is_told_at_once_is_bounded_and_less_with_more_nodes(number: int, clock: HandClock) -> None:
    shared = SharedLimits("a", SILENCE_SECONDS, clock)
    for each in range(number - 1):
        shared.hear({"node": str(each), "told": {}})
    notes = [shared.notes(name, lambda key, value: None, list) for name in ("flood", "quiet")]
    for each in range(2 * MOST_KEYS):
        notes[0](str(each), 1)
    most = max(FEWEST_KEYS, min(MOST_KEYS, KEYS_OF_ALL // number))
    for _ in notes:  # each is the first once
        notes[1]("once", 1)
        told = shared.report()["told"]
        assert told["quiet"] == {"once": 1}
        assert most / 2 <= sum(map(len, told.values())) <= most


def test_no_limit_takes_all_the_room_for_ever(clock: HandClock) -> None:
    shared = SharedLimits("a", SILENCE_SECONDS, clock)
    for name in map(str, range(20)):
        note = shared.notes(name, lambda key, value: None, list)
        for each in range(2 * MOST_KEYS):
            note(str(each), 1)
    told = {name for _ in range(20) for name in shared.report()["told"]}
    assert len(told) == 20


def test_what_another_version_tells_besides_is_passed_over(clock: HandClock) -> None:
    shared = SharedLimits("a", SILENCE_SECONDS, clock)
    shared.hear({"node": "b", "told": {"unheard": {"x": 1}}, "more": 1})
    assert (shared.nodes, shared.outcomes["heard"]) == (2, 0)


def test_an_odd_name_is_told_by_a_short_one_that_is_its_own() -> None:
    assert shared_key("a" * 128) == "a" * 128
    others = [shared_key(text) for text in ("a" * 129, "a" * 130, "\udc80", "\0")]
    assert len(set(others)) == 4
    assert all(len(each) < 128 and each.encode() for each in others)


def test_a_gateway_with_a_redis_shares_all_limits_of_addresses_users_and_rooms(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "engine: {url: 'redis://localhost'}\nupstreams: {plant: {url: 'mqtt://localhost'}}\nnamespaces: {b: {}}\n"
    )
    shared = create_app(load_settings(tmp_path / "config.yaml", environment={})).state.gateway.shared
    of_all = {"handshakes", "http_connections", "http_requests", "offences", "refused", "known_logins"}
    of_all |= {f"failed_logins/{each}" for each in ("pairs", "addresses", "users")}
    of_each = {"handshakes", "connections/addresses", "connections/users", "http/messages", "http/bytes"}
    of_each |= {"rooms", "plain_rooms", "peers"}
    assert set(shared.limits._shares) == of_all | {f"{name}/{each}" for name in ("default", "b") for each in of_each}


def test_a_user_with_a_long_name_is_told_in_full_of_what_it_has_too_much_of() -> None:
    nodes = Nodes(1)
    (one,) = limiters(nodes, connections_per_user=1)
    name = "a" * 2000
    come(one, name)
    with pytest.raises(TidegateError, match=name):
        come(one, name)
    assert len(str(nodes.all[0].report())) < 500
