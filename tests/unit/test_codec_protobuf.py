"""Protocol Buffers by a descriptor file, which the library makes here: `protoc` isn't needed."""

from typing import Any

import orjson
import pytest
from google.protobuf import any_pb2, descriptor_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from hypothesis import given
from hypothesis import strategies as st

from bridges.codec_protobuf import UnfitDescriptor, protobuf_codec
from gateway.core.codec import Codec, PayloadError
from gateway.core.errors import BadMessage
from tests.descriptors import descriptors


def codec(*, keep: bool = False, message: str = "plant.Reading") -> Codec:
    return protobuf_codec(descriptors(), message, preserving_proto_field_name=keep)


def read(raw: bytes, *, keep: bool = False) -> Any:
    return orjson.loads(codec(keep=keep).decode(raw).data)


@given(
    st.fixed_dictionaries(
        {
            "tempC": st.floats(allow_nan=False, allow_infinity=False),
            "serial": st.integers(0, 2**64 - 1).map(str),
            "label": st.text(),
            "parts": st.just([]),
            "samples": st.lists(st.integers(-(2**31), 2**31 - 1)),
        }
    )
)
def test_messages_survive_the_way_there_and_back(data: Any) -> None:
    found = read(codec().encode(data))
    assert {key: found[key] for key in data} == data


@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_one_line_of_json_or_an_error(raw: bytes) -> None:
    try:
        payload = codec().decode(raw)
    except PayloadError as error:
        assert "\n" not in str(error)
        return
    orjson.loads(payload.data)
    assert b"\n" not in payload.data


def test_fields_are_called_as_the_route_says_and_defaults_are_there() -> None:
    raw = codec().encode({"tempC": 21.5})
    assert read(raw)["tempC"] == 21.5
    assert read(raw, keep=True)["temp_c"] == 21.5
    assert read(b"") == {"tempC": 0.0, "serial": "0", "label": "", "raw": "", "parts": [], "samples": []}


def test_numbers_beyond_those_of_javascript_and_bytes_are_text() -> None:
    raw = codec().encode({"serial": 2**64 - 1, "raw": "AQI="})
    assert (read(raw)["serial"], read(raw)["raw"]) == ("18446744073709551615", "AQI=")


def test_well_known_types_are_as_the_language_maps_them() -> None:
    stamp = timestamp_pb2.Timestamp(seconds=1)
    raw = codec().encode({"at": "1970-01-01T00:00:01Z", "more": {"a": [1, None]}})
    assert stamp.ToJsonString() == read(raw)["at"]
    assert read(raw)["more"] == {"a": [1.0, None]}


def field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes((size & 127 | 128,)), size >> 7
    return bytes((number << 3 | 2,)) + length + bytes((size,)) + content


PARTS, AT, MORE, ANY = 5, 7, 8, 9


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\xff", "Wire format was corrupt"),
        (field(PARTS, b"") * 5000, "at most 20000 values"),
        (field(6, b"\0" * 20_001), "at most 20000 values"),
        (field(AT, timestamp_pb2.Timestamp(seconds=2**60).SerializeToString()), "expected plant.Reading"),
        (field(MORE, struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=float("nan"))}).SerializeToString()),
         "expected plant.Reading"),
        (field(ANY, any_pb2.Any(type_url="x/nobody.Knows", value=b"\1").SerializeToString()), "expected plant.Reading"),
        (b"\0" * 300_000, "at most 262144 bytes"),
    ],
)  # fmt: skip
def test_a_payload_that_is_none_or_too_much_is_refused_with_the_reason(raw: bytes, told: str) -> None:
    with pytest.raises(PayloadError, match=told):
        codec().decode(raw)


@pytest.mark.parametrize("depth", [70, 2000])
def test_messages_within_messages_have_an_end(depth: int) -> None:
    raw = b""
    for _ in range(depth):
        raw = field(PARTS, raw)
    with pytest.raises(PayloadError):
        codec().decode(raw)


@pytest.mark.parametrize("data", [5, None, [], {"nope": 1}, {"tempC": "x"}, {"serial": -1}, {"parts": 5}, {"at": "no"}])
def test_data_that_is_no_such_message_is_a_bad_message(data: Any) -> None:
    with pytest.raises(BadMessage, match="data: expected"):
        codec().encode(data)


def test_data_that_is_too_deep_is_a_bad_message() -> None:
    data: Any = {}
    for _ in range(200):
        data = {"parts": [data]}
    with pytest.raises(BadMessage, match="data: expected"):
        codec().encode(data)


def test_a_file_that_is_no_descriptor_is_refused() -> None:
    incomplete = descriptor_pb2.FileDescriptorProto(name="a.proto", dependency=["b.proto"])
    incomplete.message_type.add(name="A").field.add(
        name="b", number=1, type=Field.TYPE_MESSAGE, label=Field.LABEL_OPTIONAL, type_name=".b.B"
    )
    lacking = descriptor_pb2.FileDescriptorSet(file=[incomplete]).SerializeToString()
    for raw in (b"syntax = 'proto3';", lacking):
        with pytest.raises(UnfitDescriptor, match="--include_imports"):
            protobuf_codec(raw, "A", preserving_proto_field_name=False)


def test_a_message_that_isnt_there_is_told_with_those_that_are() -> None:
    with pytest.raises(UnfitDescriptor, match=r"plant\.Reading.*found 'plant\.Nothing'"):
        codec(message="plant.Nothing")
