from base64 import b64decode, b64encode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.socketio_framing import NamespaceFraming
from bridges.websocket import SPEECHES
from gateway.core.errors import BadMessage
from gateway.core.json_depth import MAXIMUM_DEPTH
from gateway.core.message import Message
from gateway.core.payload import Payload, PayloadError, decode, encode
from gateway.core.routes import PayloadKind
from gateway.core.wire import encode_message, encode_subscribed

KINDS = st.sampled_from(PayloadKind)


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        (PayloadKind.JSON, b'{"a": [1, 2.50]}', Payload(b'{"a": [1, 2.50]}')),
        (PayloadKind.JSON, b'{"a":\r\n 1}', Payload(b'{"a":   1}')),
        (PayloadKind.JSON, b"", Payload(b"null")),
        (PayloadKind.TEXT, b"21.5", Payload(b'"21.5"')),
        (PayloadKind.TEXT, b"", Payload(b'""')),
        (PayloadKind.BYTES, b"\x00\xff", Payload(b'"AP8="', binary=True)),
        (PayloadKind.AUTO, b"21.5", Payload(b"21.5")),
        (PayloadKind.AUTO, b"ON", Payload(b'"ON"')),
        (PayloadKind.AUTO, b"\xff\xfe", Payload(b'"//4="', binary=True)),
    ],
)
def test_payload_is_decoded_as_its_route_says(kind: PayloadKind, raw: bytes, expected: Payload) -> None:
    assert decode(kind, raw) == expected


@pytest.mark.parametrize("raw", [b"{", b"NaN", b"'a'", b"{} {}", b"\xff", b'"\\ud800"'])
def test_bad_json_is_refused(raw: bytes) -> None:
    with pytest.raises(PayloadError, match="expected JSON"):
        decode(PayloadKind.JSON, raw)


def test_text_that_isnt_utf8_is_refused_with_the_place() -> None:
    with pytest.raises(PayloadError, match="byte 2 is 0xff"):
        decode(PayloadKind.TEXT, b"ab\xff")


@given(KINDS, st.binary(max_size=200))
def test_whatever_a_device_sends_browsers_get_one_line_of_json_or_nothing(kind: PayloadKind, raw: bytes) -> None:
    try:
        payload = decode(kind, raw)
    except PayloadError:
        return
    value = orjson.loads(payload.data)
    assert b"\n" not in payload.data
    assert b"\r" not in payload.data
    if payload.binary:
        assert b64decode(value) == raw


@given(st.text())
def test_text_survives_the_way_there_and_back(text: str) -> None:
    raw = encode(PayloadKind.TEXT, text, binary=False)
    assert orjson.loads(decode(PayloadKind.TEXT, raw).data) == text


@given(st.binary())
def test_bytes_survive_the_way_there_and_back(raw: bytes) -> None:
    assert encode(PayloadKind.BYTES, b64encode(raw).decode(), binary=False) == raw
    assert encode(PayloadKind.JSON, b64encode(raw).decode(), binary=True) == raw


def test_auto_sends_a_string_as_it_is_and_all_else_as_json() -> None:
    assert encode(PayloadKind.AUTO, "ON", binary=False) == b"ON"
    assert encode(PayloadKind.AUTO, {"on": True}, binary=False) == b'{"on":true}'
    assert encode(PayloadKind.JSON, "ON", binary=False) == b'"ON"'


@pytest.mark.parametrize(
    ("kind", "data", "binary"),
    [
        (PayloadKind.TEXT, 5, False),
        (PayloadKind.BYTES, "not base64!", False),
        (PayloadKind.BYTES, 5, False),
        (PayloadKind.JSON, "%%%", True),
    ],
)
def test_data_that_isnt_what_the_route_says_is_refused_by_name(kind: PayloadKind, data: object, binary: bool) -> None:
    with pytest.raises(BadMessage, match="data: expected a string"):
        encode(kind, data, binary=binary)


def nested(depth: int, within: bytes = b"") -> bytes:
    return b"[" * depth + within + b"]" * depth


@pytest.mark.parametrize("leaf", [b"", b'{"a":1}', b'"[[[["', b",".join([b"[]"] * 300)])
def test_json_has_so_many_levels_and_no_more(leaf: bytes) -> None:
    fits = MAXIMUM_DEPTH - (0 if leaf in (b"", b'"[[[["') else 1)
    taken = nested(fits, leaf)
    assert decode(PayloadKind.JSON, taken).data == taken
    assert encode(PayloadKind.JSON, orjson.loads(taken), binary=False)
    with pytest.raises(PayloadError, match="levels"):
        decode(PayloadKind.JSON, nested(fits + 1, leaf))
    with pytest.raises(BadMessage, match="levels"):
        encode(PayloadKind.JSON, orjson.loads(nested(fits + 1, leaf)), binary=False)


def test_the_deepest_data_can_be_told_in_every_way() -> None:
    """As a message, and as a last value."""
    for depth in (MAXIMUM_DEPTH, MAXIMUM_DEPTH + 1, 1000):
        data = decode(PayloadKind.AUTO, nested(depth)).data
        message = Message("r", data, "e", 1, 0.0)
        text = encode_message(message)
        subscribed = encode_subscribed(None, "r", "e-1", [message], recovered=True)
        for framing in (
            *(speech.framing for speech in SPEECHES.values()),
            NamespaceFraming("/", lambda *_: False).frame,
        ):
            framing("message", text, "e-1")
            framing("subscribed", subscribed, None)
