"""What can be configured of presence. Units are in the names."""

from typing import Any, Final

from pydantic import TypeAdapter, ValidationError, model_validator

from gateway.config import values
from gateway.config.problems import shown
from gateway.config.section import Section
from gateway.core.device_status import DeviceStatus

__all__ = ["PresenceSettings", "RoutePresenceSettings"]

EXAMPLE: Final = "a mapping such as {member: '{device}', online: [online], offline: [offline]}"


class PresenceSettings(Section):
    """How it is told who is in a room. In which rooms, rules of `rooms` and routes say."""

    grace_seconds: values.GraceSeconds = 5.0
    """How long somebody may be away, as when a page is reloaded, before the others are told; 0 for not at all."""


class RoutePresenceSettings(Section):
    """Presence in a route's rooms: `true` for that of people, or how a device's status or last will is to be read."""

    member: values.Pattern | None = None
    """The device's name, with captures of the topic, such as `{device}`."""
    online: tuple[values.Text, ...] = ("online",)
    """Payloads, as text or as a JSON string, that say that it is there."""
    offline: tuple[values.Text, ...] = ("offline",)
    """Payloads that say that it isn't."""

    @model_validator(mode="before")
    @classmethod
    def _take_flag(cls, data: Any) -> Any:
        if isinstance(data, cls) or data == {}:
            return data
        if not isinstance(data, dict):
            return {"member": None} if _flag(data) else {}
        if data.get("member") is None:
            raise ValueError(f"member: missing: expected {EXAMPLE}")
        return data

    def spec(self) -> DeviceStatus | bool:
        """As the routing table takes it."""
        if self.member is None:
            return "member" in self.model_fields_set
        return DeviceStatus(self.member, frozenset(self.online), frozenset(self.offline))


def _flag(value: object) -> bool:
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        raise ValueError(f"expected true, false, or {EXAMPLE}, found {shown(value)}") from None
