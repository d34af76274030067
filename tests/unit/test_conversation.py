import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import UpstreamUnavailable, error_table
from gateway.core.limits import Limits
from tests.unit.conftest import World, make_world
from tests.unit.test_wire import JSON


def say(**fields: object) -> str:
    return orjson.dumps(fields).decode()


def test_welcome_says_what_the_client_may_do(world: World) -> None:
    session, sink, conversation = world.join()
    conversation.greet(25)
    (welcome,) = sink.take()
    assert welcome["session"] == session.id
    assert welcome["heartbeat_seconds"] == 25
    assert welcome["limits"] == {
        "message_bytes": 65536,
        "messages_per_second": 20,
        "messages_burst": 120,
        "bytes_per_second": 262144,
        "subscriptions": 100,
        "requests_in_flight": 100,
        "idle_seconds": None,
        "bytes_per_second_out": None,
    }


def test_every_request_with_an_id_gets_one_answer(world: World) -> None:
    _, sink, conversation = world.join()
    conversation.receive(say(type="subscribe", room="a", id=1))
    conversation.receive(say(type="publish", room="devices/x/commands", data=1, id=2))
    conversation.receive(say(type="unsubscribe", room="a", id=3))
    conversation.receive(say(type="ping", id=4))
    conversation.receive(say(type="nonsense", id=5))
    conversation.receive(say(type="publish", room="#", data=1, id=6))
    answers = [(answer["type"], answer["id"]) for answer in sink.take()]
    assert answers == [("subscribed", 1), ("ack", 2), ("ack", 3), ("pong", 4), ("error", 5), ("error", 6)]


def test_without_an_id_only_errors_and_what_was_asked_for_come(world: World) -> None:
    _, sink, conversation = world.join()
    conversation.receive(say(type="publish", room="devices/x/commands", data=1))
    assert sink.take() == []
    conversation.receive(say(type="publish", room="#", data=1))
    (error,) = sink.take()
    assert error["code"] == "bad_message"


def test_an_upstreams_error_reaches_the_client_that_published(world: World) -> None:
    world.upstream.error = UpstreamUnavailable("gone")
    _, sink, conversation = world.join()
    conversation.receive(say(type="publish", room="devices/x/commands", data=1, id="p"))
    (error,) = sink.take()
    assert (error["id"], error["code"], error["message"]) == ("p", "upstream_unavailable", "gone")


def test_a_binary_frame_is_refused(world: World) -> None:
    _, sink, conversation = world.join()
    conversation.receive(b"{}")
    assert sink.take()[0]["code"] == "bad_message"


def test_too_many_messages_get_the_named_error_then_the_connection_is_closed() -> None:
    world = make_world(Limits(messages_per_second=1, messages_burst=2, refusals=3))
    _, sink, conversation = world.join()
    for number in range(10):
        conversation.receive(say(type="ping", id=number))
    answers = sink.take()
    assert [answer["type"] for answer in answers] == ["pong", "pong", "error", "error", "error", "bye"]
    assert {answer["code"] for answer in answers[2:]} == {"rate_limited"}
    assert answers[2]["retry_after_seconds"] == 1
    assert sink.closed == (4429, "rate_limited")
    assert world.counters.refusals["rate_limited"] == 3


def test_a_client_that_heeds_the_error_stays() -> None:
    world = make_world(Limits(messages_per_second=1, messages_burst=1, refusals=2))
    _, sink, conversation = world.join()
    for _ in range(10):
        conversation.receive(say(type="ping"))
        conversation.receive(say(type="ping"))
        world.clock.now += 1
    assert sink.closed is None


def test_too_many_subscriptions_get_the_named_error_then_the_connection_is_closed() -> None:
    world = make_world(Limits(subscriptions_per_connection=2, refusals=2))
    _, sink, conversation = world.join()
    for room in ("a", "b", "a", "c", "d"):
        conversation.receive(say(type="subscribe", room=room))
    assert [answer.get("code", answer["type"]) for answer in sink.take()] == [
        *["subscribed"] * 3,
        "too_many_subscriptions",
        "too_many_subscriptions",
        "rate_limited",
    ]
    assert sink.closed == (4429, "rate_limited")


def test_too_large_a_message_gets_the_named_error_and_closes() -> None:
    world = make_world(Limits(message_bytes=100))
    _, sink, conversation = world.join()
    conversation.receive(say(type="ping", id="é" * 60))
    assert [answer["type"] for answer in sink.take()] == ["error", "bye"]
    assert sink.closed == (1009, "message_too_large")


@pytest.mark.parametrize("room", ["devices/x/commands", "chat/x"])
def test_data_that_is_nested_too_deeply_is_refused_by_name(world: World, room: str) -> None:
    _, sink, conversation = world.join()
    conversation.receive(f'{{"type":"publish","room":"{room}","id":1,"data":{"[" * 500}{"]" * 500}}}')
    (error,) = sink.take()
    assert (error["code"], error["id"]) == ("bad_message", 1)
    assert "depth" in str(error["message"])


def test_a_fault_of_the_gateways_ends_only_the_session_that_met_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, sink, conversation = world.join()
    other, *_ = world.join()
    monkeypatch.setattr(world.namespace, "unsubscribe", lambda *_: 1 / 0)
    conversation.receive(say(type="unsubscribe", room="a"))
    assert sink.closed == (1011, "internal_error")
    assert not other.ended
    assert "ZeroDivisionError" in caplog.text


def test_what_comes_after_the_end_is_not_answered(world: World) -> None:
    session, sink, conversation = world.join()
    session.end()
    conversation.receive(say(type="ping", id=1))
    assert sink.take() == []


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.text(max_size=40),
            JSON.map(lambda value: orjson.dumps(value).decode()),
            st.fixed_dictionaries(
                {"type": st.sampled_from(["subscribe", "unsubscribe", "publish", "request", "ping"])},
                optional={"id": JSON, "room": st.text(max_size=10) | JSON, "data": JSON, "since": JSON},
            ).map(lambda value: orjson.dumps(value).decode()),
        ),
        max_size=15,
    )
)
def test_no_frame_raises_and_every_answer_is_from_the_table(frames: list[bytes | str]) -> None:
    world = make_world()
    _, sink, conversation = world.join()
    codes = {error.code for error in error_table()} - {"internal_error"}
    for frame in frames:
        before = len(sink.written)
        conversation.receive(frame)
        for answer in sink.written[before:]:
            assert answer["type"] in ("subscribed", "ack", "pong", "message", "bye") or answer["code"] in codes


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_new_session_may_subscribe_to_as_many_rooms_as_it_may_have(one_by_one: bool) -> None:
    world = make_world(Limits())
    session, sink, conversation = world.join()
    rooms = [f"r{number}" for number in range(Limits().subscriptions_per_connection)]
    for room in rooms if one_by_one else [rooms]:
        conversation.receive(say(type="subscribe", room=room))
    assert [said["type"] for said in sink.take()] == ["subscribed"] * len(rooms)
    assert len(session.rooms) == len(rooms)
