"""MessagePack by ormsgpack. Timestamps are text; other extension types are `{"ext": type, "data": base64}`."""

from base64 import b64encode
from functools import partial
from typing import Any, Final

import ormsgpack

from bridges.codec_values import MAXIMUM_ODD_BYTES, Tally, bounded, json_text
from gateway.core.codec import Codec, PayloadError
from gateway.core.errors import BadMessage

__all__ = ["MSGPACK"]

_PAIR: Final = b"\x92"
_END: Final = b"\xd4\x7f\x7f"
"""An extension value that stands behind a payload's one value, to find what is there too much: the library wouldn't."""


class _End:
    """What `_END` is read as."""


def _ext(kind: int, data: bytes, tally: Tally) -> Any:
    if kind == 0x7F and data == _END[2:]:
        return _End()
    tally.add()
    return {"ext": kind, "data": b64encode(data).decode()}


def _read(raw: bytes) -> bytes:
    framed, option, ext = _PAIR + raw + _END, ormsgpack.OPT_DATETIME_AS_TIMESTAMP_EXT, partial(_ext, tally=Tally())
    try:
        value, end = ormsgpack.unpackb(framed, ext_hook=ext, option=option)
    except ormsgpack.MsgpackDecodeError:
        if len(raw) > MAXIMUM_ODD_BYTES:
            raise
        value, end = ormsgpack.unpackb(framed, ext_hook=ext, option=option | ormsgpack.OPT_NON_STR_KEYS)
    if not isinstance(end, _End):
        raise PayloadError("expected one MessagePack value, found more bytes after it")
    return json_text(value)


def _encode(data: Any) -> bytes:
    try:
        return ormsgpack.packb(data)
    except (ormsgpack.MsgpackEncodeError, RecursionError) as error:
        raise BadMessage(f"data: expected what MessagePack can say, of less depth ({error})") from None


MSGPACK: Final = Codec("msgpack", bounded("MessagePack", _read), _encode)
