"""`tidegate.v1.json`, our own protocol, sans-I/O: a client's text in, requests out; objects in, JSON text out.

What clients may say is in `wire_requests`, what they are told here. Nothing acts; `conversation` does.
docs/wire-protocol.md describes it for client authors.
"""

from collections.abc import Iterable
from typing import Any, Final

import orjson

from gateway.core.errors import TidegateError
from gateway.core.message import Message
from gateway.core.payload import Payload
from gateway.core.sample import Sample
from gateway.core.wire_requests import RequestId

__all__ = [
    "SUBPROTOCOL",
    "encode",
    "encode_error",
    "encode_message",
    "encode_reply",
    "encode_subscribed",
]

SUBPROTOCOL: Final = "tidegate.v1.json"


def encode(kind: str, identifier: RequestId = None, /, **fields: Any) -> bytes:
    """An object of the protocol as JSON text; `id` is left out where the client gave none."""
    given = {} if identifier is None else {"id": identifier}
    return orjson.dumps({"type": kind, **given, **fields})


def encode_message(message: Message) -> bytes:
    """A room's message; its data is spliced in as it is. `wire_parts` relies on the order of the fields."""
    fields: dict[str, Any] = {"type": "message", "room": message.room}
    if message.topic is not None:
        fields["topic"] = message.topic
    fields["data"] = orjson.Fragment(message.data)
    fields["cursor"] = message.cursor
    fields["time"] = message.time
    if message.sender is not None or message.user is not None:
        sender = {"session": message.sender, "user": message.user}
        fields["from"] = {name: value for name, value in sender.items() if value is not None}
    if message.retained:
        fields["retained"] = True
    if message.binary:
        fields["binary"] = True
    return orjson.dumps(fields)


def encode_subscribed(
    identifier: RequestId,
    room: str,
    cursor: str | None,
    last: Iterable[Message],
    *,
    recovered: bool,
    sample: Sample | None = None,
) -> bytes:
    """The answer to `subscribe`: after which position all messages come, and the last values if some before lack.

    Without a cursor it says some of the last values, and another one follows.
    """
    values = [orjson.Fragment(encode_message(message)) for message in last]
    sampled = {} if sample is None else {"sample": sample}
    place: dict[str, Any] = {"more": True} if cursor is None else {"cursor": cursor}
    return encode("subscribed", identifier, room=room, **place, recovered=recovered, **sampled, last=values)


def encode_reply(identifier: RequestId, answer: Payload, **fields: Any) -> bytes:
    """A device's answer to a request; its data is spliced in as it is."""
    if answer.binary:
        fields["binary"] = True
    return encode("reply", identifier, **fields, data=orjson.Fragment(answer.data))


def encode_error(identifier: RequestId, error: TidegateError) -> bytes:
    """What a client is told of an error."""
    fields: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.retry_after_seconds is not None:
        fields["retry_after_seconds"] = error.retry_after_seconds
    return encode("error", identifier, **fields)
