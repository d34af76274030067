"""How deep JSON may be: whatever is told of it to whomever, in any format, has a few levels more.

What reads and writes JSON and MessagePack ends at some 254 levels. So a payload just below that would be taken, and
then fail on its way to some of its receivers, each time that it is told.
"""

from typing import Any, Final

import orjson

__all__ = ["MAXIMUM_DEPTH", "is_too_deep"]

MAXIMUM_DEPTH: Final = 200
"""Lists and objects within one another."""
WRITABLE_DEPTH: Final = 254
"""What the library writes."""


def is_too_deep(text: bytes, value: Any = ...) -> bool:
    """Whether JSON text has too many levels; `value` is what it says, if that is known already."""
    if text.count(b"[") + text.count(b"{") <= MAXIMUM_DEPTH:
        return False
    if value is ...:
        value = orjson.loads(text)
    for _ in range(WRITABLE_DEPTH - MAXIMUM_DEPTH):
        value = [value]
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return True
    return False
