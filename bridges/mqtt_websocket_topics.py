"""Topics of MQTT clients and rooms: which rooms a filter stands for, and which room a topic is.

Clients use the topics that devices use, as they would at the broker. The routing table, read backwards, gives the rooms
behind them, and so all that rules and limits say of rooms holds. A topic or filter that isn't any route's stands for
the room, or the rooms, of the same name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from bridges.mqtt_websocket_fields import MqttError, Reason
from gateway.core.codec import PayloadKind, PayloadRule
from gateway.core.errors import BadMessage, ReadOnly
from gateway.core.filters import minimal_cover
from gateway.core.payload import decode
from gateway.core.routes import Route, RouteSpec, is_reserved
from gateway.core.routing import RoutingTable
from gateway.core.topics import Capture, InvalidName, Pattern, Translation, all_capturable, check_filter, check_name
from gateway.core.trie import FilterTrie

__all__ = ["Heard", "Target", "Topics"]

SHARED: Final = "$share"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a filter of topics stands for."""

    rooms: tuple[str, ...]
    """Rooms, or patterns over rooms."""
    by_room: bool
    """Whether it was meant as a filter over rooms, whose messages have the rooms' names as topics."""
    exact: bool
    """Whether all that comes in these rooms is for it, and looks the same to everybody."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client's message goes, as it is sent there."""

    room: str
    data: Any
    binary: bool


class Topics:
    """The routing table of a namespace, as clients of MQTT see it."""

    def __init__(self, routing: RoutingTable) -> None:
        self._routing = routing
        self._upstreams = sorted({name for route in routing.routes for name in route.upstreams})
        self._written: FilterTrie[tuple[Route, Translation | None]] = FilterTrie()
        self._rooms: FilterTrie[Route] = FilterTrie()
        self._topics: FilterTrie[Route] = FilterTrie()
        self._heard = [route for route in routing.routes if route.to_room is not None]
        self._commanded = [route for route in routing.routes if route.to_room is None]
        for route in self._heard:
            self._rooms.add(route.room.filter, route)
            self._topics.add(route.topic.filter, route)
        for route in routing.routes:
            if route.to_topic is not None:
                known = set(route.room.captures) <= set(route.topic.captures)
                translation = Translation(route.topic, route.room) if known else None
                self._written.add(route.topic.filter, (route, translation))

    def heard(self, topic_filter: str) -> Heard:
        """The rooms that a filter stands for: those of all routes that bring messages of such topics.

        Raises:
            MqttError: it is no filter, one of a kind that isn't served, or only devices are told on such topics.
        """
        _check_filter(topic_filter)
        wanted = topic_filter.split("/")
        found = [(route, bound) for route in self._heard if (bound := _bind(route.topic, wanted))[0]]
        if found:
            rooms = minimal_cover({_room(route.room, bound): 0 for route, bound in found})
            return Heard(tuple(rooms), by_room=False, exact=all(self._is_alone(route) for route, _ in found))
        if any(_bind(route.topic, wanted)[0] for route in self._commanded):
            raise MqttError(Reason.NOT_AUTHORIZED, "forbidden: only devices are told what is sent to such topics")
        return Heard((topic_filter,), by_room=True, exact=not self._rooms.intersecting(topic_filter))

    def _is_alone(self, route: Route) -> bool:
        """Whether each of a route's topics has a room of its own, and each of its rooms only that topic."""
        of_rooms = self._rooms.intersecting(route.room.filter)
        of_topics = self._topics.intersecting(route.topic.filter)
        return len(of_rooms) == len(of_topics) == 1 and set(route.room.captures) == set(route.topic.captures)

    def target(self, topic: str, payload: bytes) -> Target:
        """The room that a client's message is for.

        Raises:
            MqttError: that is no topic of a room.
            ReadOnly: only devices write there.
            BadMessage: the payload isn't what the route says.
        """
        room = self._room_of(topic)
        routes = self._routing.topics_for(room)
        return Target(room, *_data(routes[0][0].spec if routes else None, payload))

    def _room_of(self, topic: str) -> str:
        try:
            check_name(topic)
        except InvalidName as error:
            raise MqttError(Reason.TOPIC_INVALID, f"bad_message: topic: {error}") from None
        if is_reserved(topic):
            raise ReadOnly(f"{topic[:200]!r} is a topic of the gateway's own")
        levels, capturable = topic.split("/"), all_capturable(topic)
        found = sorted(self._written.match(levels), key=lambda written: written[0].index)
        for _, translation in found:
            room = None if translation is None else translation.render(levels, capturable)
            if room is not None:
                return room
        if found:
            hint = found[0][0].room.text
            raise MqttError(Reason.TOPIC_INVALID, f"bad_message: topic: expected the name of a room such as {hint}")
        if any(self._routing.rooms_for(upstream, topic) for upstream in self._upstreams):
            raise ReadOnly(f"only devices write to {topic[:200]!r}: no route leads there")
        return topic

    def kind_of(self, room: str, topic: str) -> PayloadRule | None:
        """How a device's payload was read that came from a topic into a room; as JSON where it was transformed.

        None where the room isn't the first of those that the topic goes to: one message is told once.
        """
        for upstream in self._upstreams:
            for place, (route, routed) in enumerate(self._routing.rooms_for(upstream, topic)):
                if routed == room:
                    told = route.spec.payload if route.spec.transform is None else PayloadKind.JSON
                    return None if place else told
        return PayloadKind.AUTO  # a route of before


def _check_filter(topic_filter: str) -> None:
    if topic_filter.partition("/")[0] == SHARED:
        raise MqttError(Reason.SHARED_NOT_SUPPORTED, "shared subscriptions aren't served")
    if topic_filter.startswith("$") or is_reserved(topic_filter):
        raise MqttError(Reason.NOT_AUTHORIZED, f"forbidden: {topic_filter[:200]!r} is the broker's own")
    try:
        check_filter(topic_filter)
    except InvalidName as error:
        raise MqttError(Reason.FILTER_INVALID, f"bad_message: filter: {error}") from None


def _bind(pattern: Pattern, wanted: Sequence[str]) -> tuple[bool, Mapping[str, Sequence[str]]]:
    """Whether some topic matches both, and what of a filter each capture stands for then."""
    bound: dict[str, Sequence[str]] = {}
    first = pattern.levels[0]
    if wanted[0] in ("+", "#") and isinstance(first, str) and first.startswith("$"):
        return False, bound
    for place, level in enumerate(pattern.levels):
        rest = wanted[place:]
        if rest[:1] == ["#"]:
            captures = (each for each in pattern.levels[place:] if isinstance(each, Capture))
            bound |= {each.name: ["#" if each.rest else "+"] for each in captures}
            return True, bound
        if not rest:
            return False, bound
        if isinstance(level, Capture):
            bound[level.name] = rest if level.rest else rest[:1]
            if level.rest:
                return True, bound
        elif rest[0] not in ("+", level):
            return False, bound
    return list(wanted[len(pattern.levels) :]) in ([], ["#"]), bound


def _room(room: Pattern, bound: tuple[bool, Mapping[str, Sequence[str]]]) -> str:
    levels: list[str] = []
    for level in room.levels:
        levels += [level] if isinstance(level, str) else bound[1][level.name]
    return "/".join(levels)


def _data(spec: RouteSpec | None, payload: bytes) -> tuple[Any, bool]:
    """A client's bytes as data that becomes these bytes again where a device gets them."""
    kind = PayloadKind.AUTO if spec is None else spec.payload
    if kind is PayloadKind.AUTO and spec is not None and spec.accepts is None:
        kind = PayloadKind.TEXT if _is_text(payload) else PayloadKind.BYTES
    elif kind not in (PayloadKind.JSON, PayloadKind.TEXT, PayloadKind.BYTES):
        kind = PayloadKind.AUTO
    try:
        found = decode(kind, payload)
    except ValueError as error:
        raise BadMessage(f"payload: {error}") from None
    return orjson.loads(found.data), found.binary


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
