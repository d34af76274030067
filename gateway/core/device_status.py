"""How a device's presence is read from what is published on its status topic, by itself or by its last will."""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from gateway.core.topics import Capture, InvalidName, Pattern

__all__ = ["DeviceStatus", "check_status"]


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What a configuration says of a route whose payloads tell whether a device is there."""

    member: str
    """A pattern over the topic's captures: the device's name."""
    online: frozenset[str] = frozenset({"online"})
    offline: frozenset[str] = frozenset({"offline"})

    def read(self, raw: bytes) -> bool | None:
        """Whether the device is there; None if that isn't what the payload says.

        A payload counts as text, or as a JSON string. No bytes at all, the way to take a retained status back, say that
        it isn't.
        """
        if not raw:
            return False
        for text in _texts(raw):
            if text in self.online:
                return True
            if text in self.offline:
                return False
        return None


def _texts(raw: bytes) -> Iterator[str]:
    try:
        yield raw.decode()
        value = orjson.loads(raw)
    except ValueError:
        return
    if isinstance(value, str):
        yield value


def check_status(status: DeviceStatus, topic: Pattern, *, to_browser: bool) -> Iterator[tuple[str, str]]:
    """What is wrong with it: below which key, and what was expected."""
    if not to_browser:
        yield "", "nothing comes in along a route `to_device`: expected `direction: to_browser` or `both`"
    for text in sorted(status.online & status.offline):
        yield "offline", f"{text!r} stands in `online` too: expected one of the two"
    for key, texts in (("online", status.online), ("offline", status.offline)):
        if not texts:
            yield key, "expected at least one payload"
    try:
        member = Pattern.parse(status.member)
    except InvalidName as error:
        yield "member", str(error)
        return
    levels = {level.name: level for level in topic.levels if isinstance(level, Capture)}
    known = ", ".join(f"{{{name}}}" for name in levels) or "none"
    for level in member.levels:
        if not isinstance(level, Capture):
            continue
        if level.name not in levels:
            yield (
                "member",
                f"{{{level.name}}} is not in the topic {topic.text!r}: expected only captures that it has ({known})",
            )
        elif level != levels[level.name]:
            yield "member", f"{{{level.name}}} is one level on one side and all that remains on the other"
