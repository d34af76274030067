"""Payloads: device bytes to JSON text that is spliced into messages as it is, and a browser's data to device bytes.

A payload is decoded once for each kind that routes ask for, however many browsers get it. What isn't JSON, text or
bytes is decoded by a `Codec` that the route brings with it.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

import orjson

from gateway.core.codec import (
    Codec,
    Decode,
    Dialect,
    Payload,
    PayloadError,
    PayloadKind,
    PayloadRule,
    Transform,
    name_of,
)
from gateway.core.errors import BadMessage
from gateway.core.json_depth import MAXIMUM_DEPTH, is_too_deep

__all__ = ["Payload", "PayloadError", "decode", "decoder", "digest", "encode", "reshape", "to_json"]

_SPACES = bytes.maketrans(b"\r\n", b"  ")


def decode(rule: PayloadRule, raw: bytes) -> Payload:
    """What browsers are given for a device's bytes.

    `auto` takes JSON where it is JSON, else text where it is UTF-8, else bytes. No bytes at all, the way to take a
    retained message back, are `null` in `json` and `auto`.

    Raises:
        PayloadError: `json` that isn't valid (RFC 8259), `text` that isn't UTF-8, or what a codec doesn't take; and
            anything of a dialect, which no payload says by itself.
    """
    found = decoder(rule)
    if found is None:
        raise PayloadError(f"expected a payload that says something by itself, found one of {name_of(rule)}")
    return found(raw)


def decoder(rule: PayloadRule, transform: Transform | None = None) -> Decode | None:
    """What decodes a route's payloads: equal for all routes that say the same of them. None for those of a dialect."""
    match rule:
        case PayloadKind():
            found = _DECODERS[rule]
        case Codec():
            found = rule.decode
        case Dialect():
            return None
    return found if transform is None else _Reshaped(found, transform)


@dataclass(frozen=True, slots=True)
class _Reshaped:
    """Decodes, then makes other data of it."""

    decode: Decode
    transform: Transform

    def __call__(self, raw: bytes) -> Payload:
        payload = self.decode(raw)
        if payload.binary:
            raise PayloadError("expected JSON or text to transform, found bytes")
        return Payload(reshape(payload.data, self.transform))


def reshape(data: bytes, transform: Transform) -> bytes:
    """Other JSON text made of JSON text.

    Raises:
        PayloadError: it can't be.
    """
    try:
        return orjson.dumps(transform(orjson.loads(data)))
    except (orjson.JSONEncodeError, orjson.JSONDecodeError) as error:
        raise PayloadError(f"the transformed data is no JSON: {error}") from None


def _decode_json(raw: bytes) -> Payload:
    return Payload(_json(raw))


def _decode_text(raw: bytes) -> Payload:
    return Payload(_text(raw))


def _decode_bytes(raw: bytes) -> Payload:
    return Payload(b'"' + b64encode(raw) + b'"', binary=True)


def _decode_auto(raw: bytes) -> Payload:
    for attempt in (_json, _text):
        try:
            return Payload(attempt(raw))
        except PayloadError:
            continue
    return _decode_bytes(raw)


_DECODERS: Final[Mapping[PayloadKind, Decode]] = MappingProxyType(
    {
        PayloadKind.JSON: _decode_json,
        PayloadKind.TEXT: _decode_text,
        PayloadKind.BYTES: _decode_bytes,
        PayloadKind.AUTO: _decode_auto,
    }
)


def _json(raw: bytes) -> bytes:
    if not raw:
        return b"null"
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise PayloadError(f"expected JSON: {error}") from None
    if is_too_deep(raw, value):
        raise PayloadError(f"expected JSON of at most {MAXIMUM_DEPTH} levels")
    # Line breaks can only stand between tokens; without them the text fits one line of an event stream.
    return raw.translate(_SPACES) if b"\n" in raw or b"\r" in raw else raw


def _text(raw: bytes) -> bytes:
    try:
        return orjson.dumps(raw.decode())
    except UnicodeDecodeError as error:
        raise PayloadError(f"expected UTF-8 text: byte {error.start} is {raw[error.start]:#04x}") from None


def encode(kind: PayloadRule, data: object, *, binary: bool) -> bytes:
    """The bytes that a device is given for a browser's data.

    With `binary`, data is a string of base64, whatever the kind. `auto` gives a string as it is, all else as JSON.

    Raises:
        BadMessage: data that isn't what the route says; it names the field.
    """
    if binary or kind is PayloadKind.BYTES:
        if not isinstance(data, str):
            raise BadMessage("data: expected a string of base64")
        try:
            return b64decode(data, validate=True)
        except (Base64Error, ValueError):
            raise BadMessage("data: expected a string of base64 (RFC 4648 §4)") from None
    if kind is PayloadKind.TEXT and not isinstance(data, str):
        raise BadMessage("data: expected a string, as the route's payload is text")
    if kind is PayloadKind.TEXT or (kind is PayloadKind.AUTO and isinstance(data, str)):
        assert isinstance(data, str)
        return data.encode()
    return kind.encode(data) if isinstance(kind, Codec) else to_json(data)


def to_json(data: object) -> bytes:
    """A client's data as JSON text.

    Raises:
        BadMessage: it is nested too deeply.
    """
    try:
        text = orjson.dumps(data)
    except orjson.JSONEncodeError as error:
        raise BadMessage(f"data: expected what JSON can say, of less depth ({error})") from None
    if is_too_deep(text, data):
        raise BadMessage(f"data: expected at most {MAXIMUM_DEPTH} levels")
    return text


def digest(data: object, *, binary: bool) -> bytes:
    """By what a client's data is known again.

    Raises:
        BadMessage: it is nested too deeply.
    """
    return blake2b(to_json(data), digest_size=16, salt=b"binary" if binary else b"").digest()
