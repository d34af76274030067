"""Every error that a client can be told of: its wire code, HTTP status, WebSocket close code, and whether to retry.

Raised in the core, translated once by each bridge. docs/wire-protocol.md prints the same table; a test compares them.
"""

from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "PROTOCOL_CLOSE_CODES",
    "BadMessage",
    "BadReply",
    "EngineUnavailable",
    "Forbidden",
    "HandshakeTimeout",
    "HeadersTooLarge",
    "HostRefused",
    "InternalError",
    "MessageTooLarge",
    "MethodNotAllowed",
    "NoPresence",
    "NoSuchEndpoint",
    "NotRequestable",
    "OriginRefused",
    "PresenceFull",
    "ReadOnly",
    "ReplyAmbiguous",
    "RequestTimeout",
    "ShuttingDown",
    "SlowConsumer",
    "TidegateError",
    "Unauthenticated",
    "UpstreamRefused",
    "UpstreamTimeout",
    "UpstreamUnavailable",
    "WrongSubprotocol",
    "error_table",
]

PROTOCOL_CLOSE_CODES = {
    1000: "the client or the gateway closed in good order",
    1001: "the client left the page",
    1002: "a frame broke RFC 6455",
    1007: "a text frame was not UTF-8",
    1008: "`/ws/raw`: a payload that is refused; the reason is the error's code",
    1009: "a message was larger than `limits.message_bytes`",
    1011: "no answer to a ping, or a fault in the gateway",
    1012: "the gateway is shutting down",
    1013: "`/ws/raw`: a payload that can't be taken now; the reason is the error's code",
}
"""Close codes of RFC 6455 §7.4.1 and IANA's registry that a client can meet besides the 4000s of `error_table`."""


class TidegateError(Exception):
    """What a client did that can't be done, or what befell its session.

    `message` says what was found and what was expected; `retry_after_seconds`, where waiting helps, how long to wait;
    `limit`, where a limit was gone over, its key in the configuration.
    """

    code: ClassVar[str]
    http_status: ClassVar[int]
    close_code: ClassVar[int | None] = None
    """With what a WebSocket is closed, if the error ends the session."""
    retry: ClassVar[bool] = False
    """Whether a client that was closed with this should connect again."""
    limit: str | None = None

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, limit: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.limit = limit or self.limit
        self.counted = False
        """Whether `Counters` has it among those over a limit: what is refused may end the session, too."""


class BadMessage(TidegateError):
    """A message or request that isn't understood: bad JSON, unknown type, wrong field. Names the field."""

    code = "bad_message"
    http_status = 400


class WrongSubprotocol(TidegateError):
    """The WebSocket handshake offered subprotocols, but neither `tidegate.v1.json` nor `tidegate.v1.msgpack`."""

    code = "wrong_subprotocol"
    http_status = 400


class Unauthenticated(TidegateError):
    """Who asks didn't say who it is, or what should prove it is wrong, used up or expired."""

    code = "unauthenticated"
    http_status = 401
    close_code = 4401


class Forbidden(TidegateError):
    """No access rule allows that to who asks; of a pattern, not all that it could match."""

    code = "forbidden"
    http_status = 403


class OriginRefused(TidegateError):
    """The page that asks comes from an origin that isn't the gateway's own nor listed in `origins`."""

    code = "origin_refused"
    http_status = 403


class HostRefused(TidegateError):
    """The request is for another host: its `Host` is neither listed in `hosts` nor an address."""

    code = "host_refused"
    http_status = 421


class ReadOnly(TidegateError):
    """Only devices write into this room: no route leads from it to a device."""

    code = "read_only"
    http_status = 403


class NoSuchEndpoint(TidegateError):
    """Nothing is served at this path."""

    code = "no_such_endpoint"
    http_status = 404


class NoPresence(TidegateError):
    """Who is in this room isn't known: neither a rule of `rooms` nor a route gives it `presence`."""

    code = "no_presence"
    http_status = 404


class MethodNotAllowed(TidegateError):
    """The path is served, but not with this method."""

    code = "method_not_allowed"
    http_status = 405

    def __init__(self, message: str, *, allowed: Iterable[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)
        """The methods that are served: the response has to name them (RFC 9110 §15.5.6)."""


class HandshakeTimeout(TidegateError):
    """No whole head of a request came within `limits.handshake_seconds`, or too little of its body."""

    code = "handshake_timeout"
    http_status = 408
    limit = "handshake_seconds"


class HeadersTooLarge(TidegateError):
    """A request whose line and headers are larger than `limits.header_bytes`."""

    code = "headers_too_large"
    http_status = 431
    limit = "header_bytes"


class MessageTooLarge(TidegateError):
    """A message or body larger than `limits.message_bytes`."""

    code = "message_too_large"
    http_status = 413
    close_code = 1009
    limit = "message_bytes"


class NotRequestable(TidegateError):
    """No device answers in this room: not one route leads from it to a device, or the answer has no way back."""

    code = "not_requestable"
    http_status = 422


class SlowConsumer(TidegateError):
    """The client doesn't read as fast as its rooms fill; more than `limits.write_buffer_bytes` were waiting."""

    code = "slow_consumer"
    http_status = 408
    close_code = 4408
    retry = True
    limit = "write_buffer_bytes"


class InternalError(TidegateError):
    """A fault of the gateway; its log says more."""

    code = "internal_error"
    http_status = 500
    close_code = 1011
    retry = True


class EngineUnavailable(TidegateError):
    """The message can't be stored now: the disk is full, or slower than messages come."""

    code = "engine_unavailable"
    http_status = 503
    retry = True


class UpstreamRefused(TidegateError):
    """The MQTT broker refused the message, or takes none as large."""

    code = "upstream_refused"
    http_status = 502


class BadReply(TidegateError):
    """The device answered with what isn't the `payload` that its route names."""

    code = "bad_reply"
    http_status = 502


class ReplyAmbiguous(TidegateError):
    """An earlier request to the device is overdue, and its late answer could be taken for that of this one."""

    code = "reply_ambiguous"
    http_status = 503


class PresenceFull(TidegateError):
    """As many are shown in rooms as `limits.presence_members`; who gets this hears all, but isn't shown."""

    code = "presence_full"
    http_status = 503
    limit = "presence_members"


class UpstreamUnavailable(TidegateError):
    """The MQTT broker can't be reached, so the device can't; nothing was sent."""

    code = "upstream_unavailable"
    http_status = 503


class ShuttingDown(TidegateError):
    """The gateway is going away; connect again."""

    code = "shutting_down"
    http_status = 503
    close_code = 1012
    retry = True


class RequestTimeout(TidegateError):
    """The device did not answer in time."""

    code = "request_timeout"
    http_status = 504


class UpstreamTimeout(TidegateError):
    """The MQTT broker did not acknowledge a message in time, or was lost before: the device may have it or not."""

    code = "upstream_timeout"
    http_status = 504


def error_table() -> list[type[TidegateError]]:
    """Every error a client can be told of, ordered by HTTP status."""
    from gateway.core import limit_errors, login_errors, peer_errors  # noqa: F401 - which need this module

    return sorted(TidegateError.__subclasses__(), key=lambda error: (error.http_status, error.code))
