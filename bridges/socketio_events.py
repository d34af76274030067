"""What clients of Socket.IO emit, as objects of `tidegate.v1.json`: names and arguments in, an object out.

Nothing acts here, nor is more read than makes the object: what is wrong with that is said by `wire_requests`.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final

from bridges.socketio_framing import OWN_EVENTS
from bridges.socketio_packets import MAXIMUM_ATTACHMENTS, RESERVED_EVENTS, StrictPacket
from gateway.core.errors import BadMessage
from gateway.core.wire_requests import RequestId

__all__ = ["EMIT_OPTIONS", "read_event", "read_options"]

MAXIMUM_NAME_LENGTH: Final = 64

EMIT_OPTIONS: Final = ("echo", "to", "volatile", "key", "answer", "timeout_seconds")


def read_event(identifier: RequestId, name: str, args: list[Any]) -> dict[str, Any]:
    """The object that an event stands for; `identifier` is the number of its acknowledgement.

    Raises:
        BadMessage: there is no such event, or it has too many arguments, or options that are none.
    """
    if name not in _READERS:
        raise BadMessage(f"event: expected one of {', '.join(_READERS)}; send others by `emit`, found {name[:40]!r}")
    usage, reader = _READERS[name]
    if len(args) > usage.count(",") + 1:
        raise BadMessage(f"{name}: expected at most {usage}, found {len(args)} arguments")
    if identifier is None and name in ("request", "presence") and (name == "request" or len(args) < 2):
        raise BadMessage(f"{name}: expected a function at its end, which is told the answer")
    given = {} if identifier is None else {"id": identifier}
    return {**reader(args), "type": "publish" if name == "emit" else name, **given}


def read_options(args: list[Any], place: int, known: tuple[str, ...]) -> dict[str, Any]:
    """The options among an event's arguments, if there are any.

    Raises:
        BadMessage: what is there is no object, or has something unknown.
    """
    options = args[place] if len(args) > place else None
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise BadMessage("options: expected an object")
    unknown = options.keys() - set(known)
    if unknown:
        raise BadMessage(f"options: expected {', '.join(known)}, found {min(unknown)[:40]!r}")
    return options


def _room(args: list[Any], *known: str) -> dict[str, Any]:
    """The room, and the options behind it."""
    return {**read_options(args, 1, known), "room": args[0] if args else None}


def _data(args: list[Any], *known: str) -> dict[str, Any]:
    """Room, data, and the options behind them. A buffer is sent as what it is."""
    fields = {**read_options(args, 2, known), "room": args[0] if args else None}
    if len(args) > 1:
        fields["data"] = args[1]
        if isinstance(args[1], bytes):
            fields |= {"data": b64encode(args[1]).decode(), "binary": True}
    return fields


def _emit(args: list[Any]) -> dict[str, Any]:
    """A client's own event, as a message's data that clients of Socket.IO are given as that event."""
    name, values = (args[place] if len(args) > place else None for place in (1, 2))
    if not isinstance(name, str) or not 0 < len(name) <= MAXIMUM_NAME_LENGTH:
        raise BadMessage(f"name: expected that of an event, of 1 to {MAXIMUM_NAME_LENGTH} characters")
    if name in OWN_EVENTS | RESERVED_EVENTS:
        raise BadMessage(f"name: expected one of your own, found {name!r}, which has a meaning of its own")
    if not isinstance(values, list | None):
        raise BadMessage("args: expected an array of the event's arguments")
    try:
        plain, attachments = StrictPacket.deconstruct_binary(values or [])
    except RecursionError:
        raise BadMessage("args: expected less depth") from None
    data: dict[str, Any] = {"event": name, "args": plain}
    if len(attachments) > MAXIMUM_ATTACHMENTS:
        raise BadMessage(f"args: expected at most {MAXIMUM_ATTACHMENTS} buffers")
    if attachments:
        data["attachments"] = [b64encode(each).decode() for each in attachments]
    options = read_options(args, 3, EMIT_OPTIONS)
    options = {key: value for key, value in options.items() if key not in ("answer", "timeout_seconds")}
    return {**options, "room": args[0], "data": data}


_READERS: Final[Mapping[str, tuple[str, Callable[[list[Any]], dict[str, Any]]]]] = {
    "subscribe": ("room, options", lambda args: _room(args, "since", "sample")),
    "unsubscribe": ("room", _room),
    "publish": ("room, data, options", lambda args: _data(args, "binary", "to", "echo", "volatile", "key")),
    "request": ("room, data, options", lambda args: _data(args, "binary", "timeout_seconds")),
    "presence": ("room, options", lambda args: _room(args, "member", "state")),
    "emit": ("room, name, args, options", _emit),
    "auth": ("token", lambda args: {"token": args[0] if args else None}),
    "bandwidth": ("bytes_per_second", lambda args: {"bytes_per_second": args[0] if args else None}),
    "ping": ("nothing", lambda _: {}),
}
"""How each event is used, and what makes its object."""
