"""Requests from a client's frame to the device and back, without I/O."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.conversation import Conversation
from gateway.core.counters import Counters
from gateway.core.errors import (
    BadMessage,
    NotRequestable,
    TidegateError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.core.intake import Intake
from gateway.core.limits import Limits
from gateway.core.routing import Direction, PayloadKind, RouteSpec
from tests.unit.conftest import ListSink, World, make_world
from tests.unit.test_conversation import say

LINE = "commands/x/reply"
ROUTES = [
    RouteSpec(
        "commands/{device}",
        "devices/{device}",
        Direction.TO_DEVICE,
        PayloadKind.JSON,
        qos=1,
        retain=True,
        reply="commands/{device}/reply",
    ),
    RouteSpec("modern/{device}", "modern/{device}", Direction.TO_DEVICE, PayloadKind.TEXT),
    RouteSpec("raw/{device}", "raw/{device}", Direction.TO_DEVICE, PayloadKind.BYTES, reply="raw/{device}/reply"),
    RouteSpec("twice/a/{device}", "twice/{device}", Direction.TO_DEVICE),
    RouteSpec("twice/b/{device}", "twice/{device}", Direction.TO_DEVICE),
    RouteSpec("sensors/{device}", "sensors/{device}"),
    RouteSpec("wide/{a}/{b}/{c}", "wide/{a}/{b}/{c}", Direction.TO_DEVICE, reply="{a}/{b}/{c}/x/y"),
]


@pytest.fixture
def world() -> World:
    return request_world()


def request_world(limits: Limits | None = None) -> World:
    world = make_world(limits, ROUTES)
    world.upstream.answer_at_once = False
    return world


def ask(talk: Conversation, room: str = "devices/x", **fields: object) -> None:
    talk.receive(say(**{"type": "request", "room": room, "id": 1, "data": {"on": True}, **fields}))


def take_one(sink: ListSink) -> dict[str, object]:
    (answer,) = sink.take()
    return answer


def reply(world: World, payload: bytes = b'{"on":true}', topic: str = LINE, correlation: bytes | None = None) -> bool:
    return world.namespace.requests.receive("embedded", topic, payload, correlation)


def test_a_request_gets_the_devices_answer(world: World) -> None:
    _, sink, talk = world.join()
    ask(talk)
    assert world.upstream.published == [("commands/x", b'{"on":true}', 1, False)]
    assert sink.take() == []
    assert reply(world)
    assert take_one(sink) == {"type": "reply", "id": 1, "data": {"on": True}}
    assert world.counters.drops == {}


def test_a_request_is_never_retained_though_its_route_says_so(world: World) -> None:
    _, _, talk = world.join()
    ask(talk)
    assert world.upstream.published[0][3] is False


def test_a_request_bears_where_and_how_to_answer(world: World) -> None:
    world.upstream.reply_topic = "tidegate/replies/1"
    _, sink, talk = world.join()
    ask(talk, "modern/x", data="hello", timeout_seconds=5)
    ask(talk, id=2)
    first, second = world.upstream.replies_to
    assert first is not None
    assert second is not None
    assert (first.topic, first.expires_seconds) == ("tidegate/replies/1", 5)
    assert (second.topic, second.expires_seconds) == (LINE, 10)
    assert len({first.correlation, second.correlation}) == 2
    assert len(first.correlation) == 16
    reply(world, b"hi", "tidegate/replies/1", first.correlation)
    assert take_one(sink) == {"type": "reply", "id": 1, "data": "hi"}
    reply(world, b"7", LINE, second.correlation)
    assert take_one(sink) == {"type": "reply", "id": 2, "data": 7}


def test_an_answer_is_decoded_by_the_routes_payload(world: World) -> None:
    _, sink, talk = world.join()
    ask(talk, "raw/x", data="AAE=", binary=True)
    assert world.upstream.published[0][1] == b"\x00\x01"
    reply(world, b"\xff", "raw/x/reply")
    assert take_one(sink) == {"type": "reply", "id": 1, "data": "/w==", "binary": True}


def test_an_answer_that_isnt_the_routes_payload_is_a_named_error(world: World) -> None:
    _, sink, talk = world.join()
    ask(talk)
    reply(world, b"{")
    answer = take_one(sink)
    assert (answer["type"], answer["code"], answer["id"]) == ("error", "bad_reply", 1)


def test_late_foreign_and_duplicate_answers_are_counted_and_harm_nothing(world: World) -> None:
    world.upstream.reply_topic = "tidegate/replies/1"
    _, sink, talk = world.join()
    ask(talk, "modern/x", data="a")
    asked = world.upstream.replies_to[0]
    assert asked is not None
    assert reply(world, b"hi", "tidegate/replies/1", b"foreign")
    assert reply(world, b"hi", "tidegate/replies/1", None)
    reply(world, b"hi", "tidegate/replies/1", asked.correlation)
    reply(world, b"hi", "tidegate/replies/1", asked.correlation)
    ask(talk, "modern/x", data="b", id=2, timeout_seconds=1)
    world.clock.advance(1)
    late = world.upstream.replies_to[1]
    assert late is not None
    reply(world, b"hi", "tidegate/replies/1", late.correlation)
    assert reply(world)
    assert world.counters.drops == {"unmatched_reply": 5}
    assert [(answer["id"], answer["type"]) for answer in sink.take()] == [(1, "reply"), (2, "error")]


def test_the_time_a_device_has_is_the_clients_within_bounds(world: World) -> None:
    _, sink, talk = world.join()
    ask(talk, timeout_seconds=1.5)
    world.clock.advance(1.4)
    assert sink.take() == []
    world.clock.advance(0.1)
    answer = take_one(sink)
    assert (answer["code"], answer["message"]) == ("request_timeout", "the device did not answer within 1.5 s")


@pytest.mark.parametrize("wrong", [0, -1, 61, "5", True, []])
def test_other_times_are_refused(world: World, wrong: object) -> None:
    _, sink, talk = world.join()
    ask(talk, timeout_seconds=wrong)
    answer = take_one(sink)
    assert answer["code"] == "bad_message"
    assert "timeout_seconds: expected a number" in str(answer["message"])
    assert world.upstream.published == []


def test_a_time_that_is_no_number_is_refused(world: World) -> None:
    with pytest.raises(BadMessage):
        world.namespace.requests.send("x", "devices/x", 1, print, timeout_seconds=float("nan"))


def test_without_a_time_a_device_has_ten_seconds_or_the_longest_that_is_allowed() -> None:
    for limits, seconds in ((Limits(), 10), (Limits(request_timeout_max_seconds=3), 3)):
        world = request_world(limits)
        _, sink, talk = world.join()
        ask(talk)
        world.clock.advance(seconds - 0.01)
        assert sink.take() == []
        world.clock.advance(0.01)
        assert take_one(sink)["code"] == "request_timeout"


def test_a_request_needs_an_id(world: World) -> None:
    _, sink, talk = world.join()
    ask(talk, id=None)
    assert "id: expected one" in str(take_one(sink)["message"])


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        ("modern/x", "expected `reply:` in its route, or `protocol: 5` of the upstream embedded"),
        ("twice/x", "2 routes lead from 'twice/x' to a device: expected one"),
        ("sensors/x", "no route leads from 'sensors/x' to a device: expected one"),
        ("chat/x", "no route leads"),
        ("wide/tidegate/replies/1", "is the gateway's own"),
    ],
)
def test_a_room_without_one_device_that_can_answer_is_refused_by_name(world: World, room: str, expected: str) -> None:
    with pytest.raises(NotRequestable, match="expected") as refused:
        world.namespace.requests.send("x", room, "data", print)
    assert expected in refused.value.message
    assert world.upstream.published == []


@pytest.mark.parametrize(
    ("room", "data"),
    [("#", 1), ("raw/x", 5), ("a//b", 1), ("devices/" + "x" * 65_525, 1)],
    ids=lambda given: str(given)[:9],
)
def test_a_bad_room_or_bad_data_is_refused_and_nothing_waits(world: World, room: str, data: object) -> None:
    with pytest.raises(BadMessage):
        world.namespace.requests.send("x", room, data, print)
    assert len(world.namespace.requests) == 0
    assert world.clock.waiting == 0


def test_a_client_may_have_so_many_requests_under_way() -> None:
    world = request_world(Limits(requests_in_flight=2))
    _, sink, talk = world.join()
    for number in range(3):
        ask(talk, id=number)
    answer = take_one(sink)
    assert (answer["id"], answer["code"]) == (2, "too_many_requests")
    _, other, its_talk = world.join()
    ask(its_talk)
    assert other.take() == []


def test_what_a_client_asked_ends_with_its_session(world: World) -> None:
    world.upstream.reply_topic = "tidegate/replies/1"
    session, sink, talk = world.join()
    ask(talk, "modern/x", data="a")
    session.end()
    assert len(world.namespace.requests) == 0
    assert world.clock.waiting == 0
    assert sink.take() == []


def test_a_lost_upstream_fails_what_was_asked_over_it_at_once(world: World) -> None:
    _, sink, talk = world.join()
    ask(talk)
    world.namespace.requests.lost("other")
    assert sink.take() == []
    world.namespace.requests.lost("embedded")
    assert take_one(sink)["code"] == "upstream_unavailable"


def test_shutting_down_answers_what_waits(world: World) -> None:
    told: list[object] = []
    world.namespace.requests.send("x", "devices/x", 1, told.append)
    world.namespace.requests.end(TidegateError("going"))
    assert len(told) == 1


def test_a_request_that_wasnt_sent_keeps_no_place(world: World) -> None:
    world.upstream.answer_at_once, world.upstream.error = True, UpstreamUnavailable("gone")
    _, sink, talk = world.join()
    ask(talk)
    assert take_one(sink)["code"] == "upstream_unavailable"
    assert len(world.namespace.requests) == 0
    assert world.clock.waiting == 0


@pytest.mark.parametrize(
    ("error", "keeps"), [(UpstreamRefused("no"), False), (UpstreamTimeout("?"), True), (UpstreamUnavailable("?"), True)]
)
def test_a_request_keeps_its_place_only_if_the_device_may_have_it(
    world: World, error: TidegateError, keeps: bool
) -> None:
    _, sink, talk = world.join()
    ask(talk)
    world.upstream.waiting[0](error)
    assert take_one(sink)["code"] == error.code
    assert bool(len(world.namespace.requests)) is keeps
    world.upstream.waiting[0](error)
    assert sink.take() == []


def test_an_acknowledgement_is_no_answer_and_may_come_after_it(world: World) -> None:
    _, sink, talk = world.join()
    ask(talk)
    reply(world)
    world.upstream.waiting[0](None)
    world.upstream.waiting[0](UpstreamTimeout("?"))
    assert [answer["type"] for answer in sink.take()] == ["reply"]


def test_what_isnt_an_answer_is_left_to_the_rooms(world: World) -> None:
    assert not reply(world, topic="sensors/x")
    assert not reply(world, topic="nowhere/x")
    assert not reply(world, topic="sensors/x", correlation=b"of somebody else")
    assert world.counters.drops == {}


def test_answers_may_be_for_rooms_too() -> None:
    routes = [ROUTES[0], RouteSpec("commands/{device}/reply", "answers/{device}")]
    world = make_world(routes=routes)
    _, sink, talk = world.join()
    ask(talk)
    intake = Intake([world.namespace], Counters())
    assert not intake.take_answer("embedded", LINE, b"1", None)
    assert take_one(sink)["data"] == 1
    assert not intake.take_answer("embedded", LINE, b"2", None)
    assert (world.counters.drops, intake.counters.device_messages) == ({}, {})


def test_an_answer_goes_to_the_namespace_that_asked_first_and_to_no_other() -> None:
    first, second = make_world(routes=ROUTES), make_world(routes=ROUTES)
    sinks = []
    for world in (second, first):
        _, sink, talk = world.join()
        ask(talk)
        second.clock.now, first.clock.now = second.clock.now + 1, first.clock.now + 1
        sinks.append(sink)
    intake = Intake([first.namespace, second.namespace], Counters())
    for number, sink in enumerate(sinks):
        assert intake.take_answer("embedded", LINE, b"%d" % number, None)
        assert take_one(sink)["data"] == number
        assert all(other.take() == [] for other in sinks)


def test_an_answer_that_no_room_wants_counts_as_a_devices_message_and_goes_no_further() -> None:
    world = make_world(routes=ROUTES)
    _, sink, talk = world.join()
    ask(talk)
    intake = Intake([make_world(routes=ROUTES).namespace, world.namespace], Counters())
    assert intake.take_answer("embedded", LINE, b"1", None)
    assert take_one(sink)["data"] == 1
    assert (intake.counters.device_messages, intake.counters.device_bytes) == ({"embedded": 1}, 1)
    assert not intake.take_answer("embedded", "nowhere/x", b"1", None)


@given(
    st.fixed_dictionaries(
        {"type": st.just("request")},
        optional={
            "id": st.integers(-9, 9) | st.text(max_size=5) | st.none(),
            "room": st.sampled_from(["devices/x", "modern/x", "raw/x", "twice/x", "#", ""]),
            "data": st.none() | st.text(max_size=5) | st.lists(st.integers(0, 9), max_size=2),
            "binary": st.booleans() | st.none(),
            "timeout_seconds": st.floats(allow_nan=False, allow_infinity=False)
            | st.integers(-99, 99)
            | st.text(max_size=3),
        },
    ),
    st.booleans(),
)
def test_every_request_gets_exactly_one_answer(fields: dict[str, object], answers: bool) -> None:
    world = request_world()
    _, sink, talk = world.join()
    talk.receive(orjson.dumps(fields).decode())
    if answers:
        reply(world)
    world.clock.advance(60)
    world.clock.advance(60)
    assert take_one(sink)["type"] in ("reply", "error")
    assert len(world.namespace.requests) == 0
    assert world.clock.waiting == 0
