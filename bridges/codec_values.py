"""What the values of binary formats are in JSON, the same for all of them.

Bytes are base64 (RFC 4648 §4), NaN and infinities null, dates and times text (RFC 3339), keys that aren't text the text
that they have as values. Whole numbers are written as they are up to 64 bits, signed or not; none is beyond.
"""

from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

import orjson

from gateway.core.codec import Decode, Payload, PayloadError
from gateway.core.json_depth import is_too_deep

__all__ = [
    "MAXIMUM_BYTES",
    "MAXIMUM_DEPTH",
    "MAXIMUM_ODD_BYTES",
    "MAXIMUM_ODD_VALUES",
    "Tally",
    "bounded",
    "check_size",
    "json_text",
    "reason",
]

MAXIMUM_BYTES: Final = 256 * 1024
"""The largest payload that is decoded: to read one must not keep everybody waiting."""
MAXIMUM_ODD_BYTES: Final = 16 * 1024
"""The largest payload in which keys may be other than text: what a device chooses as keys may make a dict slow."""
MAXIMUM_ODD_VALUES: Final = 5_000
"""Of one payload: bytes, tags, extensions and whatever else takes a call for each of them to be said in JSON."""
MAXIMUM_DEPTH: Final = 64
"""Containers within containers."""


class Tally:
    """Counts a payload's values that take long."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAXIMUM_ODD_VALUES

    def add(self) -> None:
        """Count one more.

        Raises:
            PayloadError: there are too many.
        """
        self._left -= 1
        if self._left < 0:
            raise PayloadError(f"expected at most {MAXIMUM_ODD_VALUES} values of kinds that JSON doesn't know")


def json_text(value: Any, other: Callable[[Any], Any] | None = None) -> bytes:
    """A decoded value as JSON text on one line; `other` says what values of a format's own types are.

    Raises:
        PayloadError: it can't be said in JSON.
    """
    tally = Tally()

    def plain(found: Any) -> Any:
        tally.add()
        if isinstance(found, (bytes, bytearray, memoryview)):
            return b64encode(found).decode()
        if other is None:
            raise TypeError(f"found {type(found).__name__}")
        return other(found)

    try:
        text = orjson.dumps(value, plain, orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError as error:
        cause = error.__cause__
        raise PayloadError(f"expected what JSON can say: {error}" if cause is None else reason(error)) from None
    if is_too_deep(text):
        raise PayloadError("expected fewer levels")
    return text


def bounded(name: str, read: Callable[[bytes], bytes]) -> Decode:
    """A decoder of payloads of a format: no bytes at all are null, too many are refused.

    A library for a format may raise anything for what it never thought of; whatever that is, the payload is to blame.
    """

    def decode(raw: bytes) -> Payload:
        if not raw:
            return Payload(b"null")
        check_size(name, raw)
        try:
            return Payload(read(raw))
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(f"expected {name}: {reason(error)}") from None

    return decode


def check_size(name: str, raw: bytes) -> None:
    """Check that a payload isn't too large to be decoded.

    Raises:
        PayloadError: it is.
    """
    if len(raw) > MAXIMUM_BYTES:
        raise PayloadError(f"expected at most {MAXIMUM_BYTES} bytes of {name}, found {len(raw)}")


def reason(error: BaseException) -> str:
    """What a library found wrong, on one line."""
    while error.__cause__ is not None:  # how a library wraps what its callbacks raise
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__
