import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.carrier_frames import binary_frame
from bridges.mqtt_websocket_frames import Framings, Outgoing, Told
from bridges.mqtt_websocket_packets import PacketReader, Publish
from bridges.mqtt_websocket_topics import Topics
from gateway.core import wire
from gateway.core.message import Message
from gateway.core.routes import PayloadKind, RouteSpec
from gateway.core.routing import RoutingTable

ROUTES = [
    RouteSpec("s/{name}", "rooms/{name}", payload=PayloadKind.JSON),
    RouteSpec("s/{name}", "copies/{name}"),
    RouteSpec("a/{name}", "auto/{name}"),
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**60), 2**60)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def framings(version: int = 5) -> Framings:
    return Framings(version, Topics(RoutingTable(ROUTES, ["embedded"])), lambda packet: packet)


def message(data: bytes, room: str = "rooms/a", topic: str | None = "s/a", **fields: object) -> Message:
    return Message(room, data, "epoch", 7, 1.5, topic, **fields)  # type: ignore[arg-type]


def told(said: Message, version: int = 5) -> Told:
    frame = framings(version).frame("message", wire.encode_message(said), said.cursor)
    assert isinstance(frame, Told)
    return frame


def published(frame: bytes, version: int = 5) -> Publish:
    reader = PacketReader(100_000)
    reader.version = version
    reader.feed(frame)
    found = reader.next()
    assert found is not None
    assert isinstance(found[0], Publish)
    return found[0]


@settings(max_examples=40)
@given(JSON, st.sampled_from([4, 5]), st.sampled_from([None, 'a user "data":1,"cursor":"']))
def test_what_a_device_said_in_json_is_said_as_it_was(value: object, version: int, user: str | None) -> None:
    raw = orjson.dumps(value, option=orjson.OPT_INDENT_2).replace(b"\n", b" ")

    found = published(told(message(raw, user=user), version), version)

    assert (found.topic, found.payload, found.qos, found.retain) == ("s/a", raw, 0, False)


@settings(max_examples=30)
@given(st.lists(JSON, max_size=3))
def test_last_values_are_told_as_they_were(values: list[object]) -> None:
    raw = [orjson.dumps(value, option=orjson.OPT_INDENT_2).replace(b"\n", b" ") for value in values]
    said = wire.encode_subscribed(1, 'x"last":[', None, [message(data) for data in raw], recovered=False)

    found: list[Outgoing] = list(framings().last(said))

    assert [each.payload for each in found] == raw


def test_a_value_of_any_depth_is_told() -> None:
    deep = b"[" * 1000 + b"]" * 1000
    said = wire.encode_subscribed(1, "rooms/a", None, [message(deep)], recovered=False)
    assert [each.payload for each in framings().last(said)] == [deep]


@pytest.mark.parametrize(
    ("data", "fields", "payload"),
    [
        (b'"hi"', {"room": "auto/a", "topic": "a/a"}, b"hi"),  # text, of a route that takes anything
        (b'"hi"', {"room": "rooms/a"}, b'"hi"'),  # JSON is JSON
        (b'"AAE="', {"room": "auto/a", "topic": "a/a", "binary": True}, b"\0\1"),
        (b'"hi"', {"room": "chat", "topic": None}, b"hi"),
        (b'{"a": 1.50}', {"room": "chat", "topic": None}, b'{"a": 1.50}'),
    ],
)
def test_payloads_are_what_a_device_would_send(data: bytes, fields: dict[str, object], payload: bytes) -> None:
    assert published(told(message(data, **fields))).payload == payload  # type: ignore[arg-type]


def test_a_message_without_a_topic_has_its_rooms_name() -> None:
    assert published(told(message(b"1", "chat/a", None))).topic == "chat/a"


def test_5_is_told_the_cursor() -> None:
    assert list(published(told(message(b"1"))).properties.values()) == [[("cursor", "epoch-7")]]


def test_of_a_message_in_several_rooms_only_the_first_has_the_devices_topic() -> None:
    first, second = told(message(b"1", "rooms/a")).message, told(message(b"1", "copies/a")).message

    assert (first.name(by_room=False), second.name(by_room=False)) == ("s/a", None)
    assert second.name(by_room=True) == "copies/a"


@given(st.binary(max_size=70_000))
def test_a_frame_has_its_size(payload: bytes) -> None:
    frame = binary_frame(payload)
    size = len(payload)
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert (frame[0], len(frame)) == (0x82, head + size)
    assert frame[head:] == payload
