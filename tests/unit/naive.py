"""Matching written down again in the plainest way, to hold the tries against."""

from gateway.core.routes import RouteSpec


def capture(pattern: str, name: str) -> dict[str, str] | None:
    """What a pattern captures of a name, by recursion over the levels; None if it doesn't match."""
    return _capture(pattern.split("/"), name.split("/"))


def _capture(pattern: list[str], levels: list[str]) -> dict[str, str] | None:
    if not pattern or not levels:
        return {} if not pattern and not levels else None
    first, *others = pattern
    if first.startswith("{") and first.endswith("...}"):
        return {first[1:-4]: "/".join(levels)} if all(map(_capturable, levels)) else None
    if first.startswith("{"):
        rest = _capture(others, levels[1:]) if _capturable(levels[0]) else None
        return None if rest is None else {first[1:-1]: levels[0], **rest}
    return _capture(others, levels[1:]) if first == levels[0] else None


def _capturable(level: str) -> bool:
    return bool(level) and level[0] != "$" and not set(level) & set("+#\0")


def rooms_for(specs: list[RouteSpec], topic: str) -> set[str]:
    """The rooms a topic goes to: every route tried in turn."""
    rooms = set()
    for spec in specs:
        captured = capture(spec.topic, topic)
        if captured is not None and spec.direction != "to_device":
            rooms.add(render(spec.room, captured))
    return rooms


def render(pattern: str, captured: dict[str, str]) -> str:
    """A pattern with its captures filled in."""
    for name, value in captured.items():
        pattern = pattern.replace("{" + name + "}", value).replace("{" + name + "...}", value)
    return pattern


def matches(topic_filter: str, name: str) -> bool:
    """Whether an MQTT filter matches, by recursion over the levels."""
    wanted, levels = topic_filter.split("/"), name.split("/")
    if name.startswith("$") and wanted[0] in "+#":
        return False
    return _matches(wanted, levels)


def _matches(wanted: list[str], levels: list[str]) -> bool:
    if not wanted:
        return not levels
    if wanted[0] == "#":
        return True
    if not levels:
        return False
    return wanted[0] in ("+", levels[0]) and _matches(wanted[1:], levels[1:])
