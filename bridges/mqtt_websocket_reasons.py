"""Errors in MQTT's own terms: the reason codes of MQTT 5 (§2.4), of which `answers` makes 3.1.1's return codes."""

from collections.abc import Mapping
from typing import Final

from bridges.mqtt_websocket_fields import MqttError, Reason
from gateway.core.errors import TidegateError

__all__ = ["goodbye_of", "reason_of", "refusal_of", "told"]

_REASONS: Final[Mapping[str, Reason]] = {
    "bad_message": Reason.PAYLOAD_INVALID,
    "forbidden": Reason.NOT_AUTHORIZED,
    "internal_error": Reason.UNSPECIFIED,
    "message_too_large": Reason.PACKET_TOO_LARGE,
    "origin_refused": Reason.NOT_AUTHORIZED,
    "rate_limited": Reason.QUOTA_EXCEEDED,
    "read_only": Reason.NOT_AUTHORIZED,
    "room_rate_limited": Reason.QUOTA_EXCEEDED,
    "too_many_connections_from_address": Reason.QUOTA_EXCEEDED,
    "too_many_connections_of_user": Reason.QUOTA_EXCEEDED,
    "too_many_rooms": Reason.QUOTA_EXCEEDED,
    "too_many_subscriptions": Reason.QUOTA_EXCEEDED,
    "unauthenticated": Reason.NOT_AUTHORIZED,
}
_GOODBYES: Final[Mapping[str, Reason]] = {
    "idle": Reason.ADMINISTRATIVE,
    "rate_limited": Reason.RATE_TOO_HIGH,
    "shutting_down": Reason.SHUTTING_DOWN,
    "slow_consumer": Reason.QUOTA_EXCEEDED,
}
_REFUSALS: Final[Mapping[str, Reason]] = {
    "engine_unavailable": Reason.SERVER_UNAVAILABLE,
    "logins_busy": Reason.SERVER_BUSY,
    "rate_limited": Reason.CONNECTION_RATE_EXCEEDED,
    "shutting_down": Reason.SERVER_UNAVAILABLE,
    "unauthenticated": Reason.BAD_CREDENTIALS,
}


def reason_of(error: TidegateError | MqttError) -> Reason:
    """Why something that a client asked for is refused."""
    return error.reason if isinstance(error, MqttError) else _REASONS.get(error.code, Reason.IMPLEMENTATION_SPECIFIC)


def goodbye_of(code: str) -> Reason:
    """Why a connection is ended, by the code of an error."""
    return _GOODBYES.get(code, _REASONS.get(code, Reason.UNSPECIFIED))


def refusal_of(error: TidegateError | MqttError) -> Reason:
    """Why a client isn't let in."""
    return reason_of(error) if isinstance(error, MqttError) else _REFUSALS.get(error.code, reason_of(error))


def told(error: TidegateError | MqttError) -> str:
    """The Reason String of an error: as everywhere, its code and what was found and expected."""
    return error.message if isinstance(error, MqttError) else f"{error.code}: {error.message}"
