"""Whether a client takes its answer."""

import asyncio
from typing import Any, cast

import pytest

from gateway.reading_watch import ReadingWatch
from tests.unit.conftest import HandClock


class Loop:
    """An event loop by a clock that is turned by hand."""

    def __init__(self, clock: HandClock) -> None:
        self.time = clock.monotonic
        self.call_later: Any = clock.call_later


@pytest.fixture
def given_up() -> list[str]:
    return []


@pytest.fixture
def watch(clock: HandClock) -> ReadingWatch:
    loop = cast(asyncio.AbstractEventLoop, Loop(clock))
    return ReadingWatch(30.0, loop)


def test_who_takes_nothing_is_given_up(watch: ReadingWatch, clock: HandClock, given_up: list[str]) -> None:
    watch.start(lambda: given_up.append("gone"))
    clock.advance(29.9)
    assert given_up == []
    clock.advance(0.2)
    assert given_up == ["gone"]


def test_who_takes_a_little_each_time_just_before_is_given_up(
    watch: ReadingWatch, clock: HandClock, given_up: list[str]
) -> None:
    for _ in range(2):
        watch.start(lambda: given_up.append("gone"))
        clock.advance(29.0)
        watch.stop()
    assert given_up == ["gone"]


def test_who_takes_a_large_answer_slowly_but_steadily_is_not(
    watch: ReadingWatch, clock: HandClock, given_up: list[str]
) -> None:
    for _ in range(500):
        watch.start(lambda: given_up.append("gone"))
        clock.advance(1.3)
        watch.stop()
    watch.start(lambda: given_up.append("gone"))
    clock.advance(29.0)
    watch.stop()
    assert given_up == []


def test_each_answer_has_all_patience(watch: ReadingWatch, clock: HandClock, given_up: list[str]) -> None:
    for _ in range(3):
        watch.start(lambda: given_up.append("gone"))
        clock.advance(29.0)
        watch.stop()
        watch.renew()
    assert given_up == []
