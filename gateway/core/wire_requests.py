"""What clients may say in `tidegate.v1.json`: text in, requests out; whatever is wrong is named.

Nothing here acts; `conversation` does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import orjson

from gateway.core.auth_wire import Authenticate, read_auth
from gateway.core.errors import BadMessage
from gateway.core.message import EVERYONE, Audience, Cursor
from gateway.core.presence_wire import PresenceRequest, read_presence
from gateway.core.sample import Sample, read_sample

__all__ = [
    "Authenticate",
    "Bandwidth",
    "DeviceRequest",
    "Ping",
    "PresenceRequest",
    "Publish",
    "Request",
    "RequestId",
    "Subscribe",
    "Unsubscribe",
    "parse",
    "read",
    "read_bandwidth",
    "read_cursor",
    "read_key",
    "request_id",
]

MAXIMUM_ID_LENGTH: Final = 64
MAXIMUM_KEY_LENGTH: Final = 64

RequestId = str | int | None
"""What a client calls its request; every answer to it bears the same."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A client wants the messages of rooms, or of all that patterns match, merged in order."""

    id: RequestId
    rooms: tuple[str, ...]
    since: Cursor | None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """A client wants no more of them."""

    id: RequestId
    room: str


@dataclass(frozen=True, slots=True)
class Publish:
    """A client sends data into a room."""

    id: RequestId
    room: str
    data: Any
    binary: bool
    audience: Audience = EVERYONE
    volatile: bool = False
    key: str | None = None
    """What is sent again under the same key goes out once."""


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """A client asks the device behind a room."""

    id: RequestId
    room: str
    data: Any
    binary: bool
    timeout_seconds: float | None


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """A client wants to be sent at most so many bytes a second; None for as many as it may be."""

    id: RequestId
    bytes_per_second: float | None


@dataclass(frozen=True, slots=True)
class Ping:
    """A client asks whether the gateway is there."""

    id: RequestId


Request = Authenticate | Subscribe | Unsubscribe | Publish | DeviceRequest | PresenceRequest | Bandwidth | Ping

_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "auth": ("id", "token"),
    "subscribe": ("id", "room", "since", "sample"),
    "unsubscribe": ("id", "room"),
    "publish": ("id", "room", "data", "binary", "to", "echo", "volatile", "key"),
    "request": ("id", "room", "data", "binary", "timeout_seconds"),
    "presence": ("id", "room", "member", "state"),
    "bandwidth": ("id", "bytes_per_second"),
    "ping": ("id",),
}


def parse(frame: str | bytes) -> dict[str, Any]:
    """The JSON object in a client's frame.

    Raises:
        BadMessage: it isn't text, not JSON, or not an object.
    """
    if isinstance(frame, bytes):
        raise BadMessage("expected a text frame, found a binary one")
    try:
        value = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        raise BadMessage(f"expected a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise BadMessage('expected a JSON object such as {"type": "subscribe", "room": "sites/#"}')
    return value


def request_id(value: Mapping[str, Any]) -> RequestId:
    """What the client calls this request, as far as it can be made out."""
    found = value.get("id")
    is_id = (isinstance(found, str) and len(found) <= MAXIMUM_ID_LENGTH) or type(found) is int
    return found if is_id else None


def read(value: Mapping[str, Any]) -> Request:
    """The request in a client's object.

    Raises:
        BadMessage: an unknown type, or a field that is unknown, lacking or wrong; it names the field.
    """
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise BadMessage(f"type: expected {_listed(_FIELDS)}, found {_shown(kind)}{_nearest(kind, _FIELDS)}")
    for name in value:
        if name != "type" and name not in _FIELDS[kind]:
            raise BadMessage(f"unknown field {_shown(name)} in {kind}{_nearest(name, _FIELDS[kind])}")
    identifier = request_id(value)
    if identifier is None and value.get("id") is not None:
        raise BadMessage(f"id: expected a whole number or a string of at most {MAXIMUM_ID_LENGTH} characters")
    return _READERS[kind](identifier, value)


def _read_publish(identifier: RequestId, value: Mapping[str, Any]) -> Publish:
    room = _room(value)
    if "data" not in value:
        raise BadMessage("data: expected what is to be published, found nothing")
    key = value.get("key")
    return Publish(
        identifier,
        room,
        value["data"],
        _flag(value, "binary"),
        _audience(value),
        _flag(value, "volatile"),
        None if key is None else read_key(key),
    )


def read_key(key: object) -> str:
    """A key of idempotency.

    Raises:
        BadMessage: it isn't one.
    """
    if not isinstance(key, str) or not 1 <= len(key) <= MAXIMUM_KEY_LENGTH:
        raise BadMessage(f"key: expected a string of 1 to {MAXIMUM_KEY_LENGTH} characters, found {_shown(key)}")
    return key


def _audience(value: Mapping[str, Any]) -> Audience:
    """Who is to get it: `to` names a session or a user, `echo: false` leaves out the sender."""
    echo = _flag(value, "echo", default=True)
    to = value.get("to")
    if to is None:
        return EVERYONE if echo else Audience(sender=False)
    if not isinstance(to, dict) or len(to) != 1 or not isinstance(to.get("session", to.get("user")), str):
        raise BadMessage('to: expected {"session": "…"} or {"user": "…"}')
    return Audience(to.get("session"), to.get("user"), echo)


def _flag(value: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    flag = value.get(name, default)
    if not isinstance(flag, bool):
        raise BadMessage(f"{name}: expected true or false, found {_shown(flag)}")
    return flag


def _read_request(identifier: RequestId, value: Mapping[str, Any]) -> DeviceRequest:
    if identifier is None:
        raise BadMessage("id: expected one, by which the reply is known, found nothing")
    asked = _read_publish(identifier, value)
    timeout_seconds = value.get("timeout_seconds")
    if timeout_seconds is not None and type(timeout_seconds) not in (int, float):
        raise BadMessage(f"timeout_seconds: expected a number of seconds, found {_shown(timeout_seconds)}")
    return DeviceRequest(identifier, asked.room, asked.data, asked.binary, timeout_seconds)


def _room(value: Mapping[str, Any]) -> str:
    room = value.get("room")
    if not isinstance(room, str):
        raise BadMessage(f"room: expected a string, found {_shown(room)}")
    return room


def _rooms(value: Mapping[str, Any]) -> tuple[str, ...]:
    rooms = value.get("room")
    if not isinstance(rooms, list):
        return (_room(value),)
    if not rooms or not all(isinstance(room, str) for room in rooms):
        raise BadMessage("room: expected a string, or a list of at least one")
    return tuple(dict.fromkeys(rooms))


def _since(value: Mapping[str, Any]) -> Cursor | None:
    since = value.get("since")
    if since is not None and not isinstance(since, str):
        raise BadMessage(f"since: expected a cursor, found {_shown(since)}")
    return read_cursor("since", since)


def read_cursor(name: str, text: str | None) -> Cursor | None:
    """The cursor that a client gave under this name; None for none.

    Raises:
        BadMessage: it isn't one.
    """
    try:
        return None if text is None else Cursor.parse(text)
    except ValueError as error:
        raise BadMessage(f"{name}: {error}") from None


def read_bandwidth(value: object) -> float | None:
    """How many bytes a second a client wants to be sent at most; None for no such wish.

    Raises:
        BadMessage: it is no number above 0.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 2**63):
        raise BadMessage(f"bytes_per_second: expected a number above 0, or null, found {_shown(value)}")
    return value


def _shown(value: object) -> str:
    """A client's value, short enough for an error text."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = orjson.dumps(value).decode()
    return text if len(text) <= 40 else f"{text[:40]}…"


def _listed(names: Iterable[str]) -> str:
    *others, last = (f'"{name}"' for name in names)
    return f"{', '.join(others)} or {last}"


def _nearest(name: object, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, 1) if isinstance(name, str) and len(name) < 40 else []
    return f': did you mean "{close[0]}"?' if close else ""


_READERS: Final[Mapping[str, Callable[[RequestId, Mapping[str, Any]], Request]]] = {
    "auth": read_auth,
    "subscribe": lambda i, v: Subscribe(i, _rooms(v), _since(v), read_sample(v.get("sample"))),
    "unsubscribe": lambda i, v: Unsubscribe(i, _room(v)),
    "publish": _read_publish,
    "request": _read_request,
    "presence": lambda i, v: read_presence(i, _room(v), v),
    "bandwidth": lambda i, v: Bandwidth(i, read_bandwidth(v.get("bytes_per_second"))),
    "ping": lambda i, _: Ping(i),
}
