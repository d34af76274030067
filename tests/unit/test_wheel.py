"""Many things that are due some time, by one timer."""

import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wheel import TICK_SECONDS, Wheel
from tests.unit.conftest import HandClock


def wheel_of(clock: HandClock, also: Callable[[str], None] = lambda _: None) -> tuple[Wheel[str], list[str]]:
    due: list[str] = []

    def call(item: str) -> None:
        due.append(item)
        also(item)

    return Wheel(clock, call), due


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 100), max_size=20), st.floats(0, 0.99))
def test_each_is_due_once_and_at_most_a_tick_late(delays: dict[str, float], begin: float) -> None:
    clock = HandClock()
    clock.advance(begin)
    start, at = clock.now, dict[str, float]()

    def note(item: str) -> None:
        assert item not in at
        at[item] = clock.now - start

    wheel = Wheel(clock, note)
    for item, delay_seconds in delays.items():
        wheel.add(item, delay_seconds)
    assert clock.waiting == (len(delays) > 0)
    clock.advance(101)
    assert at.keys() == delays.keys()
    assert all(-1e-3 <= at[item] - delay_seconds <= TICK_SECONDS + 1e-3 for item, delay_seconds in delays.items())
    assert (len(wheel), clock.waiting) == (0, 0)


def test_what_is_discarded_is_not_due() -> None:
    clock = HandClock()
    wheel, due = wheel_of(clock)
    for item in "abc":
        wheel.add(item, 5)
    wheel.discard("b")
    wheel.discard("unknown")
    clock.advance(10)
    assert due == ["a", "c"]


def test_what_is_added_again_is_due_at_the_new_time_alone() -> None:
    clock = HandClock()
    wheel, due = wheel_of(clock)
    wheel.add("a", 5)
    wheel.add("a", 20)
    clock.advance(19)
    assert due == []
    clock.advance(2)
    assert due == ["a"]


def test_one_that_is_due_sooner_is_not_kept_up_by_those_there_are() -> None:
    clock = HandClock()
    wheel, due = wheel_of(clock)
    wheel.add("late", 50)
    wheel.add("soon", 1)
    clock.advance(2)
    assert due == ["soon"]


def test_what_is_due_may_change_what_else_is() -> None:
    clock = HandClock()

    def act(item: str) -> None:
        if item == "a":
            wheel.discard("b")
            wheel.add("c", 3)
            wheel.add("a", 1)

    wheel, due = wheel_of(clock, act)
    for item in "abcd":
        wheel.add(item, 1)
    clock.advance(1.2)
    assert due == ["a", "d"]
    clock.advance(0.9)
    assert due == ["a", "d", "a"]


def test_a_fault_of_one_keeps_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock()

    def fail(item: str) -> None:
        if item == "a":
            raise RuntimeError("a fault")

    wheel, due = wheel_of(clock, fail)
    for item in "ab":
        wheel.add(item, 1)
    with caplog.at_level(logging.CRITICAL, logger="gateway.core.wheel"):
        clock.advance(2)
    assert due == ["a", "b"]


def test_nothing_is_waited_for_once_nothing_is_held() -> None:
    clock = HandClock()
    wheel, _ = wheel_of(clock)
    wheel.add("a", 5)
    wheel.discard("a")
    assert clock.waiting == 0
