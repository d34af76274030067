"""What a webhook is told, how much waits for it, when it is tried again."""

import logging
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.counters import Counters
from gateway.core.webhook_retries import BreakerState, Retries, RetryOptions
from gateway.core.webhooks import CALL_BYTES, Call, Webhook, WebhookOptions
from tests.unit.conftest import HandClock


class Hook:
    """A webhook with what is around it in reach."""

    def __init__(self, **options: Any) -> None:
        self.clock, self.counters = HandClock(), Counters()
        self.webhook = Webhook(WebhookOptions("hook", **options), "default", self.clock, Random(7), self.counters)

    def offer(self, *events: object) -> None:
        for event in events:
            self.webhook.offer(orjson.dumps(event))

    def breaker(self) -> BreakerState:
        return self.webhook.breaker

    def call(self) -> Call:
        call = self.webhook.call()
        assert call is not None
        return call


def data(call: Call) -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads(call.body)["data"]
    return told


def events(call: Call) -> Any:
    return data(call)["events"]


def test_what_waits_is_told_together_and_the_rest_in_the_next_call() -> None:
    hook = Hook(batch_events=3)
    hook.offer(1, 2, 3, 4)
    first = hook.call()
    assert events(first) == [1, 2, 3]
    hook.webhook.delivered()
    second = hook.call()
    assert events(second) == [4]
    assert second.id != first.id
    hook.webhook.delivered()
    assert hook.webhook.call() is None
    assert hook.webhook.outcomes["delivered"] == 4


def test_a_call_is_the_same_however_often_it_is_made_and_whatever_comes_meanwhile() -> None:
    hook = Hook()
    hook.offer(1)
    first = hook.call()
    for event in (2, 3):
        hook.webhook.failed("answers 500")
        hook.offer(event)
        hook.clock.advance(100)
        assert hook.call() is first
    hook.webhook.delivered()
    assert events(hook.call()) == [2, 3]
    assert hook.webhook.failures == 2


def test_a_call_has_so_many_bytes_besides_one_larger_event() -> None:
    hook = Hook()
    hook.offer("x" * CALL_BYTES, "y" * (CALL_BYTES // 2), "z" * (CALL_BYTES // 2))
    sizes = []
    while hook.webhook.call() is not None:
        sizes.append(hook.call().events)
        hook.webhook.delivered()
    assert sizes == [1, 1, 1]


def test_the_body_says_whose_it_is_and_when_it_was_made() -> None:
    hook = Hook()
    hook.offer({"type": "connect"})
    assert orjson.loads(hook.call().body) == {
        "type": "tidegate.events",
        "timestamp": "2025-11-24T16:16:40.000Z",
        "data": {"namespace": "default", "webhook": "hook", "missed": 0, "events": [{"type": "connect"}]},
    }


def test_a_full_queue_drops_what_comes_and_the_next_call_says_how_many(caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook(queue_events=2, batch_events=1)
    hook.offer(1)
    under_way = hook.call()
    hook.offer(2, 3, 4)
    assert len(hook.webhook) == 2
    assert hook.counters.drops["webhook_full"] == hook.webhook.outcomes["dropped"] == 2
    assert data(under_way)["missed"] == 0
    hook.webhook.delivered()
    assert (data(hook.call())["missed"], events(hook.call())) == (2, [2])
    hook.webhook.delivered()
    hook.offer(5)
    assert data(hook.call())["missed"] == 0
    assert "webhook 'hook' of namespace default: 1 events were dropped: full" in caplog.text


def test_the_queue_is_bounded_by_bytes_too() -> None:
    hook = Hook(queue_bytes=100)
    hook.offer("x" * 40, "x" * 40, "x")
    assert hook.counters.drops["webhook_full"] == 1


def test_messages_and_other_events_have_half_of_the_queue_each() -> None:
    hook = Hook(queue_events=4)
    hook.offer(1, 2, 3)
    assert not hook.webhook.is_crowded
    for event in (b"4", b"5", b"6"):
        hook.webhook.offer(event, from_log=True)
    assert hook.webhook.is_crowded
    assert hook.counters.drops == {"webhook_full": 1}
    assert events(hook.call()) == [1, 2, 4, 5, 6]
    assert not hook.webhook.is_crowded


def test_complaints_are_sampled_and_all_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook(queue_events=1)
    hook.offer(*range(1000))
    assert hook.counters.drops["webhook_full"] == 999
    assert len(caplog.records) == 5


def test_what_is_refused_is_not_told_again_and_is_missed() -> None:
    hook = Hook(batch_events=2)
    hook.offer(1, 2, 3)
    hook.call()
    hook.webhook.refused("answers 400")
    assert (data(hook.call())["missed"], events(hook.call())) == (2, [3])
    assert hook.webhook.outcomes["refused"] == 2
    assert hook.counters.drops["webhook_refused"] == 2


def test_a_call_that_fails_for_too_long_is_dropped_with_what_it_said_was_missed() -> None:
    hook = Hook(give_up_seconds=60, batch_events=1, queue_events=2)
    hook.offer(1)
    hook.call()
    hook.offer(2, 3)
    hook.webhook.delivered()
    assert data(hook.call())["missed"] == 1
    hook.clock.advance(59)
    hook.webhook.failed("answers 500")
    assert events(hook.call()) == [2]
    hook.clock.advance(1)
    hook.webhook.failed("answers 500")
    assert hook.counters.drops["webhook_gave_up"] == 1
    hook.offer(4)
    assert (data(hook.call())["missed"], events(hook.call())) == (2, [4])


def test_an_endpoint_that_is_gone_is_told_nothing_more() -> None:
    hook = Hook()
    settled: list[None] = []
    hook.webhook.settled = lambda: settled.append(None)
    hook.offer(1, 2)
    hook.call()
    hook.webhook.abandon("answers 410")
    hook.offer(3)
    assert hook.webhook.call() is None
    assert hook.counters.drops["webhook_gone"] == 3
    assert settled


def test_the_end_drops_and_counts_what_waits() -> None:
    hook = Hook(batch_events=1)
    hook.offer(1, 2)
    hook.call()
    assert hook.webhook.close() == 2
    assert hook.webhook.wait_seconds() is None
    assert hook.counters.drops["webhook_shutdown"] == 2


def test_what_comes_of_a_call_that_was_dropped_meanwhile_does_not_count() -> None:
    hook = Hook()
    hook.offer(1)
    hook.call()
    hook.webhook.close()
    hook.webhook.delivered()
    hook.webhook.refused("answers 400")
    hook.webhook.failed("answers 500")
    assert hook.webhook.outcomes == {"delivered": 0, "refused": 0, "dropped": 1}


def test_a_call_is_due_at_once_and_after_a_failure_once_the_pause_is_over() -> None:
    hook = Hook(retries=RetryOptions(min_seconds=2, max_seconds=2))
    assert hook.webhook.wait_seconds() is None
    hook.offer(1)
    assert hook.webhook.wait_seconds() == 0
    hook.call()
    hook.webhook.failed("answers 500", retry_after_seconds=7)
    assert hook.webhook.wait_seconds() == 7
    hook.clock.advance(7)
    assert hook.webhook.wait_seconds() == 0
    hook.webhook.delivered()
    hook.offer(2)
    assert hook.webhook.wait_seconds() == 0


def test_the_breaker_opens_after_so_many_failures_in_a_row(caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook(retries=RetryOptions(breaker_failures=3, breaker_seconds=30))
    hook.offer(1)
    for _ in range(2):
        hook.call()
        hook.webhook.failed("answers 500")
    assert hook.breaker() is BreakerState.CLOSED
    hook.call()
    hook.webhook.failed("answers 502")
    assert hook.breaker() is BreakerState.OPEN
    assert 30 <= (hook.webhook.wait_seconds() or 0) <= 37.5
    assert [record.levelno for record in caplog.records if "again and again" in record.message] == [logging.WARNING]
    hook.call()
    assert hook.breaker() is BreakerState.HALF_OPEN
    hook.webhook.failed("answers 503")
    assert hook.breaker() is BreakerState.OPEN
    hook.call()
    hook.webhook.delivered()
    assert hook.breaker() is BreakerState.CLOSED


def test_an_answer_in_between_begins_the_count_anew() -> None:
    retries = Retries(RetryOptions(breaker_failures=2), Random(1))
    retries.failed()
    retries.succeeded()
    retries.failed()
    assert retries.state is BreakerState.CLOSED


@given(st.integers(0, 2**32), st.integers(1, 30), st.floats(0, 10_000))
def test_pauses_grow_and_stay_within_bounds(seed: int, failures: int, retry_after: float) -> None:
    retries = Retries(RetryOptions(0.5, 30, breaker_failures=100), Random(seed))
    pauses = [retries.failed() for _ in range(failures)]
    assert all(0.5 <= pause <= min(30, 0.5 * 2 ** (n + 1)) for n, pause in enumerate(pauses))
    asked = retries.failed(retry_after)
    assert asked <= 3600
    assert asked >= min(retry_after, 3600)


@given(st.lists(st.sampled_from(["offer", "delivered", "failed", "refused"]), max_size=60), st.integers(1, 5))
def test_all_that_is_offered_is_told_in_order_or_missed(steps: list[str], batch: int) -> None:
    hook = Hook(batch_events=batch, queue_events=8, give_up_seconds=1e9)
    told: list[int] = []
    offered = missed = 0
    for step in [*steps, *["delivered"] * 61]:
        if step == "offer":
            hook.offer(offered)
            offered += 1
        elif (call := hook.webhook.call()) is not None:
            if step == "delivered":
                told += events(call)
                missed += data(call)["missed"]
                hook.webhook.delivered()
            elif step == "failed":
                hook.webhook.failed("answers 500")
            else:
                hook.webhook.refused("answers 400")
    hook.offer(offered)
    last = hook.call()
    assert told == sorted(set(told))
    assert len(told) + missed + data(last)["missed"] == offered
