"""What is made of the values of a period, and at most one publication in it for each topic of a route."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import pacing
from gateway.core.errors import BadMessage
from gateway.core.message import Message
from gateway.core.routes import RouteSpec
from gateway.core.sample import MAXIMUM_FIELDS, Keep, Sample, Values, read_sample
from tests.unit.conftest import World, make_world

NUMBER = st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9)
SCALAR = st.none() | st.booleans() | st.text(max_size=3) | NUMBER
VALUE = SCALAR | st.lists(NUMBER, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "c"]), SCALAR)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def combined(keep: Keep, values: list[Any]) -> Any:
    """In the plainest way what `Values` promises."""
    newest = values[-1]
    if isinstance(newest, dict):
        return {
            name: joined(keep, [value[name] for value in values if isinstance(value, dict) and name in value])
            for name in newest
        }
    return joined(keep, values)


def joined(keep: Keep, values: list[Any]) -> Any:
    numbers = [value for value in values if is_number(value)]
    if not is_number(values[-1]) or len(numbers) == 1 or keep is Keep.LAST:
        return values[-1]
    return {Keep.MEAN: sum(numbers) / len(numbers), Keep.MIN: min(numbers), Keep.MAX: max(numbers)}[keep]


@given(st.sampled_from(Keep), st.lists(VALUE, min_size=1, max_size=6))
def test_mean_minimum_and_maximum_are_right(keep: Keep, values: list[Any]) -> None:
    made = Values(keep, orjson.dumps(values[0]))
    for value in values[1:]:
        made.add(orjson.dumps(value))
    assert orjson.loads(made.data()) == combined(keep, values)


def test_one_value_alone_stays_as_it_came() -> None:
    assert Values(Keep.MEAN, b'{"a": 1.10}').data() == b'{"a": 1.10}'


def test_of_an_object_the_numbers_are_made_into_one_and_the_newest_says_the_rest() -> None:
    made = Values(Keep.MEAN, b'{"watts":1,"on":false,"name":"a","gone":1}')
    made.add(b'{"watts":2,"on":true,"name":"b","nested":{"x":1}}')
    assert made.data() == b'{"watts":1.5,"on":true,"name":"b","nested":{"x":1}}'


def test_numbers_beyond_all_floats_and_fields_beyond_counting_are_kept_as_they_came_last() -> None:
    made = Values(Keep.MEAN, b"1.7e308")
    made.add(b"1.7e308")
    assert orjson.loads(made.data()) == 1.7e308
    made = Values(Keep.MAX, orjson.dumps({str(n): 2 for n in range(MAXIMUM_FIELDS + 1)}))
    made.add(orjson.dumps({str(n): 1 for n in range(MAXIMUM_FIELDS + 1)}))
    assert orjson.loads(made.data()) == {**{str(n): 2 for n in range(MAXIMUM_FIELDS)}, str(MAXIMUM_FIELDS): 1}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (0.5, "sample: expected"),
        ({"seconds": 1, "kep": "mean"}, "sample: expected"),
        ({}, "sample.seconds"),
        ({"seconds": True}, "sample.seconds"),
        ({"seconds": 0}, "sample.seconds"),
        ({"seconds": 3601}, "sample.seconds"),
        ({"seconds": "1"}, "sample.seconds"),
        ({"seconds": float("nan")}, "sample.seconds"),
        ({"seconds": 1, "keep": "median"}, "sample.keep"),
        ({"seconds": 1, "keep": []}, "sample.keep"),
    ],
)
def test_what_is_no_sample_is_refused(value: object, named: str) -> None:
    with pytest.raises(BadMessage, match=named):
        read_sample(value)
    assert read_sample({"seconds": 2, "keep": "max"}) == Sample(2, Keep.MAX)
    assert read_sample(None) is None


def paced(keep: Keep = Keep.LAST, seconds: float = 1.0) -> World:
    return make_world(routes=[RouteSpec("t/{x}", "r/{x}", sample=Sample(seconds, keep)), RouteSpec("u/{x}", "u/{x}")])


def listen(world: World) -> list[tuple[float, str, Any]]:
    """What comes from now on, with the time."""
    told: list[tuple[float, str, Any]] = []
    deliver = world.namespace._fanout.deliver

    def heard(message: Message) -> None:
        told.append((world.clock.now, message.topic or "", orjson.loads(message.data)))
        deliver(message)

    world.namespace._fanout.deliver = heard  # type: ignore[method-assign]
    return told


def test_of_a_sampled_route_the_first_value_goes_out_at_once_and_the_last_always() -> None:
    world = paced()
    told = listen(world)
    for value in range(10):
        world.device("t/a", b"%d" % value)
        world.device("u/a", b"%d" % value)
        world.clock.advance(0.25)
    world.clock.advance(5)
    start = 1000.0
    assert [(time - start, value) for time, topic, value in told if topic == "t/a"] == [(0, 0), (1, 3), (2, 7), (3, 9)]
    assert [value for _, topic, value in told if topic == "u/a"] == list(range(10))
    assert world.counters.drops["conflated"] == 6
    assert world.clock.waiting == 0


def test_the_log_and_everybody_have_what_a_sampled_route_lets_through() -> None:
    world = paced(Keep.MEAN)
    session, sink, _ = world.join()
    world.subscribe(session, "r/+")
    for value in (1, 2, 3):
        world.device("t/a", b"%d" % value)
    assert [orjson.loads(message.data) for message in world.last("#")] == [1]
    world.clock.advance(1)
    assert [orjson.loads(message.data) for message in world.last("#")] == [2.5]
    assert [sent["data"] for sent in sink.take() if sent["type"] == "message"] == [1, 2.5]


def test_taking_a_retained_message_back_reaches_the_log_of_a_sampled_route() -> None:
    world = paced()
    world.device("t/a", b"1")
    world.device("t/a", b"")
    world.clock.advance(1)
    assert world.last("#") == []


def test_what_is_held_goes_out_when_the_gateway_ends() -> None:
    world = paced()
    told = listen(world)
    for topic in ("t/a", "t/a", "t/b"):
        world.device(topic, b"1")
    world.namespace.paces.flush()
    assert [topic for _, topic, _ in told] == ["t/a", "t/b", "t/a"]
    assert world.clock.waiting == 0


def test_topics_beyond_the_bound_are_let_go_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "MAXIMUM_TOPICS", 2)
    world = paced()
    told = listen(world)
    for topic in ("t/a", "t/a", "t/b", "t/c"):
        world.device(topic, b"1")
    assert [topic for _, topic, _ in told] == ["t/a", "t/b", "t/a", "t/c"]
    world.clock.advance(3)
    assert world.clock.waiting == 0


EVENT = st.tuples(st.sampled_from(["t/a", "t/b", "t/c"]), st.integers(0, 9), st.sampled_from([0, 0.125, 0.375, 1, 2.5]))


@given(st.sampled_from(Keep), st.lists(EVENT, max_size=40))
def test_a_topic_has_one_message_a_period_and_the_last_value_comes(
    keep: Keep, events: list[tuple[str, int, float]]
) -> None:
    world = paced(keep)
    told = listen(world)
    sent: dict[str, list[tuple[float, int]]] = {}
    for topic, value, wait_seconds in events:
        sent.setdefault(topic, []).append((world.clock.now, value))
        world.device(topic, b"%d" % value)
        world.clock.advance(wait_seconds)
    world.clock.advance(2)
    assert world.clock.waiting == 0
    for topic, published in sent.items():
        assert [(time, value) for time, name, value in told if name == topic] == naive_pace(keep, published)


def naive_pace(keep: Keep, published: list[tuple[float, int]]) -> list[tuple[float, Any]]:
    expected: list[tuple[float, Any]] = []
    while published:
        (start, first), *later = published
        held: list[tuple[float, Any]] = []
        expected.append((start, first))
        end = start + 1.0
        while held := [(time, value) for time, value in later if time < end]:
            expected.append((end, combined(keep, [value for _, value in held])))
            later = later[len(held) :]
            end += 1.0
        published = later
    return expected
