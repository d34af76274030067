"""Protocol Buffers by a descriptor file, as `protoc --descriptor_set_out --include_imports` writes it.

Messages are JSON as the language's own mapping has it (protobuf.dev/programming-guides/json); fields that are unset and
have no presence are there with their default: a sensor that shows 0 is not one that shows nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from bridges.codec_values import MAXIMUM_DEPTH, check_size, reason
from gateway.core.codec import Codec, Payload, PayloadError
from gateway.core.errors import BadMessage

__all__ = ["MAXIMUM_VALUES", "UnfitDescriptor", "protobuf_codec"]

MAXIMUM_VALUES: Final = 20_000
"""Values of one message: each takes some microseconds."""
NAMED_TYPES: Final = 20
"""So many types of a file are named when another one was expected."""


class UnfitDescriptor(ValueError):
    """A descriptor file that can't be used, or has no such message; the text says what was expected."""


def protobuf_codec(descriptors: bytes, message: str, *, preserving_proto_field_name: bool) -> Codec:
    """The codec of a message type.

    Args:
        descriptors: A serialized `FileDescriptorSet`, with all that it imports.
        message: The type's full name, such as `plant.Reading`.
        preserving_proto_field_name: Whether JSON has the fields' names as in the `.proto` file, not in lowerCamelCase.

    Raises:
        UnfitDescriptor: they can't be used, or the type isn't there.
    """
    pool, names = _pool(descriptors)
    if message not in names:
        known = ", ".join(sorted(names)[:NAMED_TYPES]) or "no message at all"
        raise UnfitDescriptor(f"expected a message of the descriptor file ({known}), found {message!r}")
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName(message))
    mapping = _Mapping(made, pool, preserving_proto_field_name)
    return Codec("protobuf", mapping.decode, mapping.encode)


def _pool(descriptors: bytes) -> tuple[descriptor_pool.DescriptorPool, set[str]]:
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet()
    try:
        files.ParseFromString(descriptors)
        for file in files.file:
            pool.Add(file)
        for file in files.file:
            pool.FindFileByName(file.name)
    except (DecodeError, TypeError, KeyError, ValueError) as error:
        hint = "expected a descriptor file, as `protoc --descriptor_set_out --include_imports` writes it"
        raise UnfitDescriptor(f"{hint}: {reason(error)}") from None
    return pool, {name for file in files.file for name in _messages(file.package, file.message_type)}


def _messages(scope: str, found: Any) -> Iterator[str]:
    for each in found:
        name = f"{scope}.{each.name}" if scope else each.name
        yield name
        yield from _messages(name, each.nested_type)


@dataclass(frozen=True, slots=True, eq=False)
class _Mapping:
    """Between one type of messages and JSON."""

    made: type[Message]
    pool: descriptor_pool.DescriptorPool
    preserving_proto_field_name: bool

    def decode(self, raw: bytes) -> Payload:
        """Bytes to JSON; no bytes at all are a message with nothing but defaults."""
        check_size("protobuf", raw)
        message = self.made()
        try:
            message.ParseFromString(raw)
            _count(message, MAXIMUM_VALUES, 0)
            data = json_format.MessageToDict(
                message,
                preserving_proto_field_name=self.preserving_proto_field_name,
                always_print_fields_with_no_presence=True,
                descriptor_pool=self.pool,
            )
            return Payload(orjson.dumps(data))
        except PayloadError:
            raise
        except Exception as error:  # what a well-known type holds may be out of its range in any way
            raise PayloadError(f"expected {self.made.DESCRIPTOR.full_name}: {reason(error)}") from None

    def encode(self, data: Any) -> bytes:
        """A browser's data to bytes."""
        message = self.made()
        name = self.made.DESCRIPTOR.full_name
        if not isinstance(data, dict):
            raise BadMessage(f"data: expected an object with the fields of {name}")
        try:
            json_format.ParseDict(data, message, descriptor_pool=self.pool, max_recursion_depth=MAXIMUM_DEPTH)
            return message.SerializeToString(deterministic=True)
        except (json_format.ParseError, EncodeError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadMessage(f"data: expected {name}: {reason(error)}") from None


def _count(message: Message, left: int, depth: int) -> int:
    """How many more values there may be; it costs less than to write them all and find them too many.

    Raises:
        PayloadError: there are too many, or too many levels.
    """
    if depth > MAXIMUM_DEPTH:
        raise PayloadError(f"expected at most {MAXIMUM_DEPTH} levels of messages")
    left -= len(message.DESCRIPTOR.fields)  # what is unset is written too
    for field, value in message.ListFields():
        repeated = field.is_repeated
        left -= len(value) if repeated else 0
        if field.type in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP):
            inner = value if repeated else (value,)
            if repeated and hasattr(value, "values"):  # a map
                inner = [each for each in value.values() if isinstance(each, Message)]
            for each in inner:
                left = _count(each, left, depth + 1)
    if left < 0:
        raise PayloadError(f"expected at most {MAXIMUM_VALUES} values, defaults included")
    return left
