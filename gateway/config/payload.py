"""How a route's payloads are understood: a word, or a section for what needs to be said more of.

What is heavy or foreign is imported only where a configuration asks for it.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from gateway.config import values
from gateway.config.files import path_of, read_bounded
from gateway.config.problems import shown
from gateway.config.section import Section
from gateway.core.codec import Codec, PayloadKind, PayloadRule, Transform

__all__ = [
    "MAXIMUM_DESCRIPTOR_BYTES",
    "DescriptorFile",
    "Expression",
    "ProtobufSettings",
    "RoutePayloadSettings",
    "TransformExpression",
]

MAXIMUM_DESCRIPTOR_BYTES: Final = 1024 * 1024
WORDS: Final = (*PayloadKind, "cbor", "msgpack", "sparkplug")
EXPECTED: Final = (
    "expected auto, json, text, bytes, cbor, msgpack, sparkplug, or "
    "`protobuf: {descriptor_file: plant.desc, message: plant.Reading}`"
)


@dataclass(frozen=True, slots=True)
class DescriptorFile:
    """A file, and what is in it."""

    path: Path
    content: bytes = field(repr=False, compare=False)
    digest: bytes


def _read_descriptors(value: object) -> DescriptorFile:
    path = path_of(value)
    content = read_bounded(path, MAXIMUM_DESCRIPTOR_BYTES)
    return DescriptorFile(path, content, sha256(content).digest())


DescriptorFromFile: TypeAlias = Annotated[DescriptorFile, PlainValidator(_read_descriptors)]


class ProtobufSettings(Section):
    """Payloads of Protocol Buffers."""

    descriptor_file: DescriptorFromFile = Field(examples=["plant.desc"])
    """What `protoc --descriptor_set_out --include_imports` wrote."""
    message: values.Text = Field(examples=["plant.Reading"])
    """The type of all payloads, with its package, such as `plant.Reading`."""
    preserving_proto_field_name: values.Flag = False
    """Whether fields are called as in the `.proto` file, and not in lowerCamelCase."""

    @model_validator(mode="after")
    def _check(self) -> "ProtobufSettings":
        self.codec()
        return self

    def codec(self) -> Codec:
        """As the routing table takes it."""
        from bridges.codec_protobuf import UnfitDescriptor, protobuf_codec

        keep = self.preserving_proto_field_name
        try:
            return protobuf_codec(self.descriptor_file.content, self.message, preserving_proto_field_name=keep)
        except UnfitDescriptor as error:
            raise ValueError(f"{error} (in {shown(self.descriptor_file.path.name)})") from None


class RoutePayloadSettings(Section):
    """How payloads are understood: a word such as `json`, or a section with `protobuf`."""

    kind: str = "auto"
    """`auto`, `json`, `text`, `bytes`, `cbor`, `msgpack` or `sparkplug`; `payload: cbor` says the same."""
    protobuf: ProtobufSettings | None = None
    """The message type, in place of a `kind`."""

    @model_validator(mode="before")
    @classmethod
    def _take_word(cls, data: Any) -> Any:
        if isinstance(data, (cls, dict)):
            _check_keys(data)
            return data
        return {"kind": _word(data)}

    @property
    def is_bytes(self) -> bool:
        """Whether nothing is known of what is in them."""
        return self.protobuf is None and self.kind == PayloadKind.BYTES

    def rule(self) -> PayloadRule:
        """As the routing table takes it."""
        if self.protobuf is not None:
            return self.protobuf.codec()
        match self.kind:
            case "cbor":
                from bridges.codec_cbor import CBOR

                return CBOR
            case "msgpack":
                from bridges.codec_msgpack import MSGPACK

                return MSGPACK
            case "sparkplug":
                from bridges.codec_sparkplug import SPARKPLUG

                return SPARKPLUG
        return PayloadKind(self.kind)


def _check_keys(data: Any) -> None:
    if not isinstance(data, dict):
        return
    if "kind" in data:
        _word(data["kind"])
    if "kind" in data and data.get("protobuf") is not None:
        raise ValueError("expected `kind` or `protobuf`, found both")
    if data and not data.keys() & {"kind", "protobuf"}:
        raise ValueError(f"{EXPECTED}, found a mapping")


def _word(value: object) -> str:
    if value not in WORDS:
        raise ValueError(f"{EXPECTED}, found {shown(value)}")
    return str(value)


@dataclass(frozen=True, slots=True)
class Expression:
    """A JMESPath expression, and what it does."""

    text: str
    transform: Transform = field(compare=False)


def _compile(value: object) -> Expression:
    if not isinstance(value, str):
        raise ValueError(f"expected a JMESPath expression such as `{{value: t, unit: 'C'}}`, found {shown(value)}")  # noqa: TRY004 - pydantic wants ValueError
    from bridges.codec_jmespath import compile_transform

    return Expression(value, compile_transform(value))


TransformExpression: TypeAlias = Annotated[Expression, PlainValidator(_compile)]
