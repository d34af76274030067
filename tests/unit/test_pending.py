"""The table of requests under way."""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import pending as module
from gateway.core.errors import ReplyAmbiguous, RequestTimeout, TidegateError, UpstreamUnavailable
from gateway.core.limit_errors import TooManyRequests
from gateway.core.payload import Payload
from gateway.core.pending import Pending, Place
from tests.unit.conftest import HandClock

ANSWER = Payload(b"1")


class Table:
    """A table, and who was told what."""

    def __init__(self, by_owner: int = 100_000) -> None:
        self.clock = HandClock()
        self.by_owner = by_owner
        self.pending = Pending(self.clock, Random(3))
        self.told: dict[bytes, list[Payload | TidegateError]] = {}
        self.asked: list[Place] = []
        self.unanswered: dict[str, list[Place]] = {}

    def ask(self, owner: str = "me", topic: str = "r", *, in_line: bool = True, seconds: float = 10) -> Place:
        self.pending.check(owner, "up", topic, self.by_owner)
        told: list[Payload | TidegateError] = []
        place = self.pending.add(owner, "up", topic, Payload, seconds, told.append, in_line=in_line)
        self.told[place.correlation] = told
        self.asked.append(place)
        if in_line:
            self.unanswered.setdefault(topic, []).append(place)
        return place

    def answer(self, topic: str = "r", correlation: bytes | None = None) -> Place | None:
        place = self.pending.find("up", topic, correlation)
        if place is not None:
            self.pending.settle(place, ANSWER)
        return place

    def answer_in_order(self, topic: str) -> None:
        """The device answers the oldest that it hasn't answered; that is the one meant, if it keeps a place."""
        asked = self.unanswered.get(topic, [])
        held = [place for place in asked if place.correlation in self.pending._places]
        found = self.answer(topic)
        assert found is (held[0] if held else None)
        if found is not None:
            asked.remove(found)

    def one(self, number: int) -> Place | None:
        """Some request that was made."""
        return self.asked[number % len(self.asked)] if self.asked else None

    def told_of(self, place: Place) -> list[Payload | TidegateError]:
        return self.told[place.correlation]

    def assert_empty(self) -> None:
        assert len(self.pending) == 0
        assert self.pending._lines == {}
        assert self.pending._by_owner == {}
        assert self.clock.waiting == 0


def test_answers_without_correlation_data_belong_to_requests_in_the_order_of_sending() -> None:
    table = Table()
    first, other, second = table.ask(), table.ask(topic="elsewhere"), table.ask()
    assert [table.answer(), table.answer(), table.answer()] == [first, second, None]
    assert table.told_of(other) == []


def test_answers_with_correlation_data_may_come_in_any_order() -> None:
    table = Table()
    places = [table.ask(), table.ask(), table.ask(in_line=False)]
    for place in reversed(places):
        assert table.answer(correlation=place.correlation) is place
    table.assert_empty()


def test_correlation_data_are_of_no_use_on_another_topic_or_upstream() -> None:
    table = Table()
    place = table.ask()
    assert table.pending.find("up", "forged", place.correlation) is None
    assert table.pending.find("down", "r", place.correlation) is None


def test_unknown_correlation_data_dont_settle_the_first_in_line() -> None:
    table = Table()
    table.ask()
    assert table.answer(correlation=b"forged") is None


def test_a_late_answer_is_not_taken_for_the_next_requests() -> None:
    table = Table()
    late = table.ask()
    table.clock.advance(5)
    next_one = table.ask()
    table.clock.advance(5)
    assert [type(told) for told in table.told_of(late)] == [RequestTimeout]
    assert table.answer() is late
    assert table.told_of(next_one) == []
    assert table.answer() is next_one
    assert table.told_of(next_one) == [ANSWER]
    assert len(table.told_of(late)) == 1
    table.assert_empty()


def test_an_overdue_request_lets_none_follow_until_its_time_has_passed_again() -> None:
    table = Table()
    table.ask()
    table.clock.advance(14)
    with pytest.raises(ReplyAmbiguous) as refused:
        table.ask()
    assert refused.value.retry_after_seconds == 6
    table.ask(topic="elsewhere")
    table.clock.advance(6)
    table.ask()


def test_an_overdue_request_lets_others_follow_once_its_late_answer_has_come() -> None:
    table = Table()
    table.ask()
    table.clock.advance(11)
    table.answer()
    table.ask()


def test_a_cancelled_request_keeps_its_place_and_is_not_told() -> None:
    table = Table()
    cancelled, next_one = table.ask("gone"), table.ask()
    table.pending.cancel_all("gone")
    assert table.answer() is cancelled
    assert table.answer() is next_one
    assert table.told_of(cancelled) == []


def test_what_was_under_way_when_the_upstream_was_lost_is_told_at_once_and_keeps_its_place() -> None:
    table = Table()
    in_line, matched = table.ask(), table.ask(topic="t", in_line=False)
    table.clock.advance(9)
    table.pending.fail_all(UpstreamUnavailable("gone"), "other")
    assert table.told_of(in_line) == []
    table.pending.fail_all(UpstreamUnavailable("gone"), "up")
    assert [type(told) for told in table.told_of(in_line) + table.told_of(matched)] == [UpstreamUnavailable] * 2
    with pytest.raises(ReplyAmbiguous):
        table.ask()
    table.clock.advance(10)
    table.assert_empty()


def test_one_owner_has_a_limit_and_all_together_too(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(by_owner=2)
    first = table.ask()
    table.ask()
    with pytest.raises(TooManyRequests, match="at most 2"):
        table.ask()
    table.ask("other")
    table.pending.cancel(first)
    table.ask()
    monkeypatch.setattr(module, "MAXIMUM_PENDING", 4)
    with pytest.raises(TooManyRequests, match="in all"):
        table.ask("third")


def test_thousands_leave_nothing_behind() -> None:
    table = Table()
    for number in range(6000):
        owner, topic = f"owner-{number % 500}", f"topic-{number % 7}"
        place = table.ask(owner, topic, in_line=number % 2 == 0)
        if number % 3 == 0:
            table.answer(topic, place.correlation)
        elif number % 3 == 1:
            table.pending.cancel(place)
    for number in range(0, 500, 2):
        table.pending.cancel_all(f"owner-{number}")
    assert len(table.pending) > 2000
    table.clock.advance(10)
    table.clock.advance(10)
    table.assert_empty()
    assert all(len(told) <= 1 for told in table.told.values())


Step: TypeAlias = Callable[[Table], None]
TOPICS = st.sampled_from("ab")


@st.composite
def asking(draw: st.DrawFn) -> Step:
    owner, topic, in_line = draw(TOPICS), draw(TOPICS), draw(st.booleans())
    seconds = draw(st.sampled_from([1.0, 2.5, 4.0]))

    def ask(table: Table) -> None:
        with suppress(ReplyAmbiguous):
            table.ask(owner, topic, in_line=in_line, seconds=seconds)

    return ask


def answering_in_order(topic: str) -> Step:
    return lambda table: table.answer_in_order(topic)


def answering_with_correlation_data(number: int) -> Step:
    def answer(table: Table) -> None:
        place = table.one(number)
        if place is not None:
            table.answer(place.topic, place.correlation)

    return answer


def cancelling(number: int) -> Step:
    def cancel(table: Table) -> None:
        place = table.one(number)
        if place is not None:
            before = list(table.told_of(place))
            table.pending.cancel(place)
            table.pending.settle(place, ANSWER)
            assert table.told_of(place) == before

    return cancel


def leaving(owner: str) -> Step:
    return lambda table: table.pending.cancel_all(owner)


def waiting(seconds: float) -> Step:
    return lambda table: table.clock.advance(seconds)


def losing() -> Step:
    return lambda table: table.pending.fail_all(UpstreamUnavailable("gone"), "up")


STEPS = st.one_of(
    asking(),
    asking(),
    st.builds(answering_in_order, TOPICS),
    st.builds(answering_with_correlation_data, st.integers(0, 30)),
    st.builds(cancelling, st.integers(0, 30)),
    st.builds(leaving, TOPICS),
    st.builds(waiting, st.sampled_from([0.3, 1.1, 3.7])),
    st.builds(losing),
)


@given(st.lists(STEPS, max_size=40))
def test_each_is_told_at_most_once_the_first_that_keeps_a_place_is_meant_and_nothing_stays(steps: list[Step]) -> None:
    table = Table()
    for step in steps:
        step(table)
        assert all(len(told) <= 1 for told in table.told.values())
    table.clock.advance(4)
    table.clock.advance(4)
    table.assert_empty()
