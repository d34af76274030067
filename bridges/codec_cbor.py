"""CBOR (RFC 8949) by cbor2, with all tags read here: none of them compiles, resolves or computes anything by itself."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import cbor2

from bridges.codec_values import MAXIMUM_DEPTH, MAXIMUM_ODD_BYTES, Tally, bounded, json_text
from gateway.core.codec import Codec, PayloadError
from gateway.core.errors import BadMessage

__all__ = ["CBOR"]

BIGGEST_EXPONENT: Final = 4096
"""Of decimal fractions and bigfloats: beyond are no numbers of 64 bits, only long computations."""
LIBRARY_TAGS: Final = (*range(6), 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 43001, 55799)
"""Tags that the library would read by itself, some at any cost: regular expressions, bigfloats, shared values."""


def _read(raw: bytes) -> bytes:
    try:
        return json_text(_load(raw, text_keys=True), _other)
    except cbor2.CBORDecodeError:
        if len(raw) > MAXIMUM_ODD_BYTES:
            raise
        return json_text(_load(raw, text_keys=False), _other)


def _load(raw: bytes, *, text_keys: bool) -> Any:
    stream, tally = BytesIO(raw), Tally()
    tags = _TAGS if len(raw) <= MAXIMUM_ODD_BYTES else {tag: _counted(read, tally) for tag, read in _TAGS.items()}
    decoder = cbor2.CBORDecoder(
        stream,
        semantic_decoders=tags,
        tag_hook=_counted(lambda tag, _: tag.value, tally),
        max_depth=MAXIMUM_DEPTH,
        allow_duplicate_keys=False,
        strict_hashable_types=text_keys,
    )
    value = decoder.decode()
    if stream.tell() != len(raw):
        raise PayloadError(f"expected one CBOR item, found {len(raw) - stream.tell()} bytes after it")
    return value


def _counted(read: Callable[[Any, bool], Any], tally: Tally) -> Callable[[Any, bool], Any]:
    def counted(value: Any, immutable: bool) -> Any:
        tally.add()
        return read(value, immutable)

    return counted


def _other(value: Any) -> Any:
    """What values of the library's own types are."""
    if value is cbor2.undefined:
        return None
    if isinstance(value, cbor2.CBORSimpleValue):
        return value.value
    raise TypeError(f"found {type(value).__name__}")


def _inside(value: Any, _immutable: bool) -> Any:
    return value


def _unix(value: Any, _immutable: bool) -> str:
    """Tag 1: seconds since the Unix epoch (RFC 8949 §3.4.2)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PayloadError("expected a number of seconds in tag 1")
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)).isoformat().replace("+00:00", "Z")


def _day(value: Any, _immutable: bool) -> str:
    """Tag 100: days since the Unix epoch (RFC 8943)."""
    return (date(1970, 1, 1) + timedelta(days=value)).isoformat()


def _bignum(sign: int) -> Callable[[Any, bool], int]:
    def read(value: Any, _immutable: bool) -> int:
        """Tags 2 and 3 (RFC 8949 §3.4.3)."""
        if not isinstance(value, bytes) or len(value.lstrip(b"\0")) > 8:
            raise PayloadError("expected a bignum of at most 64 bits")
        number = int.from_bytes(value)
        return number if sign > 0 else -1 - number

    return read


def _scaled(base: int) -> Callable[[Any, bool], float]:
    def read(value: Any, _immutable: bool) -> float:
        """Tags 4 and 5: exponent and mantissa (RFC 8949 §3.4.4)."""
        exponent, mantissa = value
        if not (type(exponent) is type(mantissa) is int) or abs(exponent) > BIGGEST_EXPONENT:
            raise PayloadError(f"expected an exponent of at most {BIGGEST_EXPONENT}, and a mantissa")
        return math.ldexp(mantissa, exponent) if base == 2 else float(Decimal(mantissa).scaleb(exponent))

    return read


def _rational(value: Any, _immutable: bool) -> float:
    numerator, denominator = value
    return float(numerator / denominator)


def _uuid(value: Any, _immutable: bool) -> str:
    return str(UUID(bytes=value))


def _shared(_value: Any, _immutable: bool) -> Any:
    raise PayloadError("expected no references to shared values")


_TAGS: Final[Mapping[int, Callable[[Any, bool], Any]]] = MappingProxyType(
    {
        **dict.fromkeys(LIBRARY_TAGS, _inside),
        **dict.fromkeys((25, 29, 256), _shared),
        1: _unix,
        2: _bignum(1),
        3: _bignum(-1),
        4: _scaled(10),
        5: _scaled(2),
        30: _rational,
        37: _uuid,
        100: _day,
    }
)


def _encode(data: Any) -> bytes:
    try:
        return cbor2.dumps(data)
    except (cbor2.CBOREncodeError, RecursionError, UnicodeEncodeError) as error:
        raise BadMessage(f"data: expected what CBOR can say, of less depth ({error})") from None


CBOR: Final = Codec("cbor", bounded("CBOR", _read), _encode)
