from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.counters import Counters
from gateway.core.errors import (
    BadMessage,
    ReadOnly,
    TidegateError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.core.idempotency import Idempotency
from gateway.core.limit_errors import RateLimited
from gateway.core.namespace import Namespace
from gateway.core.publishing import Sending
from gateway.core.upstream import Done
from tests.unit.conftest import ROUTES, HandClock, World, make_world


class Sender:
    """Counts what is sent, and gives the outcomes when told."""

    def __init__(self) -> None:
        self.waiting: list[Done] = []
        self.sent = 0

    def __call__(self, done: Done) -> None:
        self.sent += 1
        self.waiting.append(done)

    def finish(self, error: TidegateError | None = None) -> None:
        self.waiting.pop(0)(error)


@pytest.fixture
def keys(clock: HandClock) -> Idempotency:
    return Idempotency(clock, Counters(), keys=3, seconds=60)


def test_while_the_first_is_under_way_the_second_waits_for_its_outcome(keys: Idempotency) -> None:
    send, answers = Sender(), list[object]()
    keys.once("r", "k", b"", send, answers.append)
    keys.once("r", "k", b"", send, answers.append)
    assert (send.sent, answers) == (1, [])
    send.finish()
    assert answers == [None, None]


@pytest.mark.parametrize("outcome", [None, UpstreamRefused("no"), UpstreamTimeout("who knows")])
def test_afterwards_it_gets_the_same_answer_and_nothing_is_sent(
    keys: Idempotency, outcome: TidegateError | None
) -> None:
    send, answers = Sender(), list[object]()
    keys.once("r", "k", b"", send, answers.append)
    send.finish(outcome)
    keys.once("r", "k", b"", send, answers.append)
    assert send.sent == 1
    assert answers == [outcome, outcome]


def test_what_was_not_sent_may_be_tried_again(keys: Idempotency) -> None:
    send, answers = Sender(), list[object]()
    keys.once("r", "k", b"", send, answers.append)
    send.finish(UpstreamUnavailable("away"))
    keys.once("r", "k", b"", send, answers.append)
    send.finish()
    assert send.sent == 2
    assert answers[1] is None

    def refuse(done: Done) -> None:
        raise ReadOnly("no")

    for _ in range(2):
        with pytest.raises(ReadOnly):
            keys.once("r", "refused", b"", refuse, answers.append)
    assert len(keys) == 1


def test_a_key_belongs_to_its_room_and_its_data(keys: Idempotency) -> None:
    send = Sender()
    keys.once("r", "k", b"1", send, lambda _: None)
    keys.once("other", "k", b"2", send, lambda _: None)
    assert send.sent == 2
    with pytest.raises(BadMessage, match="key"):
        keys.once("r", "k", b"2", send, lambda _: None)


def test_keys_are_forgotten_with_time(keys: Idempotency, clock: HandClock) -> None:
    send = Sender()
    keys.once("r", "k", b"", send, lambda _: None)
    clock.now += 59.9
    keys.once("r", "k", b"", send, lambda _: None)
    assert send.sent == 1
    clock.now += 0.1
    keys.once("r", "k", b"", send, lambda _: None)
    assert send.sent == 2


def test_too_many_keys_make_the_oldest_forgotten_and_counted_but_it_is_still_answered(clock: HandClock) -> None:
    counters, send, answers = Counters(), Sender(), list[str]()
    keys = Idempotency(clock, counters, keys=2)
    for key in "abc":
        keys.once("r", key, b"", send, lambda _, key=key: answers.append(key))  # type: ignore[misc]
    assert len(keys) == 2
    assert counters.drops["key_evicted"] == 1
    for _ in range(3):
        send.finish()
    assert answers == ["a", "b", "c"]


def test_too_many_that_wait_for_one_outcome_are_told_to_come_later(keys: Idempotency) -> None:
    send = Sender()
    for _ in range(100):
        keys.once("r", "k", b"", send, lambda _: None)
    with pytest.raises(RateLimited):
        keys.once("r", "k", b"", send, lambda _: None)


STEP = st.tuples(st.sampled_from(["ask", "finish", "fail", "wait"]), st.sampled_from(["a", "b"]))


@given(st.lists(STEP, max_size=40))
def test_every_one_is_answered_once_and_no_success_is_sent_twice(steps: list[tuple[str, str]]) -> None:
    clock = HandClock()
    keys, asked, answered = Idempotency(clock, Counters()), 0, list[object]()
    under_way: list[tuple[str, Done]] = []
    succeeded: set[str] = set()
    for what, key in steps:
        if what == "ask":
            asked += 1

            def send(done: Done, key: str = key) -> None:
                assert key not in succeeded
                assert key not in [name for name, _ in under_way]
                under_way.append((key, done))

            keys.once("r", key, b"", send, answered.append)
        elif what == "wait":
            clock.now += 1
        elif under_way:
            name, done = under_way.pop(0)
            if what == "finish":
                succeeded.add(name)
            done(None if what == "finish" else UpstreamUnavailable("away"))
    while under_way:
        under_way.pop(0)[1](None)
    assert len(answered) == asked


def publish(namespace: Namespace, room: str, data: object, key: str | None, answers: list[object]) -> None:
    namespace.publish(Sending(room, data, key=key), answers.append)


def test_the_namespace_sends_the_same_key_once(world: World) -> None:
    answers: list[object] = []
    for key in ("k", "k", None, None, "other"):
        publish(world.namespace, "devices/x/commands", 1, key, answers)
    assert len(world.upstream.published) == 4
    assert answers == [None] * 5


def test_a_key_works_in_a_room_without_devices_too(world: World) -> None:
    session, sink, _ = world.join()
    world.subscribe(session, "chat/x")
    sink.take()
    answers: list[object] = []
    for _ in range(2):
        publish(world.namespace, "chat/x", "hi", "k", answers)
    assert [sent["data"] for sent in sink.take()] == ["hi"]


def test_what_only_some_devices_can_have_is_not_sent_again() -> None:
    world = make_world(routes=ROUTES)
    errors = iter([UpstreamUnavailable("away"), None])
    sent: list[str] = []

    def send(topic: str, payload: bytes, qos: int, retain: bool, done: Callable[[object], None]) -> None:
        sent.append(topic)
        done(next(errors))

    world.upstream.publish = send  # type: ignore[method-assign, assignment]
    answers: list[object] = []
    for _ in range(2):
        publish(world.namespace, "devices/x/commands", "1", "k", answers)
    assert sent == ["commands/x", "copies/x"]
    assert [type(answer) for answer in answers] == [UpstreamTimeout] * 2


@pytest.mark.parametrize("key", ["", "x" * 65, 5, True, ["k"]])
def test_what_is_no_key_is_refused_by_name(world: World, key: object) -> None:
    _, sink, conversation = world.join()
    conversation.receive(orjson.dumps({"type": "publish", "room": "chat/x", "data": 1, "key": key, "id": 1}).decode())
    (error,) = sink.take()
    assert (error["code"], str(error["message"])[:4]) == ("bad_message", "key:")
