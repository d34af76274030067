"""What a route may say of its payloads: a kind that the core knows itself, or what is injected because it knows more.

A `Codec` understands one payload by itself. A `Dialect` is a convention over topics and payloads, where what one says
depends on those before it; each namespace has a `Listener` of its own for it. Nothing foreign is imported here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, TypeAlias

from gateway.core.counters import Counters
from gateway.core.topics import Pattern

__all__ = [
    "PART",
    "PART_NAME",
    "Codec",
    "Decode",
    "Dialect",
    "Listener",
    "Part",
    "Payload",
    "PayloadError",
    "PayloadKind",
    "PayloadRule",
    "Told",
    "Transform",
    "name_of",
]

PART_NAME: Final = "metric"
PART: Final = "{metric...}"
"""The end of a room pattern that is filled from a payload's parts: each goes to a room of its own."""


class PayloadError(ValueError):
    """A device's payload that isn't what its route says; the text says what was expected."""


@dataclass(slots=True)
class Payload:
    """A payload as browsers get it: JSON text without line breaks; if `binary`, a string of base64 (RFC 4648 §4)."""

    data: bytes
    binary: bool = False


class PayloadKind(StrEnum):
    """How a route's payloads are to be understood; see `payload`."""

    JSON = "json"
    TEXT = "text"
    BYTES = "bytes"
    AUTO = "auto"


Decode: TypeAlias = Callable[[bytes], Payload]
"""What browsers are given for a device's bytes; raises `PayloadError`, and nothing else, whatever they are."""

Transform: TypeAlias = Callable[[Any], Any]
"""Other data made of data, both as JSON has it; raises `PayloadError` where that can't be done within bounds."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A format of payloads."""

    name: str
    """As the configuration calls it, and the metrics."""
    decode: Decode
    encode: Callable[[Any], bytes]
    """The bytes that a device is given for a browser's data; raises `BadMessage`, naming the field."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of several things that a payload says."""

    name: str
    """What is it about: levels between `/`."""
    data: bytes
    """JSON text without line breaks."""
    past: bool = False
    """It was so earlier: it isn't the last value."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a message of a dialect says."""

    whole: bytes | None = None
    """All of it as JSON text, for routes that don't ask for parts; None for nothing."""
    parts: tuple[Part, ...] = ()
    topic: str | None = None
    """The topic that the parts are said to come from, the same for all messages that update them."""
    here: tuple[str, ...] = ()
    """Devices that are there now, each by a topic that always stands for it."""
    gone: tuple[str, ...] = ()
    """Devices that aren't any more, by the same topics."""
    error: PayloadError | None = None
    """Why the rest of it can't be understood."""


class Listener(Protocol):
    """Hears all of a dialect that comes into one namespace, in order and each message once."""

    def hear(self, upstream: str, topic: str, raw: bytes) -> Told | None:
        """What a message says; None if it is none of the dialect, or says nothing to browsers.

        Raises:
            PayloadError: it isn't what its topic promises.
        """
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """A convention over topics and payloads. Nothing goes to devices by it."""

    name: str
    listen: Callable[[Counters], Listener]
    """A new listener, which counts what it drops."""
    misfit: Callable[[Pattern], str | None]
    """What is wrong with the topic of a route; None for nothing."""
    also: Callable[[Pattern], tuple[str, ...]]
    """The MQTT filters that must be heard besides a route's own topic."""


PayloadRule: TypeAlias = PayloadKind | Codec | Dialect


def name_of(rule: PayloadRule) -> str:
    """What the configuration calls it."""
    return rule.value if isinstance(rule, PayloadKind) else rule.name
