"""Payloads without a protocol: cut out of what everybody gets as they were written, and read back from frames."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.carrier_frames import binary_frame, text_frame, whole_frames
from bridges.websocket_payloads import compressing, payload_frames, payloads, read_payload
from bridges.websocket_raw import RawClient, close_code
from gateway.core import wire
from gateway.core.access import Access, AccessRule, Action
from gateway.core.connections import ConnectionLimiter
from gateway.core.errors import BadMessage, Forbidden, SlowConsumer, UpstreamUnavailable
from gateway.core.limits import Limits
from gateway.core.message import Message
from gateway.core.payload import decode
from gateway.core.role_limits import RoleLimits
from gateway.core.routing import Direction, PayloadKind, RouteSpec
from tests.unit.conftest import ListSink, World, make_world

TRICKY = st.one_of(
    st.text(),
    st.sampled_from(['","cursor":"x', '"data":1', ',"binary":true}', '"last":[{', '}]}{["', "\\", '\\"']),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), TRICKY),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TRICKY, inner, max_size=3)),
    max_leaves=8,
)


def message(data: bytes, binary: bool = False, **more: Any) -> Message:
    return Message(more.pop("room", "r"), data, "e", 7, 1.5, binary=binary, **more)


@given(JSON, TRICKY, st.one_of(st.none(), TRICKY), st.one_of(st.none(), TRICKY))
def test_a_payload_is_cut_out_as_it_was_written(data: Any, room: str, topic: str | None, user: str | None) -> None:
    raw = orjson.dumps(data)
    text = wire.encode_message(message(raw, room=room, topic=topic, user=user))
    expected = data.encode() if isinstance(data, str) else raw
    assert list(payloads("message", text)) == [(True, expected)]


@given(st.binary(), TRICKY)
def test_bytes_come_as_bytes(raw: bytes, user: str) -> None:
    payload = decode(PayloadKind.BYTES, raw)
    text = wire.encode_message(message(payload.data, payload.binary, user=user))
    assert list(payloads("message", text)) == [(False, raw)]


@given(st.lists(JSON, max_size=4), TRICKY)
def test_last_values_are_the_first_frames(values: list[Any], room: str) -> None:
    last = [message(orjson.dumps(value), room=room) for value in values]
    text = wire.encode_subscribed("id", room, "e-1", last, recovered=False)
    expected = [value.encode() if isinstance(value, str) else orjson.dumps(value) for value in values]
    assert [payload for _, payload in payloads("subscribed", text)] == expected


def test_numbers_keep_the_form_that_their_sender_gave_them() -> None:
    raw = b'{"a": 1.50, "big": 123456789012345678901234567890}'
    assert list(payloads("message", wire.encode_message(message(raw)))) == [(True, raw)]


@pytest.mark.parametrize("kind", ["welcome", "bye", "error", "joined", "upstream"])
def test_what_is_no_message_is_not_said(kind: str) -> None:
    assert payload_frames(kind, b'{"type":"x","data":1}') == b""


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), max_size=4), st.integers(65_530, 65_540))
def test_frames_are_read_back(pieces: list[tuple[bool, bytes]], size: int) -> None:
    pieces = [*pieces, (True, b"x" * size)]
    data = b"".join(text_frame(payload) if is_text else binary_frame(payload) for is_text, payload in pieces)
    assert list(whole_frames(data)) == pieces


def test_large_payloads_are_compressed_and_small_ones_are_not() -> None:
    text = wire.encode_message(message(b'"' + b"x" * 500 + b'"'))
    assert len(compressing(100)("message", text, None)) < 60
    assert compressing(501)("message", text, None) == payload_frames("message", text)


def test_frames_are_json_where_they_are_json_and_else_text() -> None:
    assert read_payload('{"a": 1}', {PayloadKind.JSON}) == ({"a": 1}, False)
    assert read_payload("on", set()) == ("on", False)
    assert read_payload("42", {PayloadKind.TEXT}) == ("42", False)
    assert read_payload("42", {PayloadKind.BYTES, PayloadKind.JSON}) == ("NDI=", True)
    assert read_payload(b"\x00\xff", set()) == ("AP8=", True)


ROUTES = [
    RouteSpec("text/{name}", "text/{name}", Direction.BOTH, PayloadKind.TEXT),
    RouteSpec("json/{name}", "json/{name}", Direction.BOTH, PayloadKind.JSON),
    RouteSpec("sensors/{name}", "sensors/{name}"),
]


def client(world: World, room: str | None = "chat/x", **options: Any) -> tuple[RawClient, ListSink]:
    sink = ListSink()
    seat = ConnectionLimiter(RoleLimits(Limits())).acquire("192.0.2.1")
    session = world.namespace.open("raw", sink, seat=seat, **options)
    return RawClient(session, world.namespace, world.counters, room), sink


def test_what_comes_is_published_as_the_room_has_it() -> None:
    world = make_world(routes=ROUTES)
    for room, frame in (("text/a", "42"), ("json/a", "42"), ("json/a", "on")):
        client(world, room)[0].receive(frame)
    assert [sent[:2] for sent in world.upstream.published] == [
        ("text/a", b"42"),
        ("json/a", b"42"),
        ("json/a", b'"on"'),
    ]
    assert (world.counters.published["raw"], world.counters.received_bytes["raw"]) == (3, 6)


@pytest.mark.parametrize(("room", "code"), [(None, "bad_message"), ("sensors/a", "read_only")])
def test_what_can_never_be_published_closes(room: str | None, code: str) -> None:
    world = make_world(routes=ROUTES)
    raw, sink = client(world, room)
    raw.receive("1")
    assert sink.closed is not None
    assert (close_code(*sink.closed), sink.closed[1], world.counters.refusals[code]) == (1008, code, 1)
    raw.receive("2")
    assert world.counters.refusals[code] == 1


def test_what_is_not_allowed_any_more_closes() -> None:
    world = make_world()
    raw, sink = client(world)
    rule = AccessRule(frozenset("*"), {Action.SUBSCRIBE: ("#",)})
    world.namespace.reconfigure(Access([rule]), lambda identity: identity)
    raw.receive("1")
    assert sink.closed is not None
    assert sink.closed[1] == "forbidden"


def test_a_broker_that_is_away_is_told_by_another_code() -> None:
    world = make_world(routes=ROUTES)
    world.upstream.error = UpstreamUnavailable("away")
    raw, sink = client(world, "json/a")
    raw.receive("1")
    assert sink.closed is not None
    assert (close_code(*sink.closed), sink.closed[1]) == (1013, "upstream_unavailable")


def test_what_comes_too_fast_is_dropped_and_counted_and_at_last_closes() -> None:
    world = make_world(Limits(messages_per_second=1, messages_burst=3, refusals=4))
    raw, sink = client(world)
    for _ in range(6):
        raw.receive("1")
    assert (sink.closed, world.counters.refusals["rate_limited"], world.counters.published["raw"]) == (None, 3, 3)
    raw.receive("1")
    assert sink.closed == (4429, "rate_limited")


def test_too_large_a_payload_closes() -> None:
    world = make_world(Limits(message_bytes=10))
    raw, sink = client(world)
    raw.receive("x" * 11)
    assert sink.closed == (1009, "message_too_large")


def test_a_client_that_leaves_gives_its_seat_back(world: World) -> None:
    raw, _ = client(world)
    (session,) = world.namespace.sessions.values()
    raw.closed(offended=False)
    assert session.seat is not None
    assert (session.ended, session.seat._limiter) == (True, None)


def test_close_codes_are_those_of_errors_where_they_have_one() -> None:
    assert close_code(1000, Forbidden.code) == 1008
    assert close_code(1000, BadMessage.code) == 1008
    assert close_code(4408, SlowConsumer.code) == 4408
    assert close_code(1000, "") == 1000
