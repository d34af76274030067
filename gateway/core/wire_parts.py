"""Objects of the wire protocol taken apart again, for clients who are told less: what stays as it is isn't read.

See `wire.encode_message` for the order of the fields. Quotes within strings are escaped, so none of them holds a field.
"""

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["data_of", "last_values"]

_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]')
"""What tells in JSON where a value ends: brackets that don't stand in a string."""
_LAST: Final = b',"last":['
_DATA: Final = b',"data":'


def data_of(message: bytes) -> bytes:
    """The JSON text of a `message`'s data, as its sender wrote it."""
    return message[message.index(_DATA) + len(_DATA) : message.rindex(b',"cursor":"')]


def last_values(subscribed: bytes) -> Iterator[bytes]:
    """The texts of the messages in a `subscribed`."""
    depth, start = 0, 0
    for found in _TOKEN.finditer(subscribed, subscribed.index(_LAST) + len(_LAST)):
        token = found[0]
        if token in b"{[":
            start = start if depth else found.start()
            depth += 1
        elif token in b"}]":
            depth -= 1
            if depth < 0:
                return
            if depth == 0:
                yield subscribed[start : found.end()]
