"""Rooms and routes as they are configured: the rules of `rooms` and `routes`."""

import math
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from gateway.config import values
from gateway.config.payload import Expression, RoutePayloadSettings, TransformExpression
from gateway.config.presence import RoutePresenceSettings
from gateway.config.schema_file import SchemaFile, SchemaFromFile
from gateway.config.section import Section
from gateway.core.retention import Retention
from gateway.core.routes import Direction, RouteSpec
from gateway.core.sample import Keep, Sample

__all__ = ["HistorySettings", "RoomSettings", "RouteSettings", "SampleSettings"]


class HistorySettings(Section):
    """How many messages of a room are kept, for clients that come back and for `/history`."""

    messages: values.HistoryMessages = 0
    """So many, the newest; 0 for none."""
    seconds: values.HistorySeconds | None = None
    """But none that are older than this."""

    def retention(self, *, last: bool) -> Retention:
        """As the core takes it."""
        return Retention(last, self.messages, math.inf if self.seconds is None else self.seconds)


class SampleSettings(Section):
    """How few of a topic's messages are let through, for all clients and for the history."""

    seconds: values.SampleSeconds = 0
    """At most one message in so many seconds, besides the first; 0 lets all through."""
    keep: values.SampleKeep = Keep.LAST
    """What is made of the others: the `last`, or of numbers the `mean`, `min` or `max`."""

    def sample(self) -> Sample | None:
        """As the core takes it."""
        return Sample(self.seconds, self.keep) if self.seconds else None


class RoomSettings(Section):
    """What holds of rooms, with a route or without one. The first rule that matches a room holds."""

    room: values.RoomFilter = Field(examples=["chat/#"])
    """The room, or a filter with `+` and `#`."""
    history: HistorySettings = HistorySettings()
    """How many messages are kept. A route's own history goes before it."""
    last: values.Flag = True
    """Whether the last value is kept, in rooms without a route."""
    presence: values.Flag = False
    """Whether it is known, and told, who is in the room."""


class RouteSettings(Section):
    """A rule that joins MQTT topics with rooms. `{name}` captures one level, `{name...}` all that remain."""

    topic: values.Pattern = Field(examples=["sensors/{site}/{device}"])
    """The topic pattern."""
    room: values.Pattern = Field(examples=["sites/{site}/{device}"])
    """The room pattern, with captures of the same names."""
    direction: values.RouteDirection = Direction.TO_BROWSER
    """`to_browser`, `to_device` or `both`."""
    payload: RoutePayloadSettings = RoutePayloadSettings()
    """How payloads are understood: `auto`, `json`, `text`, `bytes`, `cbor`, `msgpack`, `sparkplug`, or a section."""
    qos: values.QualityOfService = 0
    """The quality of service: of the subscription, and of what is published to devices."""
    retain: values.Flag = False
    """Whether the broker keeps what is published to devices for later subscribers."""
    last: values.Flag = True
    """Whether the last value of each topic is kept for browsers that come later."""
    history: HistorySettings = HistorySettings()
    """How many messages of each room are kept; if none, the rules of `rooms` say."""
    upstream: values.UpstreamReference | None = None
    """The upstream's name. To browsers, none stands for every one; to devices, it is needed if there are several."""
    reply: values.Pattern | None = None
    """The topic on which the device answers requests; not needed for devices that speak MQTT 5."""
    presence: RoutePresenceSettings = RoutePresenceSettings()
    """Whether it is known who is in its rooms: `true`, or a section that says how devices tell that they are there."""
    sample: SampleSettings = SampleSettings()
    """How few of a topic's messages are let through, for all clients."""
    webhook: values.WebhookReference | None = None
    """The name of a webhook that is told what happens in its rooms."""
    accepts: SchemaFromFile | None = Field(None, alias="schema")
    """A file with a JSON Schema of what browsers may send to the device."""
    transform: TransformExpression | None = None
    """A JMESPath expression that makes other data of what comes from devices, such as `{temperature: t}`."""
    transform_to_device: TransformExpression | None = None
    """One that makes other data of what browsers send to the device."""

    @field_validator("accepts")
    @classmethod
    def _check_schema(cls, value: SchemaFile | None, info: ValidationInfo) -> SchemaFile | None:
        if value is not None and info.data.get("direction") is Direction.TO_BROWSER:
            raise ValueError("found in a route to browsers: expected it beside `direction: to_device` or `both`")
        if value is not None and _is_bytes(info):
            raise ValueError("expected another payload than `bytes` beside it: bytes have no schema")
        return value

    @field_validator("transform", "transform_to_device")
    @classmethod
    def _check_transform(cls, value: Expression | None, info: ValidationInfo) -> Expression | None:
        if value is not None and _is_bytes(info):
            raise ValueError("expected another payload than `bytes` beside it: there is nothing to pick from bytes")
        back = info.field_name == "transform_to_device"
        if value is not None and back and info.data.get("direction") is Direction.TO_BROWSER:
            raise ValueError("found in a route to browsers: expected it beside `direction: to_device` or `both`")
        return value

    def spec(self) -> RouteSpec:
        """As the routing table takes it."""
        history = self.history.retention(last=self.last) if self.history.messages else None
        sample, presence = self.sample.sample(), self.presence.spec()
        accepts = None if self.accepts is None else self.accepts.accepts
        own: dict[str, Any] = {"history": history, "presence": presence, "sample": sample, "accepts": accepts}
        own["payload"] = self.payload.rule()
        for name in ("transform", "transform_to_device"):
            expression = getattr(self, name)
            own[name] = None if expression is None else expression.transform
        return RouteSpec(**{**dict(self), **own})


def _is_bytes(info: ValidationInfo) -> bool:
    payload = info.data.get("payload")
    return payload is not None and payload.is_bytes
