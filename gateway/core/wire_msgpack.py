"""`tidegate.v1.msgpack`: the objects of `tidegate.v1.json` as MessagePack, in binary frames, bytes as bytes.

For microcontrollers and for payloads that aren't text. A message is packed once, however many clients get it.
"""

from base64 import b64decode, b64encode
from typing import Any, Final

import orjson
import ormsgpack

from gateway.core.errors import BadMessage

__all__ = ["SUBPROTOCOL", "pack", "parse"]

SUBPROTOCOL: Final = "tidegate.v1.msgpack"


def pack(kind: str, text: bytes, cursor: str | None = None) -> bytes:  # noqa: ARG001 - a `Framing`
    """An object of the protocol, without a frame around it. Where `data` is base64 in JSON, it is bytes."""
    said = orjson.loads(text)
    _unescape(said)
    for message in said.get("last", ()):
        _unescape(message)
    return ormsgpack.packb(said)


def _unescape(said: dict[str, Any]) -> None:
    if said.pop("binary", False):
        said["data"] = b64decode(said["data"])


def parse(frame: str | bytes) -> dict[str, Any]:
    """What a client's frame says, as `wire_requests.read` takes it: `data` that is bytes is `binary`.

    Raises:
        BadMessage: it isn't MessagePack of what JSON can say, or no map.
    """
    if isinstance(frame, str):
        raise BadMessage("expected a binary frame, found a text one")
    try:
        value = ormsgpack.unpackb(frame)
    except ormsgpack.MsgpackDecodeError as error:
        raise BadMessage(f"expected a map of MessagePack with strings for keys: {error}") from None
    if not isinstance(value, dict):
        raise BadMessage('expected a map of MessagePack such as {"type": "subscribe", "room": "sites/#"}')
    if isinstance(value.get("data"), bytes):
        value["data"], value["binary"] = b64encode(value["data"]).decode(), True
    return value
