"""Sessions that are sent at most so many bytes a second: the latest values, and never more than fits."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.bandwidth import bytes_per_second_out
from gateway.core.limits import Limits, TokenBucket
from gateway.core.session import Session
from tests.unit.conftest import HandClock, ListSink, World, make_world
from tests.unit.test_recovery import HISTORY, pause, publish, told, unpause


@dataclass(eq=False)
class SizedSink(ListSink):
    """Counts the bytes of what is written."""

    size_bytes: int = 0
    sizes: list[int] = field(default_factory=list)

    def write(self, data: bytes) -> None:
        super().write(data)
        self.size_bytes += len(data)
        self.sizes.append(len(data))


def join(world: World, room: str = "kept/+", bytes_per_second: float | None = None) -> tuple[Session, SizedSink]:
    sink = SizedSink()
    session = world.namespace.open("websocket", sink)
    if bytes_per_second is not None:
        world.namespace.recovery.limit_bandwidth(session, bytes_per_second)
    world.subscribe(session, room)
    sink.take()
    return session, sink


def test_a_session_within_its_bandwidth_is_told_everything() -> None:
    world = make_world(rules=HISTORY)
    _, sink = join(world, bytes_per_second=10_000)
    publish(world, "kept/x", *range(20))
    assert told(sink) == list(range(20))


def test_one_that_has_been_sent_all_that_it_may_be_is_told_the_latest_of_each_topic_later() -> None:
    world = make_world(rules=HISTORY)
    _, sink = join(world, bytes_per_second=1000)
    _, other = join(world)
    for number in range(100):
        publish(world, f"kept/{number % 2}", number)
    first = told(sink)
    assert first == list(range(len(first)))
    assert 0 < len(first) < 20
    assert world.namespace.recovery.throttled == 1
    world.clock.advance(1)
    assert told(sink) == [98, 99]
    publish(world, "kept/0", "live")
    assert told(sink) == ["live"]
    assert told(other) == [*range(100), "live"]
    assert len(world.namespace.recovery) == 0


def test_a_client_that_pays_off_is_no_slow_client_however_long_it_takes() -> None:
    world = make_world(Limits(lag_seconds=1), rules=HISTORY)
    session, sink = join(world, bytes_per_second=1)
    publish(world, "kept/x", "x" * 500, "last")
    world.clock.advance(50)  # it still owes the bytes of `subscribed`
    assert (session.ended, told(sink)) == (False, [])
    world.clock.advance(1000)
    assert told(sink) == ["last"]


def test_one_that_is_slow_besides_is_told_once_it_reads_and_may_be_sent() -> None:
    world = make_world(Limits(lag_seconds=5), rules=HISTORY)
    session, sink = join(world, bytes_per_second=1000)
    publish(world, "kept/x", "x" * 1500)
    sink.take()
    pause(sink, session)
    publish(world, "kept/x", 1, 2)
    world.clock.advance(3)
    assert told(sink) == []
    unpause(sink, session)
    assert told(sink) == [2]
    publish(world, "kept/x", "x" * 2500)
    pause(sink, session)
    world.clock.advance(5)
    assert session.ended


def test_the_limit_holds_everyone_to_it_whatever_they_ask_for() -> None:
    world = make_world(Limits(bytes_per_second_out=1000), rules=HISTORY)
    session, _ = join(world)
    for asked, expected in ((500, 500), (5000, 1000), (None, 1000)):
        world.namespace.recovery.limit_bandwidth(session, asked)
        assert bytes_per_second_out(session) == expected
    free, _ = join(make_world(rules=HISTORY), bytes_per_second=7)
    assert bytes_per_second_out(free) == 7


def test_asking_again_saves_nothing_up_and_forgives_nothing() -> None:
    world = make_world(Limits(bytes_per_second_out=1000), rules=HISTORY)
    session, sink = join(world)
    for number in range(200):
        publish(world, "kept/x", number)
        world.namespace.recovery.limit_bandwidth(session, None if number % 2 else 900)
    assert sink.size_bytes < 1500
    world.namespace.recovery.limit_bandwidth(session, None)
    world.clock.advance(3)
    assert told(sink)[-1] == 199


def test_what_is_never_kept_is_dropped_for_one_that_may_be_sent_nothing_and_counted() -> None:
    world = make_world(rules=HISTORY)
    _, sink = join(world, bytes_per_second=100)
    publish(world, "kept/x", "x" * 200)
    publish(world, "kept/x", "typing", volatile=True)
    world.clock.advance(10)
    assert told(sink) == ["x" * 200]
    assert world.counters.drops["fleeting_to_slow_client"] == 1


def test_a_session_that_ends_while_it_waits_leaves_nothing_behind() -> None:
    world = make_world(rules=HISTORY)
    session, _ = join(world, bytes_per_second=100)
    publish(world, "kept/x", "x" * 200)
    session.end()
    assert (world.clock.waiting, world.namespace.recovery.throttled, len(world.namespace._hub)) == (0, 0, 0)


def test_a_client_asks_by_message_and_is_told_in_the_welcome() -> None:
    world = make_world(Limits(bytes_per_second_out=1000), rules=HISTORY)
    session, sink, conversation = world.join()
    conversation.greet(25)
    welcome = sink.take()[0]
    assert welcome["limits"]["bytes_per_second_out"] == 1000  # type: ignore[index]
    conversation.receive('{"type": "bandwidth", "id": 1, "bytes_per_second": 10}')
    assert sink.take() == [{"type": "ack", "id": 1}]
    assert bytes_per_second_out(session) == 10


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400), st.sampled_from([0, 0, 0.1, 1])), max_size=60),
    st.integers(100, 2000),
)
def test_no_more_is_sent_than_fits_and_the_last_value_of_each_topic_always(
    steps: list[tuple[int, int, float]], bytes_per_second: int
) -> None:
    world = make_world(rules=HISTORY)
    _, sink = join(world, bytes_per_second=bytes_per_second)
    start, already = world.clock.now, sink.size_bytes
    last: dict[str, str] = {}
    for number, (topic, size_bytes, wait_seconds) in enumerate(steps):
        last[f"kept/{topic}"] = f"{number} {'x' * size_bytes}"
        publish(world, f"kept/{topic}", last[f"kept/{topic}"])
        world.clock.advance(wait_seconds)
        allowed = bytes_per_second * (1 + world.clock.now - start) + max(sink.sizes)
        assert sink.size_bytes - already <= allowed
    world.clock.advance(1000)
    heard = [(str(sent["room"]), str(sent["data"])) for sent in sink.take()]
    assert len(set(heard)) == len(heard)
    assert dict(heard) == last
    assert world.clock.waiting == 0


def test_a_bucket_may_be_overdrawn_and_then_says_how_long_it_takes(clock: HandClock) -> None:
    bucket = TokenBucket(10, 20, clock)
    assert bucket.spend(15) == 0
    assert bucket.spend(15) == pytest.approx(1)
    clock.advance(0.5)
    slower = bucket.at(5, 5)
    assert slower.spend(0) == pytest.approx(1)
    clock.advance(100)
    assert slower.spend(6) == pytest.approx(0.2)
