"""The routing table: which rooms a topic goes to, which topics a room goes to, and what to subscribe to upstream.

Both questions are answered by a trie, so their cost does not grow with the number of routes; answers for topics are
remembered, since devices publish to the same topics again and again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.core.route_checks import check_routes
from gateway.core.routes import Direction, PayloadKind, Route, RouteProblem, RouteSpec, RoutingError, is_reserved
from gateway.core.topics import all_capturable
from gateway.core.trie import FilterTrie

__all__ = [
    "Direction",
    "Explanation",
    "PayloadKind",
    "Route",
    "RouteProblem",
    "RouteSpec",
    "RoutingError",
    "RoutingTable",
]

REMEMBERED_TOPICS: Final = 65_536
"""How many topics' rooms an upstream's table remembers; then it forgets them all and starts anew."""

Matches: TypeAlias = tuple[tuple[Route, str], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One translation that a name takes: along which route, through which upstream, to what."""

    route: Route
    upstream: str
    output: str
    to_device: bool


class RoutingTable:
    """All routes of a namespace, checked.

    Raises:
        RoutingError: the routes can't be used; it holds all problems.
    """

    def __init__(self, specs: Sequence[RouteSpec], upstreams: Sequence[str]) -> None:
        routes, problems = check_routes(specs, upstreams)
        if problems:
            raise RoutingError(tuple(problems))
        self.routes = tuple(routes)
        self._inbound: dict[str, FilterTrie[Route]] = {name: FilterTrie() for name in upstreams}
        self._remembered: dict[str, dict[str, Matches]] = {name: {} for name in upstreams}
        self._outbound: FilterTrie[Route] = FilterTrie()
        self._device_rooms: FilterTrie[Route] = FilterTrie()
        self._replies: dict[str, FilterTrie[Route]] = {name: FilterTrie() for name in upstreams}
        for route in self.routes:
            if route.to_topic is not None:
                self._outbound.add(route.room.filter, route)
            if route.reply is not None:
                self._replies[route.upstreams[0]].add(route.reply.filter, route)
            if route.to_room is not None:
                self._device_rooms.add(route.room.filter, route)
                for name in route.upstreams:
                    self._inbound[name].add(route.topic.filter, route)

    def rooms_for(self, upstream: str, topic: str) -> Matches:
        """The rooms that a message on `topic` goes to, each once, with the first route that leads there."""
        remembered = self._remembered[upstream]
        matches = remembered.get(topic)
        if matches is None:
            if len(remembered) >= REMEMBERED_TOPICS:
                remembered.clear()
            matches = remembered[topic] = self.match(upstream, topic)
        return matches

    def match(self, upstream: str, topic: str) -> Matches:
        """As `rooms_for`, but found anew."""
        levels = topic.split("/")
        routes = self._inbound[upstream].match(levels)
        if not routes or is_reserved(topic):
            return ()
        capturable = all_capturable(topic)
        rooms: dict[str, Route] = {}
        for route in sorted(routes, key=_by_index) if len(routes) > 1 else routes:
            assert route.to_room is not None
            room = route.to_room.render(levels, capturable)
            if room is not None:
                rooms.setdefault(room, route)
        return tuple((route, room) for room, route in rooms.items())

    def topics_for(self, room: str) -> Matches:
        """The topics that a browser's message into `room` goes to, each with its route."""
        levels = room.split("/")
        capturable = all_capturable(room)
        topics: dict[tuple[str, str], Route] = {}
        for route in sorted(self._outbound.match(levels), key=_by_index):
            assert route.to_topic is not None
            topic = route.to_topic.render(levels, capturable)
            if topic is not None and not is_reserved(topic):
                topics.setdefault((route.upstreams[0], topic), route)
        return tuple((route, topic) for (_, topic), route in topics.items())

    def is_written_by_devices(self, room: str) -> bool:
        """Whether a route brings messages of devices into `room`."""
        return bool(self._device_rooms.match(room.split("/")))

    def is_reply_topic(self, upstream: str, topic: str) -> bool:
        """Whether devices answer requests on `topic`."""
        replies = self._replies[upstream]
        return is_reserved(topic) or (bool(replies) and bool(replies.match(topic.split("/"))))

    def needs_response_topic(self, upstream: str) -> bool:
        """Whether a route leads to devices of `upstream` that doesn't say itself where they answer."""
        return any(r.to_topic is not None and r.reply is None and upstream in r.upstreams for r in self.routes)

    def room_filters(self, upstream: str) -> dict[str, int]:
        """The MQTT filters of what devices of the upstream send into rooms, each with its quality of service."""
        return self._filters(upstream, lambda route: () if route.to_room is None else route.filters)

    def reply_filters(self, upstream: str) -> dict[str, int]:
        """The MQTT filters of where devices of the upstream answer, as routes say, each with its quality of service."""
        return self._filters(upstream, lambda route: () if route.reply is None else (route.reply.filter,))

    def _filters(self, upstream: str, filters_of: Callable[[Route], Iterable[str]]) -> dict[str, int]:
        wanted: dict[str, int] = {}
        for route in self.routes:
            for topic_filter in filters_of(route) if upstream in route.upstreams else ():
                wanted[topic_filter] = max(wanted.get(topic_filter, 0), route.spec.qos)
        return wanted

    def explain(self, name: str) -> list[Explanation]:
        """Every translation that `name` takes, read as a topic and read as a room."""
        inward = [
            Explanation(route, upstream, room, to_device=False)
            for upstream in self._inbound
            for route, room in self.match(upstream, name)
        ]
        outward = [
            Explanation(route, route.upstreams[0], topic, to_device=True) for route, topic in self.topics_for(name)
        ]
        return inward + outward


def _by_index(route: Route) -> int:
    return route.index
