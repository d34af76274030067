"""Rates over several nodes: what one has let through, the others take from their own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.address_budgets import AddressBudgets
from gateway.core.doorkeeper import Handshakes
from gateway.core.limit_errors import RateLimited, RoomRateLimited, TooManyHandshakes
from gateway.core.limits import DEBT_NODES, Limits, TokenBuckets
from gateway.core.offenders import OffenceBounds, Offenders
from gateway.core.plain_rooms import RoomRates
from gateway.core.shared_rates import SharedRate
from tests.unit.conftest import HandClock
from tests.unit.shared_world import Nodes


def buckets(nodes: Nodes, rate_per_second: float = 1, burst: float = 10, capacity: int = 100) -> list[TokenBuckets]:
    made = [TokenBuckets(rate_per_second, burst, nodes.clock, capacity) for _ in nodes.all]
    for each, node in zip(made, nodes.all, strict=True):
        each.share("rate", node)
    return made


def take(from_: TokenBuckets, most: int = 1000, key: str = "a") -> int:
    """How many of so many may be taken at once."""
    return next((number for number in range(most) if from_.take(key)), most)


def test_what_one_node_has_let_through_the_others_do_not_let_through_again() -> None:
    nodes = Nodes()
    one, two, three = buckets(nodes)
    assert take(one) == 10
    nodes.tell()
    assert (take(two), take(three)) == (0, 0)
    assert take(two, key="b") == 10
    nodes.clock.now += 3
    assert (take(one), take(two), take(three)) == (3, 3, 3)  # none of them has heard yet
    nodes.tell()
    nodes.clock.now += 6
    assert (take(one), take(two), take(three)) == (0, 0, 0)


def test_what_all_owe_together_is_waited_for_and_said() -> None:
    nodes = Nodes()
    one, two, three = buckets(nodes)
    assert [take(each) for each in (one, two, three)] == [10, 10, 10]
    nodes.tell()
    assert one.take("a") == pytest.approx(21)
    nodes.clock.now += 21
    assert one.take("a") == 0


def test_a_node_that_hears_nothing_goes_on_with_its_own_limit() -> None:
    nodes = Nodes()
    one, two, _ = buckets(nodes)
    take(one)
    nodes.all[0].report()  # which nobody hears
    assert take(two) == 10


def test_debts_have_a_bound() -> None:
    nodes = Nodes(2)
    one, _ = buckets(nodes)
    nodes.send({"node": "another", "told": {"rate": {"a": 1e9}}})
    assert one.take("a") == pytest.approx(DEBT_NODES * 11 + 1)


def test_little_is_told_once_it_adds_up() -> None:
    nodes = Nodes(2)
    one, two = buckets(nodes, rate_per_second=0.001, burst=40)
    take(one, 4)
    nodes.tell()
    assert nodes.all[1].outcomes["heard"] == 0
    take(one, 1)
    nodes.tell()
    assert take(two) == 35


def test_what_was_spent_so_long_ago_that_it_is_there_again_is_not_told() -> None:
    nodes = Nodes(2)
    one, _ = buckets(nodes, burst=40)
    take(one, 4)
    nodes.clock.now += 40
    nodes.tell()
    take(one, 1)
    nodes.tell()
    assert nodes.all[0].outcomes["told"] == 0


def test_the_heaviest_are_told_first_and_the_others_later(clock: HandClock) -> None:
    rate = SharedRate(10, 60, lambda key, amount: None, clock)
    for key, amount in {"a": 3, "b": 9, "c": 5}.items():
        rate.spend(key, amount)
    assert rate.report(2, 2) == {"b": 9, "c": 5}
    assert rate.report(2, 2) == {"a": 3}
    assert rate.report(2, 2) == {}


def test_what_waits_to_be_told_is_bounded_and_what_is_not_told_counted(clock: HandClock) -> None:
    rate = SharedRate(1, 60, lambda key, amount: None, clock, capacity=2)
    for key in "abca":
        rate.spend(key, 1)
    assert rate.report(10, 1) == {"c": 1, "a": 1}
    assert rate.dropped == 2


def test_what_is_given_back_is_as_if_it_had_not_been(clock: HandClock) -> None:
    rate = SharedRate(1, 60, lambda key, amount: None, clock)
    rate.spend("a", 1)
    rate.spend("a", -1)
    assert rate.report(10, 1) == {}
    rate.spend("a", -1)
    assert rate.report(10, 1) == {"a": -1}


def test_a_key_that_is_only_heard_of_takes_its_place_among_those_that_are_known() -> None:
    nodes = Nodes(2)
    one, two = buckets(nodes, capacity=3)
    for key in "abcde":
        take(one, key=key)
        nodes.tell()
    assert len(two) == 3
    assert take(two, key="e") == 0


def test_handshakes_of_an_address_count_together() -> None:
    nodes, limits = Nodes(2), Limits(handshakes_per_address_per_second=1, handshakes_burst=4)
    one, two = (Handshakes(limits, Offenders(OffenceBounds(), nodes.clock), nodes.clock) for _ in nodes.all)
    one.share("handshakes", nodes.all[0])
    two.share("handshakes", nodes.all[1])
    for _ in range(4):
        one.check("2001:db8::1")
    nodes.tell()
    with pytest.raises(TooManyHandshakes) as refused:
        two.check("2001:db8::2")
    assert refused.value.retry_after_seconds == 1
    two.check("2001:db8:0:1::2")


def test_messages_into_a_room_count_together_however_long_its_name_is() -> None:
    limits, room = Limits(publishes_per_room_per_second=1, publishes_per_room_burst=4), "r" * 60_000
    nodes = Nodes(2)
    one, two = (RoomRates(limits, nodes.clock) for _ in nodes.all)
    one.share("rooms", nodes.all[0])
    two.share("rooms", nodes.all[1])
    for _ in range(4):
        one.spend(room)
    report = nodes.all[0].report()
    assert len(str(report)) < 500
    nodes.send(report)
    with pytest.raises(RoomRateLimited):
        two.spend(room)
    two.spend(room[1:])


class Budgets:
    """Budgets of addresses at two nodes."""

    def __init__(self) -> None:
        self.nodes = Nodes(2)
        self.limits = Limits(messages_per_second=1, bytes_per_second=10, messages_burst=3, bytes_burst=100)
        self.one, self.two = (AddressBudgets(self.nodes.clock) for _ in self.nodes.all)
        self.one.share("http", self.limits, self.nodes.all[0])
        self.two.share("http", self.limits, self.nodes.all[1])


def test_messages_and_bytes_of_an_address_count_together() -> None:
    world = Budgets()
    for size_bytes in (1, 1, 1):
        world.one.of("a", world.limits).spend(size_bytes)
    world.one.of("b", world.limits).spend(100)
    world.nodes.tell()
    with pytest.raises(RateLimited, match="too many messages"):
        world.two.of("a", world.limits).spend(1)
    with pytest.raises(RateLimited, match="too many bytes"):
        world.two.of("b", world.limits).spend(1)
    world.two.of("c", world.limits).spend(1)


def test_those_whose_role_gives_them_other_limits_have_another_budget_on_every_node() -> None:
    world = Budgets()
    crew = Limits(messages_per_second=1, bytes_per_second=10, messages_burst=3, bytes_burst=100, refusals=3)
    world.two.of("b", crew)
    for _ in range(3):
        world.one.of("a", crew).spend(1)
    world.nodes.tell()
    world.two.of("a", world.limits).spend(1)
    with pytest.raises(RateLimited):
        world.two.of("a", crew).spend(1)


STEPS = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.integers(1, 30)), max_size=40)


@settings(deadline=None)
@given(STEPS, st.integers(1, 4), st.integers(1, 10), st.integers(1, 20))
def test_all_nodes_together_let_through_what_one_would_and_what_each_does_in_a_second(
    steps: list[tuple[int, float, int]], number: int, rate: int, burst: int
) -> None:
    nodes = Nodes(number)
    made, taken, start = buckets(nodes, rate, burst), 0, nodes.clock.now
    due = [start + each / number for each in range(number)]
    for which, wait, wanted in steps:
        nodes.clock.now += wait
        for each in range(number):
            while due[each] <= nodes.clock.now:
                nodes.tell(each)
                due[each] += 1
        taken += take(made[which % number], wanted)
        one_would = burst + rate * (nodes.clock.now - start)
        assert taken <= one_would + number * (burst + rate) + 1e-6


@settings(deadline=None)
@given(STEPS, st.integers(2, 4), st.integers(1, 10), st.integers(1, 20))
def test_who_comes_to_one_node_only_is_let_through_as_if_there_were_no_other(
    steps: list[tuple[int, float, int]], number: int, rate: int, burst: int
) -> None:
    nodes = Nodes(number)
    shared, alone = buckets(nodes, rate, burst)[0], TokenBuckets(rate, burst, nodes.clock, 100)
    for which, wait, wanted in steps:
        nodes.clock.now += wait
        nodes.tell(which % number)
        for _ in range(wanted):
            assert shared.take("a") == alone.take("a")


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(1, 10), st.integers(0, 20))
def test_who_goes_on_at_all_nodes_gets_the_rate_of_one(number: int, rate: int, more: int) -> None:
    nodes, burst = Nodes(number), rate + more
    made, taken, seconds = buckets(nodes, rate, burst), 0, 60
    for _ in range(seconds):
        nodes.clock.now += 1
        taken += sum(take(each) for each in made)
        nodes.tell()
    in_a_second = number * (burst + rate)
    assert rate * seconds - in_a_second <= taken <= burst + rate * seconds + in_a_second
