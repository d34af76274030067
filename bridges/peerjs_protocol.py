"""What PeerJS clients (`peerjs` 1.5) and PeerServer say to each other, sans-I/O: text in, signals out, text to send.

Nothing acts here; who is there and who gets what is in `peerjs_switchboard`. A client says `OFFER`, `ANSWER`,
`CANDIDATE` and `LEAVE` to another one (`dst`), and `HEARTBEAT`; it is told those of others, `OPEN`, `ID-TAKEN`,
`INVALID-KEY`, `EXPIRE` of a call that comes to nothing, and `ERROR`, at which it leaves.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import orjson

from gateway.core.errors import BadMessage, PresenceFull, TidegateError
from gateway.core.peer_errors import IdTaken, InvalidKey

__all__ = [
    "HEARTBEAT",
    "OPEN",
    "SIGNAL",
    "Handshake",
    "Heartbeat",
    "Ids",
    "Incoming",
    "Signal",
    "check_id",
    "expire",
    "read",
    "read_handshake",
    "read_quietly",
    "refusal",
    "told",
]

SIGNAL: Final = "signal"
"""The kind of what is PeerJS text already, among the kinds of the wire protocol."""
OPEN: Final = b'{"type":"OPEN"}'
RELAYED: Final = ("OFFER", "ANSWER", "CANDIDATE")
"""What goes to another peer and waits for it, if it is about to come."""
HEARTBEAT: Final = "HEARTBEAT"
LEAVE: Final = "LEAVE"
MAXIMUM_ID_LENGTH: Final = 64
MAXIMUM_TOKEN_LENGTH: Final = 8192
"""JSON Web Tokens are long."""
MISSING: Final = "No id, token, or key supplied to websocket server"
"""PeerServer's own words."""

Ids: TypeAlias = Literal["any", "user"]

_ID = re.compile(r"[A-Za-z0-9]+(?:[ _-][A-Za-z0-9]+)*")
"""As the client itself checks it (`util.validateId`)."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the address of a client's WebSocket says."""

    key: str
    id: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Signal:
    """What one peer has to say to another; or, with `LEAVE` to nobody, that it goes."""

    kind: str
    dst: str | None
    payload: bytes | None = None
    """JSON text."""

    @property
    def waits(self) -> bool:
        """Whether it is kept for a peer that is about to come."""
        return self.kind in RELAYED

    @property
    def follows(self) -> bool:
        """Whether it is a part of what was said before."""
        return self.kind == "CANDIDATE"

    def text(self, src: str) -> bytes:
        """What the other one is told; who says it, says the gateway."""
        fields: dict[str, Any] = {"type": self.kind, "src": src, "dst": self.dst}
        if self.payload is not None:
            fields["payload"] = orjson.Fragment(self.payload)
        return orjson.dumps(fields)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life."""


Incoming: TypeAlias = Signal | Heartbeat


def read_handshake(query: Mapping[str, list[str]]) -> Handshake:
    """What a client asks for by `?key=…&id=…&token=…`.

    Raises:
        BadMessage: one of them lacks, stands twice, or is no id or token.
    """
    given = {name: query.get(name, []) for name in ("key", "id", "token")}
    if not all(len(values) == 1 and values[0] for values in given.values()):
        raise BadMessage(f"{MISSING}: expected each of `key`, `id` and `token` once")
    handshake = Handshake(*(values[0] for values in given.values()))
    _check_id("id", handshake.id)
    if len(handshake.token) > MAXIMUM_TOKEN_LENGTH:
        raise BadMessage(f"token: expected at most {MAXIMUM_TOKEN_LENGTH} characters")
    return handshake


def _check_id(name: str, found: object) -> str:
    if not isinstance(found, str) or len(found) > MAXIMUM_ID_LENGTH or not _ID.fullmatch(found):
        raise BadMessage(
            f"{name}: expected 1 to {MAXIMUM_ID_LENGTH} letters and digits, with single spaces, `-` or `_` between them"
        )
    return found


def check_id(identifier: str, user: str | None, ids: Ids) -> bool:
    """Whether somebody may take an id: any at all, or only the user's own name, and those that begin with it."""
    if ids == "any":
        return True
    return user is not None and (identifier == user or identifier.startswith((f"{user}-", f"{user}_", f"{user} ")))


def read(frame: str | bytes) -> Incoming:
    """What a client says. Who it says it is (`src`) is passed over.

    Raises:
        BadMessage: that isn't understood; it names the field.
    """
    try:
        value = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        raise BadMessage(f"expected a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise BadMessage("expected a JSON object")
    kind = value.get("type")
    if kind == HEARTBEAT:
        return Heartbeat()
    if kind == LEAVE:
        return Signal(LEAVE, None if value.get("dst") is None else _check_id("dst", value["dst"]))
    if kind not in RELAYED:
        expected = ", ".join((*RELAYED, LEAVE, HEARTBEAT))
        raise BadMessage(f"type: expected one of {expected}, found {str(kind)[:40]!r}")
    return Signal(kind, _check_id("dst", value.get("dst")), _payload(value.get("payload")))


def _payload(payload: object) -> bytes:
    if not isinstance(payload, dict):  # the client that gets it looks into it unseen
        raise BadMessage("payload: expected an object")
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        raise BadMessage(f"payload: expected JSON of less depth ({error})") from None


def read_quietly(frame: str | bytes) -> Incoming | None:
    """As `read`, but None for what isn't understood."""
    try:
        return read(frame)
    except BadMessage:
        return None


def _reason(code: str, message: str, retry_after_seconds: float | None = None) -> dict[str, Any]:
    """The client shows `msg`; `code` is for whoever reads along."""
    said: dict[str, Any] = {"msg": message, "code": code}
    return said if retry_after_seconds is None else {**said, "retry_after_seconds": retry_after_seconds}


def expire(src: str, dst: str, error: TidegateError) -> bytes:
    """What tells a caller (`dst`) that its call to `src` comes to nothing: `peer-unavailable`, and it may go on."""
    reason = _reason(error.code, error.message, error.retry_after_seconds)
    return orjson.dumps({"type": "EXPIRE", "src": src, "dst": dst, "payload": reason})


def refusal(error: TidegateError) -> bytes:
    """What tells a client that it can't be served; it gives up then."""
    match error:
        case IdTaken():
            kind = "ID-TAKEN"
        case InvalidKey():
            kind = "INVALID-KEY"
        case _:
            kind = "ERROR"
    return orjson.dumps({"type": kind, "payload": _reason(error.code, error.message, error.retry_after_seconds)})


def told(kind: str, text: bytes) -> bytes:
    """What a peer is told of an object of the wire protocol, which its session is sent; nothing of most.

    Messages in the room are for others: what is to be a signal comes from a peer, by the switchboard.
    """
    if kind == SIGNAL:
        return text
    if kind not in ("bye", "error"):
        return b""
    said = orjson.loads(text)
    if said["code"] == PresenceFull.code:  # it isn't shown, and called all the same
        return b""
    message = said["reason"] if kind == "bye" else said["message"]
    return orjson.dumps({"type": "ERROR", "payload": _reason(said["code"], message, said.get("retry_after_seconds"))})
