"""Messages as they are kept in Redis and told to nodes: a line of numbers, a head in JSON, and the data as it is."""

from dataclasses import dataclass
from math import isfinite

import orjson

from gateway.core.engine import Publication
from gateway.core.message import EVERYONE, Audience, Message

__all__ = ["Kept", "Push", "decode_kept", "decode_push", "publication_words"]


@dataclass(slots=True)
class Kept:
    """A message of the log."""

    message: Message
    previous: int
    """The place of its room's message before it; 0 for none."""
    expires: float
    """When it is too old for its room's history, in seconds since the Unix epoch; 0 for never."""


@dataclass(slots=True)
class Push:
    """A message as nodes are told it."""

    message: Message
    previous: int
    stamp: int
    """Its place among all messages of the namespace, those that are never kept too."""


def publication_words(publication: Publication, time: float) -> tuple[str | bytes | int, ...]:
    """What the script that publishes is told of one message: seven words."""
    keeps = publication.retention
    flags = "f" if publication.is_fleeting else ("l" if keeps.last else "-")
    flags += ("r" if publication.retained else "") + ("c" if publication.clears else "")
    audience = publication.audience
    addressed = None if audience is EVERYONE else (audience.session, audience.user, audience.sender)
    head = orjson.dumps(
        (
            publication.room,
            publication.topic,
            round(time, 3),
            publication.sender,
            publication.retained,
            publication.payload.binary,
            publication.user,
            addressed,
        )
    )
    expires = round((time + keeps.seconds) * 1000) if keeps.messages and isfinite(keeps.seconds) else 0
    topic = "" if publication.topic is None else publication.topic
    return publication.room, topic, flags, keeps.messages, expires, head, publication.payload.data


def decode_push(raw: bytes) -> Push:
    """Read what a node is told."""
    epoch, place, previous, stamp, kind, size, rest = raw.split(b" ", 6)
    message = _message(rest, int(size), epoch.decode(), int(place), kept=kind == b"k")
    return Push(message, int(previous), int(stamp))


def decode_kept(raw: bytes, epoch: str) -> Kept:
    """Read what is kept."""
    place, previous, expires, size, rest = raw.split(b" ", 4)
    return Kept(_message(rest, int(size), epoch, int(place), kept=True), int(previous), int(expires) / 1000)


def _message(rest: bytes, size: int, epoch: str, place: int, *, kept: bool) -> Message:
    room, topic, time, sender, retained, binary, user, addressed = orjson.loads(rest[:size])
    audience = EVERYONE if addressed is None else Audience(*addressed)
    return Message(room, rest[size:], epoch, place, time, topic, sender, retained, binary, audience, kept, user)
