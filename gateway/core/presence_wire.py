"""Presence in `tidegate.v1.json`: what clients ask and set, and what they are told. A part of `wire`, sans-I/O too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.core.errors import BadMessage
from gateway.core.presence import Attendees, Change, Counted, Joined, Left, Member, Who

__all__ = [
    "MAXIMUM_KEY_LENGTH",
    "PresenceRequest",
    "attendees_fields",
    "encode_change",
    "read_member",
    "read_member_query",
    "read_presence",
]

MAXIMUM_KEY_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class PresenceRequest:
    """A client asks who is in a room, having said, perhaps, who it is itself and in which state."""

    id: str | int | None
    room: str
    member: str | None = None
    state: Any = None
    has_state: bool = False
    """Whether there is a state in it; null is one, that takes the last one back."""


def read_presence(identifier: str | int | None, room: str, value: Mapping[str, Any]) -> PresenceRequest:
    """The request in a client's object, whose type, fields, `id` and `room` have been seen to.

    Raises:
        BadMessage: its member is no key, or it asks without an `id`, by which the answer would be known.
    """
    member = read_member(value["member"]) if value.get("member") is not None else None
    if identifier is None and member is None and "state" not in value:
        raise BadMessage("id: expected one, by which the reply is known, found nothing")
    return PresenceRequest(identifier, room, member, value.get("state"), "state" in value)


def read_member(key: object) -> str:
    """The key that a client gives itself.

    Raises:
        BadMessage: it isn't one.
    """
    if not isinstance(key, str) or not 0 < len(key) <= MAXIMUM_KEY_LENGTH or not key.isprintable():
        raise BadMessage(f"member: expected a key of 1 to {MAXIMUM_KEY_LENGTH} printable characters")
    return key


def read_member_query(query: Mapping[str, list[str]]) -> str | None:
    """The key in the query of an address, `/ws?member=…`, if there is one.

    Raises:
        BadMessage: it isn't one, or there are several.
    """
    keys = query.get("member", [])
    if len(keys) > 1:
        raise BadMessage(f"member: expected one, found {len(keys)}")
    return read_member(keys[0]) if keys else None


def _who(who: Who, state: bytes | None = None) -> dict[str, Any]:
    named: dict[str, Any] = {who.kind: who.name}
    return named if state is None else {**named, "state": orjson.Fragment(state)}


def _member(member: Member) -> dict[str, Any]:
    return _who(member.who, member.state)


def attendees_fields(attendees: Attendees) -> dict[str, Any]:
    """`count`, and `members` where they aren't too many."""
    if attendees.members is None:
        return {"count": attendees.count}
    return {"count": attendees.count, "members": [_member(member) for member in attendees.members]}


def encode_change(change: Change) -> tuple[str, bytes]:
    """The type and the JSON text of what clients are told."""
    kind: str
    fields: dict[str, Any]
    match change:
        case Joined():
            kind, fields = "joined", {"who": _member(change.member)}
            if change.updated:
                fields["updated"] = True
        case Left():
            kind, fields = "left", {"who": _who(change.who)}
        case Counted():
            kind, fields = "presence", attendees_fields(change.attendees)
    return kind, orjson.dumps({"type": kind, "room": change.room, **fields})
