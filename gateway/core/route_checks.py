"""What makes a routing table unfit: each rule in its own function, all problems found at once.

A loop is two routes by which what a browser sends into a room comes back into that room as if a device had said it:
one takes the room to a topic, another brings that topic back. A single route with `direction: both` is no loop: its
topic and room are two names of one thing, and what comes back from the broker is the delivery itself.
"""

from collections.abc import Iterator, Sequence

from gateway.core.codec import PART, PART_NAME, Dialect
from gateway.core.device_status import DeviceStatus, check_status
from gateway.core.reply_checks import check_reply, find_forgeable
from gateway.core.routes import RESERVED_TOPICS, Direction, Route, RouteProblem, RouteSpec, is_reserved
from gateway.core.topics import Capture, InvalidName, Pattern
from gateway.core.trie import FilterTrie

__all__ = ["check_routes"]


def check_routes(specs: Sequence[RouteSpec], upstreams: Sequence[str]) -> tuple[list[Route], list[RouteProblem]]:
    """The routes that `specs` describe, and all that is wrong with them. Routes are of use only without problems."""
    routes: list[Route] = []
    problems: list[RouteProblem] = []
    for index, spec in enumerate(specs):
        found = list(_check_upstream(index, spec, upstreams))
        patterns = _parse_patterns(index, spec, found)
        if patterns is not None:
            found += _check_captures(index, spec, *patterns)
            found += _check_dialect(index, spec, *patterns)
            found += _check_dollar(index, *patterns)
            found += _check_presence(index, spec, patterns[0])
        reply = check_reply(index, spec, None if patterns is None else patterns[1], found)
        problems += found
        if patterns is not None and not found:
            names = (spec.upstream,) if spec.upstream else tuple(upstreams)
            routes.append(Route(index, spec, *patterns, names, reply))
    repeated = list(_find_repeated(routes))
    superfluous = {problem.index for problem in repeated}
    problems += repeated
    problems += _find_loops([route for route in routes if route.index not in superfluous])
    problems += find_forgeable(routes)
    return routes, sorted(problems, key=lambda problem: problem.index)


def _parse_patterns(index: int, spec: RouteSpec, found: list[RouteProblem]) -> tuple[Pattern, Pattern] | None:
    patterns = []
    for key, text in (("topic", spec.topic), ("room", spec.room)):
        try:
            patterns.append(Pattern.parse(text))
        except InvalidName as error:
            found.append(RouteProblem(index, key, str(error)))
    return (patterns[0], patterns[1]) if len(patterns) == 2 else None


def _check_upstream(index: int, spec: RouteSpec, upstreams: Sequence[str]) -> Iterator[RouteProblem]:
    names = " or ".join(upstreams)
    if spec.upstream is not None and spec.upstream not in upstreams:
        yield RouteProblem(index, "upstream", f"no upstream is called {spec.upstream!r}: expected {names}")
    elif spec.upstream is None and len(upstreams) > 1 and spec.direction is not Direction.TO_BROWSER:
        yield RouteProblem(
            index, "upstream", f"a route to devices must say which upstream it goes to: expected `upstream: {names}`"
        )


def _check_captures(index: int, spec: RouteSpec, topic: Pattern, room: Pattern) -> Iterator[RouteProblem]:
    in_topic, in_room = set(topic.captures), set(room.captures)
    if isinstance(spec.payload, Dialect) and room.has_rest:
        in_room.discard(PART_NAME)
    if spec.direction is not Direction.TO_DEVICE:
        for name in sorted(in_room - in_topic):
            yield RouteProblem(index, "room", _lacking(name, "topic", topic))
    if spec.direction is not Direction.TO_BROWSER:
        for name in sorted(in_topic - in_room):
            yield RouteProblem(index, "topic", _lacking(name, "room", room))
    both = {level.name: level for level in topic.levels if isinstance(level, Capture)}
    for level in room.levels:
        if isinstance(level, Capture) and level.name in both and both[level.name].rest != level.rest:
            yield RouteProblem(
                index,
                "room",
                f"{{{level.name}}} is one level on one side and all that remains on the other: "
                f"expected {{{level.name}}} or {{{level.name}...}} on both",
            )


def _lacking(name: str, side: str, pattern: Pattern) -> str:
    known = ", ".join(f"{{{capture}}}" for capture in pattern.captures) or "none"
    return f"{{{name}}} is not in the {side} {pattern.text!r}: expected only captures that it has ({known})"


def _check_dialect(index: int, spec: RouteSpec, topic: Pattern, room: Pattern) -> Iterator[RouteProblem]:
    dialect = spec.payload
    if not isinstance(dialect, Dialect):
        return
    if spec.direction is not Direction.TO_BROWSER:
        message = f"nothing goes to devices as {dialect.name}: expected `direction: to_browser`, and another route back"
        yield RouteProblem(index, "direction", message)
    misfit = dialect.misfit(topic)
    if misfit is not None:
        yield RouteProblem(index, "topic", misfit)
    if room.text == PART:
        yield RouteProblem(index, "room", f"expected levels before {PART}")


def _check_dollar(index: int, topic: Pattern, room: Pattern) -> Iterator[RouteProblem]:
    first = room.levels[0]
    if isinstance(first, str) and first.startswith("$"):
        yield RouteProblem(index, "room", f"{room.text!r} starts with $: expected a room that browsers may name")
    shared = topic.levels[0]
    if isinstance(shared, str) and shared == "$share":
        yield RouteProblem(index, "topic", f"{topic.text!r} is a shared subscription: expected a topic")
    if is_reserved(topic.text):
        yield RouteProblem(index, "topic", f"{RESERVED_TOPICS} is the gateway's own: expected another topic")


def _check_presence(index: int, spec: RouteSpec, topic: Pattern) -> Iterator[RouteProblem]:
    if isinstance(spec.presence, DeviceStatus):
        to_browser = spec.direction is not Direction.TO_DEVICE
        for key, message in check_status(spec.presence, topic, to_browser=to_browser):
            yield RouteProblem(index, f"presence.{key}" if key else "presence", message)


def _find_repeated(routes: Sequence[Route]) -> Iterator[RouteProblem]:
    """Routes that do what an earlier one does, whatever they call their captures."""
    seen: dict[tuple[object, ...], Route] = {}
    for route in routes:
        for direction in (Direction.TO_BROWSER, Direction.TO_DEVICE):
            translation = route.to_room if direction is Direction.TO_BROWSER else route.to_topic
            if translation is None:
                continue
            repeated = [seen.setdefault((direction, name, *_shape(route)), route) for name in route.upstreams]
            earlier = next((other for other in repeated if other is not route), None)
            if earlier is not None:
                message = "the same topic and room as another route: expected each translation once"
                yield RouteProblem(route.index, "topic", message, earlier.index)
                break


def _shape(route: Route) -> tuple[object, ...]:
    """What a route says but for the names of its captures."""
    number = {name: place for place, name in enumerate((*route.topic.captures, *route.room.captures))}
    return tuple(
        tuple((number[level.name], level.rest) if isinstance(level, Capture) else level for level in pattern.levels)
        for pattern in (route.topic, route.room)
    )


def _find_loops(routes: Sequence[Route]) -> Iterator[RouteProblem]:
    back: dict[str, FilterTrie[Route]] = {}
    for route in routes:
        for name in route.upstreams if route.to_room is not None else ():
            back.setdefault(name, FilterTrie()).add(route.topic.filter, route)
    for out in routes:
        if out.to_topic is None or out.upstreams[0] not in back:
            continue
        candidates = back[out.upstreams[0]].intersecting(out.topic.filter)
        for route in sorted(candidates, key=lambda route: route.index):
            if route is not out and _comes_back(out, route):
                message = (
                    f"a loop: what browsers send into the room {out.room.text!r} goes out as the topic "
                    f"{out.topic.text!r}, which another route brings back into the same room: "
                    "expected one route with `direction: both`, or topics or rooms that don't overlap"
                )
                yield RouteProblem(out.index, "topic", message, route.index)
                break


def _comes_back(out: Route, back: Route) -> bool:
    """Whether a topic that `out` gives may be brought by `back` into a room that `out` takes."""
    value: dict[str, str] = {}
    for position, level in enumerate(back.topic.levels):
        if isinstance(level, Capture):
            given = out.topic.levels[position:] if level.rest else out.topic.levels[position : position + 1]
            literal = [part for part in given if isinstance(part, str)]
            value[level.name] = "/".join(literal) if literal and len(literal) == len(given) else ""
    rendered = "/".join(
        (value.get(level.name) or ("#" if level.rest else "+")) if isinstance(level, Capture) else level
        for level in back.room.levels
    )
    rooms: FilterTrie[str] = FilterTrie()
    rooms.add(out.room.filter, "out")
    return bool(rooms.intersecting(rendered))
