"""One route: what a configuration says of it, and what that means once it is checked.

The table of all routes is in `routing`, what makes a table unfit in `route_checks`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

from gateway.core.codec import PART, PART_NAME, Dialect, PayloadKind, PayloadRule, Transform
from gateway.core.device_status import DeviceStatus
from gateway.core.retention import Retention
from gateway.core.sample import Sample
from gateway.core.topics import Pattern, Translation

__all__ = [
    "RESERVED_TOPICS",
    "Accepts",
    "Direction",
    "PayloadKind",
    "Route",
    "RouteProblem",
    "RouteSpec",
    "RoutingError",
    "is_reserved",
]

RESERVED_TOPICS: Final = "tidegate/replies"
"""Below it are the topics on which gateways wait for devices' answers: no route leads there or from there."""


Accepts: TypeAlias = Callable[[Any], str | None]
"""Says what is wrong with a browser's data, such as `data.switch: expected boolean, found 1`; None for nothing."""


def is_reserved(topic: str) -> bool:
    """Whether a topic is a gateway's own."""
    return topic.startswith(RESERVED_TOPICS + "/") or topic == RESERVED_TOPICS


class Direction(StrEnum):
    """Which way messages go along a route."""

    TO_BROWSER = "to_browser"
    TO_DEVICE = "to_device"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """What a configuration says of one route, unchecked."""

    topic: str
    room: str
    direction: Direction = Direction.TO_BROWSER
    payload: PayloadRule = PayloadKind.AUTO
    qos: int = 0
    """The quality of service of the subscription, and of what is published to devices: 0, 1 or 2."""
    retain: bool = False
    """Whether the broker keeps what is published to devices for later subscribers."""
    last: bool = True
    """Whether the last value of each topic is kept for browsers that come later."""
    history: Retention | None = None
    """How many messages are kept, and for how long; None leaves it to the rule for the room."""
    upstream: str | None = None
    """The upstream's name; None stands for every one."""
    reply: str | None = None
    """Where the device answers requests; None for by MQTT 5's response topic, if at all."""
    presence: DeviceStatus | bool = False
    """Whether it is known, and told, who is in its rooms; or how to tell from its payloads which devices are."""
    sample: Sample | None = None
    """How few of a topic's messages are let through, for everybody."""
    webhook: str | None = None
    """Who is told what happens in its rooms; no matter of routing."""
    accepts: Accepts | None = None
    """What browsers may send to the device; None for anything."""
    transform: Transform | None = None
    """What is made of the data that comes from devices, their answers included."""
    transform_to_device: Transform | None = None
    """What is made of the data that browsers send, once it was accepted."""


@dataclass(frozen=True, slots=True)
class RouteProblem:
    """Why a route is refused: which, by its place in the table, which key of it, and what was expected."""

    index: int
    key: str
    message: str
    other_index: int | None = None
    """The route that this one repeats or loops with."""


class RoutingError(Exception):
    """A routing table that can't be used, with all that is wrong with it."""

    def __init__(self, problems: tuple[RouteProblem, ...]) -> None:
        super().__init__("; ".join(f"routes[{p.index}].{p.key}: {p.message}" for p in problems))
        self.problems = problems


class Route:
    """A checked route, with its translations ready."""

    __slots__ = (
        "index",
        "reply",
        "room",
        "spec",
        "splits",
        "status",
        "to_member",
        "to_reply",
        "to_room",
        "to_topic",
        "topic",
        "upstreams",
    )

    def __init__(
        self,
        index: int,
        spec: RouteSpec,
        topic: Pattern,
        room: Pattern,
        upstreams: tuple[str, ...],
        reply: Pattern | None = None,
    ) -> None:
        self.index = index
        self.spec = spec
        self.topic = topic
        self.room = room
        self.upstreams = upstreams
        """The names of the upstreams it holds for."""
        to_browser = spec.direction is not Direction.TO_DEVICE
        to_device = spec.direction is not Direction.TO_BROWSER
        dialect = isinstance(spec.payload, Dialect)
        self.splits = dialect and room.has_rest and PART_NAME in room.captures
        """Whether each part of a payload goes to a room of its own; then `to_room` gives names that end in `PART`."""
        target = Pattern(room.text, (*room.levels[:-1], PART)) if self.splits else room
        self.to_room = Translation(topic, target) if to_browser else None
        self.to_topic = Translation(room, topic) if to_device else None
        self.reply = reply
        self.to_reply = None if reply is None else Translation(room, reply)
        status = spec.presence if isinstance(spec.presence, DeviceStatus) else None
        self.to_member = None if status is None else Translation(topic, Pattern.parse(status.member))
        self.status = None if dialect else status
        """How payloads are read to know whether a device is there; a dialect knows by itself."""

    @property
    def filters(self) -> tuple[str, ...]:
        """The MQTT filters of what it needs to hear."""
        payload = self.spec.payload
        return (self.topic.filter, *(payload.also(self.topic) if isinstance(payload, Dialect) else ()))

    def __repr__(self) -> str:
        arrow = {Direction.TO_BROWSER: "→", Direction.TO_DEVICE: "←", Direction.BOTH: "↔"}[self.spec.direction]
        return f"<Route {self.index}: {self.topic.text} {arrow} {self.room.text}>"
