import logging
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limit_errors import AddressRefused
from gateway.core.offenders import REFUSED, OffenceBounds, Offenders
from tests.unit.conftest import HandClock

BOUNDS = OffenceBounds(offences=3, window_seconds=60, refuse_seconds=10, refuse_max_seconds=100)
HERE = "192.0.2.1"


def offend(offenders: Offenders, times: int = 4, address: str = HERE) -> None:
    for _ in range(times):
        offenders.offend(address)


def test_as_many_offences_as_may_be_are_put_up_with_and_one_more_is_not(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock)
    offend(offenders, 3)
    offenders.check(HERE)
    offend(offenders, 1)
    with pytest.raises(AddressRefused) as refused:
        offenders.check(HERE)
    assert refused.value.retry_after_seconds == 10
    offenders.check("192.0.2.2")
    assert (offenders.refused, offenders.refusals) == (1, 1)


def test_offences_are_forgotten_at_a_steady_rate(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock)
    for _ in range(20):
        offend(offenders, 1)
        clock.advance(20)
    offenders.check(HERE)
    assert offenders.refusals == 0


def test_what_is_only_refused_weighs_less(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock)
    for _ in range(30):
        offenders.offend(HERE, REFUSED)
    offenders.check(HERE)
    offenders.offend(HERE, REFUSED)
    assert offenders.refused_for(HERE) > 0


def test_each_further_time_is_twice_as_long_up_to_the_longest(clock: HandClock) -> None:
    offenders, times = Offenders(BOUNDS, clock), []
    for _ in range(6):
        offend(offenders)
        times.append(offenders.refused_for(HERE))
        clock.advance(times[-1])
        offenders.check(HERE)
    assert times == [10, 20, 40, 80, 100, 100]


def test_offences_while_it_is_refused_make_it_no_longer(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock)
    offend(offenders)
    clock.advance(4)
    offend(offenders, 50)
    assert offenders.refused_for(HERE) == 6
    assert offenders.refusals == 1


def test_one_that_behaves_for_the_longest_time_begins_anew(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock)
    offend(offenders)
    clock.advance(10 + 99)
    offend(offenders)
    assert offenders.refused_for(HERE) == 20
    clock.advance(20 + 100)
    offend(offenders)
    assert offenders.refused_for(HERE) == 10


def test_a_64_of_ipv6_is_one_address(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock)
    for number in range(4):
        offenders.offend(f"2001:db8::{number}")
    assert offenders.refused_for("2001:db8::ffff") == 10
    assert offenders.refused_for("2001:db8:0:1::1") == 0
    assert len(offenders) == 1


def test_exempt_addresses_are_never_refused_nor_remembered(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock, (ip_network("192.0.2.0/24"), ip_network("::1")))
    offend(offenders, 100)
    offend(offenders, 100, "::1")
    offenders.check(HERE)
    assert len(offenders) == 0


def test_no_number_of_offences_refuses_where_none_is_given(clock: HandClock) -> None:
    offenders = Offenders(OffenceBounds(offences=None), clock)
    offend(offenders, 10_000)
    offenders.check(HERE)


def test_no_more_addresses_are_remembered_than_may_be_and_the_latest_are(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock, capacity=2)
    offend(offenders)
    offend(offenders, 1, "192.0.2.2")
    offend(offenders, 1)
    offend(offenders, 1, "192.0.2.3")
    assert len(offenders) == 2
    assert offenders.refused_for(HERE) > 0
    offend(offenders, 3, "192.0.2.2")
    assert offenders.refused_for("192.0.2.2") == 0, "it was forgotten"


def test_the_log_says_who_is_refused_but_a_crowd_does_not_fill_it(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    offenders = Offenders(BOUNDS, clock)
    with caplog.at_level(logging.WARNING):
        for number in range(50):
            offend(offenders, 4, f"192.0.2.{number}")
    assert len(caplog.records) == 5
    assert "192.0.2.0 is refused for 10 s" in caplog.text
    assert offenders.refusals == 50


@given(st.lists(st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "10.0.0.1"]), st.floats(0, 30)), max_size=80))
def test_nobody_is_refused_who_offends_no_faster_than_may_be(steps: list[tuple[str, float]]) -> None:
    clock = HandClock()
    offenders = Offenders(BOUNDS, clock, (ip_network("10.0.0.0/8"),))
    seen: dict[str, list[float]] = {}
    for address, pause in steps:
        clock.advance(pause)
        offenders.offend(address)
        seen.setdefault(address, []).append(clock.now)
        if len([at for at in seen[address] if at > clock.now - 60]) <= 3 and not offenders.refused_for(address):
            offenders.check(address)
        assert offenders.refused_for("10.0.0.1") == 0
        assert offenders.refused_for(address) <= BOUNDS.refuse_max_seconds
    for address, times in seen.items():
        if all(len([at for at in times if start <= at < start + 60]) <= 3 for start in times):
            assert offenders.refused_for(address) == 0


def test_after_a_refusal_as_much_is_put_up_with_as_before(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock)
    offend(offenders)
    clock.advance(10)
    offend(offenders, 3)
    offenders.check(HERE)
    offend(offenders, 1)
    assert offenders.refused_for(HERE) == 20


def test_only_those_count_as_refused_that_are_so_now(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock)
    offend(offenders, 1)
    assert (len(offenders), offenders.refused) == (1, 0)
    offend(offenders, 3)
    offend(offenders, 4, "192.0.2.2")
    assert offenders.refused == 2
    clock.advance(10)
    assert (len(offenders), offenders.refused, offenders.refusals) == (2, 0, 2)


def test_who_waits_as_long_as_it_is_told_is_let_in(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock)
    offend(offenders)
    clock.advance(0.1234567)
    with pytest.raises(AddressRefused) as refused:
        offenders.check(HERE)
    assert refused.value.retry_after_seconds == 9.877
    clock.advance(refused.value.retry_after_seconds)
    offenders.check(HERE)


def test_one_that_never_behaves_is_refused_for_the_longest_time_however_often(clock: HandClock) -> None:
    offenders = Offenders(OffenceBounds(1, 60, 1.0, 2.0), clock)
    for _ in range(1100):
        offend(offenders, 2)
        clock.advance(offenders.refused_for(HERE))
    assert offenders.refusals == 1100


def test_an_ipv4_address_written_as_ipv6_is_that_address(clock: HandClock) -> None:
    offenders = Offenders(BOUNDS, clock, (ip_network("10.0.0.0/8"),))
    offend(offenders, 4, f"::ffff:{HERE}")
    offend(offenders, 4, "::ffff:10.0.0.1")
    assert (offenders.refused_for(HERE), len(offenders)) == (10, 1)


ADDRESSES = st.sampled_from([*(f"192.0.2.{number}" for number in range(6)), "2001:db8::1", "2001:db8::2", "10.0.0.1"])
ACTS = st.lists(st.tuples(ADDRESSES, st.integers(1, 6), st.sampled_from([0, 1, 9, 25, 200])), max_size=60)


@given(ACTS)
def test_refusals_are_those_of_a_naive_model_and_what_is_remembered_is_bounded(
    steps: list[tuple[str, int, int]],
) -> None:
    clock = HandClock()
    offenders = Offenders(OffenceBounds(3, 1e12, 10, 100), clock, (ip_network("10.0.0.0/8"),), capacity=4)
    model: dict[str, tuple[int, int, float]] = {}
    """How many offences, how many refusals, and up to when, the stalest first."""
    for address, times, pause in steps:
        clock.advance(pause)
        offend(offenders, times, address)
        name = "2001:db8" if ":" in address else address
        for _ in range(0 if address == "10.0.0.1" else times):
            offences, refusals, until = model.pop(name, (0, 0, 0.0))
            if clock.now >= until:
                refusals = 0 if clock.now >= until + 100 else refusals
                offences += 1
                if offences > 3:
                    offences, refusals, until = 0, refusals + 1, clock.now + min(10 * 2**refusals, 100)
            model[name] = (offences, refusals, until)
        while len(model) > 4:
            del model[next(iter(model))]
        assert len(offenders) == len(model) <= 4
        expected = {name: max(0.0, until - clock.now) for name, (_, _, until) in model.items()}
        assert offenders.refused_for(address) == expected.get(name, 0)
        assert offenders.refused == sum(each > 0 for each in expected.values())
