"""What makes a route's `reply` unfit: where devices answer, only devices may publish."""

from collections.abc import Iterator, Sequence

from gateway.core.routes import RESERVED_TOPICS, Direction, Route, RouteProblem, RouteSpec, is_reserved
from gateway.core.topics import Capture, InvalidName, Pattern
from gateway.core.trie import FilterTrie

__all__ = ["check_reply", "find_forgeable"]


def check_reply(index: int, spec: RouteSpec, room: Pattern | None, found: list[RouteProblem]) -> Pattern | None:
    """The reply pattern of a route, if it has one; what is wrong with it is added to `found`."""
    if spec.reply is None:
        return None
    try:
        reply = Pattern.parse(spec.reply)
    except InvalidName as error:
        found.append(RouteProblem(index, "reply", str(error)))
        return None
    found += (RouteProblem(index, "reply", message) for message in _problems(spec, reply, room))
    return reply


def _problems(spec: RouteSpec, reply: Pattern, room: Pattern | None) -> Iterator[str]:
    if spec.direction is Direction.TO_BROWSER:
        yield "found in a route that leads to no device: expected it beside `direction: to_device` or `both`"
    if reply.levels[0] == "$share":
        yield f"{reply.text!r} is a shared subscription: expected a topic"
    if is_reserved(reply.text):
        yield f"{RESERVED_TOPICS} is the gateway's own: expected another topic"
    if room is None:
        return
    captures = {level.name: level for level in room.levels if isinstance(level, Capture)}
    for level in reply.levels:
        if not isinstance(level, Capture):
            continue
        if level.name not in captures:
            known = ", ".join(f"{{{name}}}" for name in captures) or "none"
            yield f"{{{level.name}}} is not in the room {room.text!r}: expected only captures that it has ({known})"
        elif captures[level.name].rest != level.rest:
            yield (
                f"{{{level.name}}} is one level on one side and all that remains on the other: "
                f"expected {{{level.name}}} or {{{level.name}...}} on both"
            )


def find_forgeable(routes: Sequence[Route]) -> Iterator[RouteProblem]:
    """Replies that browsers could write, since a route to devices leads to where they are expected."""
    written: dict[str, FilterTrie[Route]] = {}
    for route in routes:
        if route.to_topic is not None:
            written.setdefault(route.upstreams[0], FilterTrie()).add(route.topic.filter, route)
    for route in routes:
        if route.reply is None:
            continue
        others = written[route.upstreams[0]].intersecting(route.reply.filter)
        other = min(others, key=lambda other: (other is not route, other.index), default=None)
        if other is not None:
            whose = "this route's own topic" if other is route else "the topic of another route to devices"
            message = (
                f"{route.reply.text!r} overlaps with {whose}, {other.topic.text!r}, where browsers publish: "
                "expected a topic where only devices do"
            )
            yield RouteProblem(route.index, "reply", message, None if other is route else other.index)
