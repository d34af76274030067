"""Errors of limits that a client meets by coming too often, or by leaving too much behind: more of `errors`."""

from gateway.core.errors import TidegateError

__all__ = [
    "AddressRefused",
    "Idle",
    "RateLimited",
    "RoomRateLimited",
    "TooManyConnections",
    "TooManyConnectionsFromAddress",
    "TooManyConnectionsOfUser",
    "TooManyHandshakes",
    "TooManyRequests",
    "TooManyRooms",
    "TooManySubscriptions",
    "UrlTooLong",
]


class AddressRefused(TidegateError):
    """Too many connections from this address went over limits: nothing is taken from it for a while."""

    code = "address_refused"
    http_status = 429
    retry = True
    limit = "offences"


class Idle(TidegateError):
    """A WebSocket that is of no use, and sent nothing for `limits.idle_seconds`, or `peerjs.alive_seconds`."""

    code = "idle"
    http_status = 408
    close_code = 4410
    retry = True
    limit = "idle_seconds"


class RateLimited(TidegateError):
    """More messages or bytes than the connection may send; closes the connection that goes on regardless."""

    code = "rate_limited"
    http_status = 429
    close_code = 4429
    retry = True


class RoomRateLimited(TidegateError):
    """All clients together send more into the room than `limits.publishes_per_room_per_second`."""

    code = "room_rate_limited"
    http_status = 429
    limit = "publishes_per_room_per_second"


class TooManyConnections(TidegateError):
    """More connections than `limits.connections`."""

    code = "too_many_connections"
    http_status = 503
    retry = True
    limit = "connections"


class TooManyConnectionsFromAddress(TidegateError):
    """More connections from one address than `limits.connections_per_address`."""

    code = "too_many_connections_from_address"
    http_status = 429
    close_code = 4429
    retry = True
    limit = "connections_per_address"


class TooManyConnectionsOfUser(TidegateError):
    """More connections of one user than `limits.connections_per_user`."""

    code = "too_many_connections_of_user"
    http_status = 429
    close_code = 4429
    retry = True
    limit = "connections_per_user"


class TooManyHandshakes(TidegateError):
    """More new connections from one address than `limits.handshakes_per_address_per_second`."""

    code = "too_many_handshakes"
    http_status = 429
    retry = True
    limit = "handshakes_per_address_per_second"


class TooManyRequests(TidegateError):
    """More requests are under way than `limits.requests_in_flight`, or than the gateway keeps in all."""

    code = "too_many_requests"
    http_status = 429
    limit = "requests_in_flight"


class TooManyRooms(TidegateError):
    """More rooms without a route are in use than `limits.rooms_per_address`, or than `limits.rooms` in all."""

    code = "too_many_rooms"
    http_status = 429


class TooManySubscriptions(TidegateError):
    """More rooms than `limits.subscriptions_per_connection`."""

    code = "too_many_subscriptions"
    http_status = 429
    limit = "subscriptions_per_connection"


class UrlTooLong(TidegateError):
    """A request whose path and query are longer than `limits.url_bytes`."""

    code = "url_too_long"
    http_status = 414
    limit = "url_bytes"
