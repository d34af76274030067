"""When a connection that messages come by is read next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.mqtt_pace import WANTED_MESSAGES, Pace


def after(pace: Pace, *, every_seconds: float, reads: int = 200, messages: int = 1) -> float:
    """How long it wants to pause after a while of reads that bring so many messages each."""
    pause_seconds, now = 0.0, 1000.0
    for _ in range(reads):
        pause_seconds = pace.pause_seconds(messages, now)
        now += every_seconds
    return pause_seconds


@pytest.mark.parametrize("every_seconds", [0.003, 0.01, 1, 1000])
def test_what_comes_now_and_then_is_read_at_once(every_seconds: float) -> None:
    assert after(Pace(0.005), every_seconds=every_seconds) == 0


def test_of_what_comes_fast_some_are_waited_for() -> None:
    assert after(Pace(0.005), every_seconds=0.001) == 0.005
    assert after(Pace(0.005), every_seconds=0.0001) == pytest.approx(0.0001 * (WANTED_MESSAGES - 1), rel=1e-3)


def test_who_brings_enough_is_read_on() -> None:
    assert after(Pace(0.005), every_seconds=0.0001, messages=WANTED_MESSAGES) == 0


def test_the_first_after_a_rest_is_not_waited_for() -> None:
    pace = Pace(0.005)
    after(pace, every_seconds=0.001)
    assert pace.pause_seconds(1, 5000.0) == 0


def test_a_read_that_brings_no_message_is_followed_by_none_that_waits() -> None:
    pace = Pace(0.005)
    after(pace, every_seconds=0.001)
    assert pace.pause_seconds(0, 1000.2) == 0


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 10)), max_size=50), st.floats(0, 1))
def test_nothing_ever_waits_longer_than_it_may(reads: list[tuple[int, float]], gather_seconds: float) -> None:
    pace, now = Pace(gather_seconds), 0.0
    for messages, seconds in reads:
        now += seconds
        assert 0 <= pace.pause_seconds(messages, now) <= gather_seconds
