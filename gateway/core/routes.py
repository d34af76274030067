"""One route: what a configuration says of it, and what that means once it is checked.

The table of all routes is in `routing`, what makes a table unfit in `route_checks`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

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


class PayloadKind(StrEnum):
    """How a route's payloads are to be understood; see `payload`."""

    JSON = "json"
    TEXT = "text"
    BYTES = "bytes"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """What a configuration says of one route, unchecked."""

    topic: str
    room: str
    direction: Direction = Direction.TO_BROWSER
    payload: PayloadKind = PayloadKind.AUTO
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
        self.to_room = Translation(topic, room) if to_browser else None
        self.to_topic = Translation(room, topic) if to_device else None
        self.reply = reply
        self.to_reply = None if reply is None else Translation(room, reply)
        self.status = spec.presence if isinstance(spec.presence, DeviceStatus) else None
        self.to_member = None if self.status is None else Translation(topic, Pattern.parse(self.status.member))

    def __repr__(self) -> str:
        arrow = {Direction.TO_BROWSER: "→", Direction.TO_DEVICE: "←", Direction.BOTH: "↔"}[self.spec.direction]
        return f"<Route {self.index}: {self.topic.text} {arrow} {self.room.text}>"
