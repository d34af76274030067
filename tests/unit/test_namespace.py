from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadMessage, ReadOnly, ShuttingDown, TidegateError, UpstreamTimeout
from gateway.core.limits import Limits
from gateway.core.publishing import Sending
from gateway.core.topics import filter_matches
from tests.unit.conftest import ROUTES, ListSink, World, make_world


def messages(sink: ListSink) -> list[dict[str, object]]:
    return [sent for sent in sink.take() if sent["type"] == "message"]


def rooms(written: list[dict[str, object]]) -> list[object]:
    return [sent["room"] for sent in written if sent["type"] == "message"]


def test_device_value_reaches_the_room_with_topic_cursor_and_time(world: World) -> None:
    session, sink, _ = world.join()
    world.subscribe(session, "sites/oslo/fan-4/power")
    world.device("sensors/oslo/fan-4/power", b'{"value": 5}')
    (sent,) = messages(sink)
    assert (sent["room"], sent["topic"]) == ("sites/oslo/fan-4/power", "sensors/oslo/fan-4/power")
    assert sent["data"] == {"value": 5}
    assert sent["time"] == 1_764_001_000
    assert str(sent["cursor"]).endswith("-1")
    assert "retained" not in sent


def test_a_message_comes_once_however_many_subscriptions_match(world: World) -> None:
    session, sink, _ = world.join()
    for room in ("sites/oslo/fan-4/power", "sites/+/+/power", "sites/#", "#"):
        world.subscribe(session, room)
    world.device("sensors/oslo/fan-4/power", b"1")
    assert rooms(sink.take()) == ["sites/oslo/fan-4/power"]


@pytest.mark.parametrize("room", ["chat/x", "chat/+"])
def test_a_subscription_holds_from_the_next_message_on_and_ends_at_once(world: World, room: str) -> None:
    (session, sink, _), (other, heard_by_other, _) = world.join(), world.join()
    world.subscribe(other, "chat/x")
    for number in range(6):
        world.namespace.publish(Sending("chat/x", number), lambda _: None)
        if number == 1:
            world.subscribe(session, room)
        if number == 3:
            world.namespace.unsubscribe(session, room)
    assert [sent["data"] for sent in messages(sink)] == [2, 3]
    assert [sent["data"] for sent in messages(heard_by_other)] == [0, 1, 2, 3, 4, 5]


def test_unsubscribing_ends_only_that_subscription(world: World) -> None:
    session, sink, _ = world.join()
    world.subscribe(session, "sites/#")
    world.subscribe(session, "sites/oslo/fan-4/power")
    world.device("sensors/oslo/fan-4/power", b"1")
    world.namespace.unsubscribe(session, "sites/#")
    world.device("sensors/oslo/fan-4/power", b"2")
    world.namespace.unsubscribe(session, "sites/oslo/fan-4/power")
    world.device("sensors/oslo/fan-4/power", b"3")
    assert [sent["data"] for sent in messages(sink)] == [1, 2]
    with pytest.raises(BadMessage, match="subscribed to"):
        world.namespace.unsubscribe(session, "sites/#")


def test_subscribing_gives_the_last_value_of_each_topic(world: World) -> None:
    session, sink, _ = world.join()
    for payload in (b"ON", b"OFF"):
        world.device("lamps/hall", payload)
    world.device("lamps/attic", b"ON")
    world.device("sensors/oslo/fan-4/power", b"7")
    world.subscribe(session, "lamps/all")
    (answer,) = sink.take()
    last = cast(list[dict[str, object]], answer["last"])
    assert [(message["topic"], message["data"]) for message in last] == [("lamps/hall", "OFF"), ("lamps/attic", "ON")]
    assert answer["cursor"] == "epoch-4"
    assert len(world.last("#")) == 3


def test_no_last_value_is_kept_where_the_route_says_so(world: World) -> None:
    world.device("fleeting/x", b"1")
    assert world.last("#") == []


def test_last_values_are_bounded_and_the_stalest_goes_first() -> None:
    world = make_world(Limits(last_values=2))
    for name in ("a", "b", "a", "c"):
        world.device(f"sensors/s/{name}/m", b"1")
    assert [message.room for message in world.last("#")] == ["sites/s/a/m", "sites/s/c/m"]
    assert world.counters.drops["last_value_evicted"] == 1
    assert world.log.last_values == 2


def test_an_empty_payload_takes_the_last_value_back(world: World) -> None:
    session, sink, _ = world.join()
    world.subscribe(session, "#")
    world.device("sensors/s/d/m", b"1")
    world.device("sensors/s/d/m", b"")
    assert [sent["data"] for sent in messages(sink)] == [1, None]
    assert world.last("#") == []


def test_a_retained_message_is_marked_and_not_told_again_after_a_reconnection(world: World) -> None:
    session, sink, _ = world.join()
    world.subscribe(session, "#")
    world.device("sensors/s/d/m", b"1", retained=True)
    world.device("sensors/s/d/m", b"1", retained=True)
    world.device("sensors/s/d/m", b"2", retained=True)
    assert [(sent["data"], sent["retained"]) for sent in messages(sink)] == [(1, True), (2, True)]
    assert world.counters.drops["retained_known"] == 1


def test_a_bad_payload_is_counted_and_harms_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    session, sink, _ = world.join()
    world.subscribe(session, "#")
    for _ in range(100):
        world.device("sensors/s/d/m", b"{")
    world.device("sensors/s/d/m", b"1")
    assert [sent["data"] for sent in messages(sink)] == [1]
    assert world.counters.drops["bad_payload"] == 100
    assert len(caplog.records) == 5
    assert "sensors/s/d/m" in caplog.text


def test_a_browsers_data_goes_to_the_device_with_the_routes_quality_of_service(world: World) -> None:
    answers: list[TidegateError | None] = []
    world.namespace.publish(Sending("devices/fan-4/commands", {"on": True}), answers.append)
    assert world.upstream.published == [("commands/fan-4", b'{"on":true}', 1, True)]
    assert answers == [None]


def test_all_routes_of_a_room_are_served_and_answered_once_with_the_error() -> None:
    world = make_world(routes=ROUTES)
    world.upstream.error = UpstreamTimeout("late")
    answers: list[TidegateError | None] = []
    world.namespace.publish(Sending("devices/fan-4/commands", "on"), answers.append)
    assert [topic for topic, *_ in world.upstream.published] == ["commands/fan-4", "copies/fan-4"]
    assert answers == [world.upstream.error]


def test_nothing_is_sent_if_one_of_several_routes_cant_take_the_data() -> None:
    world = make_world(routes=ROUTES)
    with pytest.raises(BadMessage):
        world.namespace.publish(Sending("devices/fan-4/commands", {"on": True}), lambda _: None)
    assert world.upstream.published == []


def test_a_browser_cant_write_where_devices_do(world: World) -> None:
    with pytest.raises(ReadOnly):
        world.namespace.publish(Sending("sites/oslo/fan-4/power", 1), lambda _: None)


def test_a_room_without_a_route_is_between_browsers(world: World) -> None:
    session, sink, _ = world.join()
    world.subscribe(session, "chat/hall")
    world.namespace.publish(Sending("chat/hall", "hi", sender="s1"), lambda _: None)
    (sent,) = messages(sink)
    assert (sent["data"], sent["from"]) == ("hi", {"session": "s1"})
    assert "topic" not in sent


@pytest.mark.parametrize("room", ["", "a/+", "#", "a//b", "$SYS/x"])
def test_publishing_needs_one_room(world: World, room: str) -> None:
    with pytest.raises(BadMessage, match="room: "):
        world.namespace.publish(Sending(room, 1), lambda _: None)


def test_a_session_that_ends_leaves_nothing_behind(world: World) -> None:
    session, sink, _ = world.join()
    for room in ("a", "a/#", "+/b"):
        world.subscribe(session, room)
    session.end(ShuttingDown("going"))
    session.end(ShuttingDown("twice"))
    world.namespace.publish(Sending("a/b", 1), lambda _: None)
    bye = sink.take()[-1]
    assert bye == {"type": "bye", "code": "shutting_down", "reason": "going", "retry": True}
    assert sink.closed == (1012, "shutting_down")
    assert world.namespace.sessions == {}
    assert len(world.namespace._hub) == 0
    assert world.counters.closed["shutting_down"] == 1


def test_a_session_that_left_by_itself_is_told_nothing(world: World) -> None:
    session, sink, _ = world.join()
    session.end()
    assert sink.take() == []
    assert sink.closed is None


ROOM = st.sampled_from(["a", "a/b", "a/c", "b/b"])
WANTED = st.sampled_from(["a", "a/b", "a/+", "a/#", "#", "+/b"])
STEP = st.one_of(
    st.tuples(st.just("subscribe"), st.integers(0, 2), WANTED),
    st.tuples(st.just("unsubscribe"), st.integers(0, 2), WANTED),
    st.tuples(st.just("end"), st.integers(0, 2), st.just("")),
    st.tuples(st.just("publish"), st.just(0), ROOM),
)


@given(st.lists(STEP, max_size=40))
def test_everyone_gets_what_they_are_subscribed_to_once_and_in_order(steps: list[tuple[str, int, str]]) -> None:
    world = make_world(routes=[])
    people = [world.join() for _ in range(3)]
    wanted: list[set[str]] = [set() for _ in people]
    expected: list[list[object]] = [[] for _ in people]
    for number, (what, who, room) in enumerate(steps):
        session, _, _ = people[who]
        if what == "publish":
            world.namespace.publish(Sending(room, number), lambda _: None)
            for filters, given_ in zip(wanted, expected, strict=True):
                if any(filter_matches(wish, room) for wish in filters):
                    given_.append(number)
        elif session.ended:
            continue
        elif what == "subscribe":
            world.subscribe(session, room)
            wanted[who].add(room)
        elif what == "unsubscribe" and room in wanted[who]:
            world.namespace.unsubscribe(session, room)
            wanted[who].discard(room)
        elif what == "end":
            session.end()
            wanted[who].clear()
    for (_, sink, _), given_ in zip(people, expected, strict=True):
        assert [sent["data"] for sent in messages(sink)] == given_
