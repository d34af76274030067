"""The protocol as MessagePack: what JSON says, and bytes as bytes."""

from base64 import b64encode
from contextlib import suppress
from typing import Any

import orjson
import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import wire, wire_msgpack, wire_requests
from gateway.core.errors import BadMessage
from gateway.core.message import Message
from gateway.core.wire_requests import Publish

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def said(text: bytes) -> Any:
    return ormsgpack.unpackb(wire_msgpack.pack("", text))


@given(JSON)
def test_an_object_says_what_it_says_in_json(data: object) -> None:
    text = wire.encode_message(Message("r", orjson.dumps(data), "e", 1, 5.5, "t"))
    assert said(text) == orjson.loads(text)


@given(st.binary(max_size=50))
def test_bytes_are_bytes_also_among_last_values(raw: bytes) -> None:
    message = Message("r", b'"' + b64encode(raw) + b'"', "e", 1, 5.5, binary=True)
    found = said(wire.encode_message(message))
    assert (found["data"], "binary" in found) == (raw, False)
    (last,) = said(wire.encode_subscribed(None, "r", "e-1", [message], recovered=False))["last"]
    assert last["data"] == raw


@given(st.binary(max_size=50))
def test_a_client_sends_bytes_as_bytes(raw: bytes) -> None:
    frame = ormsgpack.packb({"type": "publish", "room": "r", "data": raw})
    request = wire_requests.read(wire_msgpack.parse(frame))
    assert isinstance(request, Publish)
    assert (request.data, request.binary) == (b64encode(raw).decode(), True)


@given(st.one_of(JSON, st.dictionaries(st.sampled_from(["type", "room", "id", "data", "since"]), JSON)))
def test_any_value_is_read_or_refused(value: object) -> None:
    with suppress(BadMessage):
        assert isinstance(wire_requests.read(wire_msgpack.parse(ormsgpack.packb(value))), wire_requests.Request)


@given(st.binary() | st.text())
def test_any_frame_is_parsed_or_refused(frame: bytes | str) -> None:
    with suppress(BadMessage):
        assert isinstance(wire_msgpack.parse(frame), dict)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("{}", "expected a binary frame, found a text one"),
        (b"", "expected a map of MessagePack with strings for keys"),
        (b"\x91\x01", "expected a map of MessagePack such as"),
        (b"\x81\x01\x02", "expected a map of MessagePack with strings for keys"),
        (b"\xdf\xff\xff\xff\xff", "expected a map of MessagePack"),
        (b"\x91" * 5000, "expected a map of MessagePack"),
        (b"\x81\xa1a\xd6\xff\x00\x00\x00\x00", "expected a map of MessagePack"),
    ],
    ids=["text", "nothing", "a list", "a number as key", "four billion pairs", "too deep", "an extension"],
)
def test_what_is_no_map_of_strings_is_refused(frame: str | bytes, expected: str) -> None:
    with pytest.raises(BadMessage) as refused:
        wire_msgpack.parse(frame)
    assert expected in refused.value.message
