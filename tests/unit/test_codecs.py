"""Formats of payloads: what their values are in JSON, what is refused, and that nothing else ever comes out."""

from base64 import b64encode
from contextlib import suppress
from typing import Any

import cbor2
import orjson
import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.codec_cbor import CBOR, LIBRARY_TAGS
from bridges.codec_msgpack import MSGPACK
from bridges.codec_values import MAXIMUM_BYTES, MAXIMUM_DEPTH, MAXIMUM_ODD_BYTES, MAXIMUM_ODD_VALUES
from gateway.core.codec import Codec, PayloadError
from gateway.core.errors import BadMessage
from gateway.core.payload import encode

BOTH = pytest.mark.parametrize("codec", [CBOR, MSGPACK], ids=lambda codec: codec.name)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def read(codec: Codec, raw: bytes) -> Any:
    return orjson.loads(codec.decode(raw).data)


@BOTH
@given(data=JSON)
def test_what_json_can_say_survives_the_way_there_and_back(codec: Codec, data: Any) -> None:
    assert read(codec, codec.encode(data)) == data


@BOTH
@given(raw=st.binary(max_size=300))
def test_whatever_bytes_come_they_are_one_line_of_json_or_an_error(codec: Codec, raw: bytes) -> None:
    try:
        payload = codec.decode(raw)
    except PayloadError as error:
        assert "\n" not in str(error)
        return
    orjson.loads(payload.data)
    assert b"\n" not in payload.data
    assert b"\r" not in payload.data


@given(st.recursive(st.integers(0, 70000), lambda inner: st.lists(inner, max_size=3)), st.integers(0, 2**16), st.data())
def test_no_tag_makes_anything_but_json_or_an_error(value: Any, tag: int, data: st.DataObject) -> None:
    known = data.draw(st.sampled_from([*LIBRARY_TAGS, tag]))
    with suppress(PayloadError):
        CBOR.decode(cbor2.dumps(cbor2.CBORTag(known, value)))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", None),
        ("f7", None),  # undefined
        ("f97e00", None),  # NaN
        ("f97c00", None),  # Infinity
        ("f863", 99),  # a simple value
        ("1bffffffffffffffff", 2**64 - 1),
        ("3b7fffffffffffffff", -(2**63)),
        ("43010203", "AQID"),
        ("5f42010243030405ff", "AQIDBAU="),  # indefinite
        ("7f61616162ff", "ab"),
        ("a10102", {"1": 2}),
        ("a1f501", {"true": 1}),
        ("c074323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"),
        ("c11a514b67b0", "2013-03-21T20:04:00Z"),
        ("c120", "1969-12-31T23:59:59Z"),
        ("c24103", 3),
        ("c34103", -4),
        ("c48221196ab3", 273.15),
        ("c5822003", 1.5),
        ("d81e820102", 0.5),
        ("d82550" + "00" * 15 + "01", "00000000-0000-0000-0000-000000000001"),
        ("d8641903e8", "1972-09-27"),
        ("d90102820102", [1, 2]),
        ("d8236161", "a"),  # a regular expression: its text
        ("d81c8101", [1]),  # shareable, but nothing shares it
        ("d9d9f7a16161f5", {"a": True}),  # self-described
        ("d9ffff01", 1),  # a tag that nobody knows
    ],
)
def test_values_of_cbor_are_what_the_page_says(raw: str, expected: Any) -> None:
    assert read(CBOR, bytes.fromhex(raw)) == expected


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("0102", "one CBOR item, found 1 bytes after it"),
        ("3bffffffffffffffff", "64-bit"),
        ("c249010000000000000000", "bignum of at most 64 bits"),
        ("c5821a3b9aca0001", "an exponent of at most 4096"),
        ("c4821a3b9aca0001", "an exponent of at most 4096"),
        ("d81c8201d81d00", "no references to shared values"),  # a list that has itself in it
        ("d9010082d81900d81900", "no references to shared values"),
        ("d81e820100", "division by zero"),
        ("c1f97e00", "NaN"),
        ("c1fb7e37e43c8800759c", "too large"),
        ("a2616101616102", "Duplicate map key"),
        ("a1810101", "Dict key"),
        ("a1413101", "Dict key"),
        ("9bffffffffffffffff", "premature end"),
        ("5b7fffffffffffffff", "premature end"),
        ("bb0000ffffffffffff", "premature end"),
        ("9f9f", "premature end"),
        ("61ff", "can't decode byte"),
        ("81" * (MAXIMUM_DEPTH + 1) + "01", "nesting depth"),
    ],
)
def test_cbor_that_is_none_or_too_much_is_refused_with_the_reason(raw: str, told: str) -> None:
    with pytest.raises(PayloadError, match=told):
        CBOR.decode(bytes.fromhex(raw))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", None),
        (b"\xcb\x7f\xf8" + bytes(6), None),
        (b"\xcf" + b"\xff" * 8, 2**64 - 1),
        (b"\xd3\x80" + bytes(7), -(2**63)),
        (b"\xc4\x03\x01\x02\x03", "AQID"),
        (b"\x81\x01\x02", {"1": 2}),
        (b"\x81\xc2\x02", {"false": 2}),
        (b"\xd6\xff\0\0\0\1", "1970-01-01T00:00:01Z"),
        (b"\xd4\x05\x01", {"ext": 5, "data": "AQ=="}),
    ],
)
def test_values_of_msgpack_are_what_the_page_says(raw: bytes, expected: Any) -> None:
    assert read(MSGPACK, raw) == expected


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\x01\x02", "one MessagePack value"),
        (b"\xc1", "invalid type"),
        (b"\xdd\xff\xff\xff\xff", "unexpected end"),
        (b"\xdf\xff\xff\xff\xff", "invalid type"),
        (b"\xa1\xff", "UTF-8"),
        (b"\x91" * 5000 + b"\1", "Recursion limit"),
        (b"\x91" * 300 + b"\1", "Recursion limit"),
        (b"\xc7\x0c\xff" + b"\xff" * 12, "invalid value"),  # a time in which year?
        (b"\x81\x91\x01\x01", "Dict key"),
        (b"\x81\xc4\x01a\x01", "Dict key"),
    ],
)
def test_msgpack_that_is_none_or_too_much_is_refused_with_the_reason(raw: bytes, told: str) -> None:
    with pytest.raises(PayloadError, match=told):
        MSGPACK.decode(raw)


@BOTH
def test_a_payload_that_is_too_large_is_refused_unread(codec: Codec) -> None:
    with pytest.raises(PayloadError, match=f"at most {MAXIMUM_BYTES} bytes"):
        codec.decode(codec.encode("x" * MAXIMUM_BYTES))
    assert read(codec, codec.encode("x" * (MAXIMUM_BYTES - 5)))


@pytest.mark.parametrize(
    ("codec", "head", "one"),
    [
        (CBOR, b"\x99", b"\xc1\x01"),
        (CBOR, b"\x99", b"\xc6\xf4"),
        (CBOR, b"\x99", b"\x40"),
        (CBOR, b"\x99", b"\xf7"),
        (MSGPACK, b"\xdc", b"\xc4\x00"),
        (MSGPACK, b"\xdc", b"\xd4\x01\x01"),
    ],
)
def test_values_that_take_long_are_taken_up_to_a_number(codec: Codec, head: bytes, one: bytes) -> None:
    def many(count: int) -> bytes:
        filler = 20_000  # which makes the payload a large one
        plain = b"\x01" * filler
        return head + (count + filler).to_bytes(2) + one * count + plain

    assert len(read(codec, many(MAXIMUM_ODD_VALUES))) > MAXIMUM_ODD_VALUES
    with pytest.raises(PayloadError):
        codec.decode(many(MAXIMUM_ODD_VALUES + 1))


@BOTH
def test_keys_that_are_no_text_are_taken_in_small_payloads_only(codec: Codec) -> None:
    def dumped(data: Any) -> bytes:
        return cbor2.dumps(data) if codec is CBOR else ormsgpack.packb(data, option=ormsgpack.OPT_NON_STR_KEYS)

    assert read(codec, dumped({1: "a"})) == {"1": "a"}
    with pytest.raises(PayloadError):
        codec.decode(dumped({1: "x" * MAXIMUM_ODD_BYTES}))


def test_text_that_is_no_unicode_is_a_bad_message() -> None:
    with pytest.raises(BadMessage, match="data: expected"):
        CBOR.encode("\ud800")


def test_data_that_is_too_deep_for_a_device_is_a_bad_message() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(BadMessage, match="data: expected"):
        MSGPACK.encode(deep)


@BOTH
def test_base64_goes_to_the_device_as_the_bytes_that_it_stands_for(codec: Codec) -> None:
    assert encode(codec, b64encode(b"\x01raw").decode(), binary=True) == b"\x01raw"
    assert encode(codec, {"on": True}, binary=False) == codec.encode({"on": True})
