"""What the script that reads is asked about one filter, and what its answer means."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from bridges.redis_link import Word
from bridges.redis_messages import Kept, decode_kept
from gateway.core.backlog import by_sequence
from gateway.core.message import Message
from gateway.core.topics import has_wildcard

__all__ = ["After", "Answered", "LastValues", "Place", "named"]

NOT_YET: Final = -1

Choose: TypeAlias = Callable[[Iterable[Message]], Iterable[Message]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where all answers of one reply are from."""

    epoch: str
    head: int
    time: float


@dataclass(slots=True)
class LastValues:
    """The last values of a filter, as far as they are read."""

    place: int = NOT_YET
    more: bool = True
    rooms: dict[bytes, list[Message]] = field(default_factory=dict)

    def words(self, room_filter: str) -> tuple[Word, ...]:
        """What the script is asked next."""
        return (*named(room_filter), "last", self.place, 0)

    def take(self, answer: list[Any], epoch: str, known: dict[int, Message]) -> None:
        """Take what it answers: rooms that have changed since take the place of what they were.

        `known` has by their places the messages that several filters match, so that there is one of each.
        """
        place, more, rooms = answer
        self.place, self.more = place, bool(more)
        for room, values in rooms:
            self.rooms[room] = [_decode_once(value, epoch, known) for value in values]

    @property
    def values(self) -> list[Message]:
        """Them, in the order of the sequence."""
        return sorted((message for values in self.rooms.values() for message in values), key=by_sequence)


def _decode_once(raw: bytes, epoch: str, known: dict[int, Message]) -> Message:
    place = int(raw[: raw.index(b" ")])
    if place not in known:
        known[place] = decode_kept(raw, epoch).message
    return known[place]


@dataclass(slots=True)
class After:
    """What a filter brings after a place, as far as it is read."""

    place: int
    latest: bool
    with_holes: bool = False
    """Whether what is kept is wanted though some is lacking."""
    messages: list[Message] = field(default_factory=list)
    complete: bool = True
    reached: bool = False

    def words(self, room_filter: str) -> tuple[Word, ...]:
        """What the script is asked next."""
        what = "kept" if self.with_holes else "first" if self.latest else "after"
        return (*named(room_filter), what, self.place, 0)

    def take(self, room_filter: str, answer: list[Any], place: Place, limit: int, choose: Choose = iter) -> None:
        """Take what it answers, with the most messages that it was asked for.

        `choose` leaves out what nobody lacks. That a pattern has enough is said of the rest: beyond may be more of it.
        """
        if has_wildcard(room_filter):
            complete, self.place, raw = answer
            self.complete = self.complete and bool(complete)
            found = list(choose(decode_kept(each, place.epoch).message for each in raw))
            is_all = self.place >= place.head
        else:
            found, complete = after_in_room(answer, place, self.place, latest=self.latest)
            self.complete, history, is_all = self.complete and complete, answer[3], not answer[5]
            if is_all:
                self.place = max(self.place, place.head)
            elif history:
                self.place = decode_kept(history[-1], place.epoch).message.sequence
            found = [message for message in found if message.sequence <= self.place]
        self.messages += found
        if self.latest:
            self.messages = _newest(self.messages)
        enough = len(self.messages) > limit or not (self.complete or self.with_holes)
        self.reached = is_all or enough


def _newest(messages: Iterable[Message]) -> list[Message]:
    """Of each topic the newest, in order."""
    newest: dict[tuple[str, str | None], Message] = {}
    for message in sorted(messages, key=by_sequence):
        newest[message.room, message.topic] = message
    return sorted(newest.values(), key=by_sequence)


class Answered:
    """What was found, as a source that `read` takes."""

    def __init__(self, states: Mapping[str, LastValues | After]) -> None:
        self._states = states

    def last(self, room_filter: str, /) -> list[Message]:
        """The last values."""
        state = self._states[room_filter]
        assert isinstance(state, LastValues)
        return state.values

    def after(self, room_filter: str, position: int, /, *, latest: bool = False) -> tuple[list[Message], bool]:  # noqa: ARG002
        """What came; where it isn't all there is, that was found out before."""
        state = self._states[room_filter]
        assert isinstance(state, After)
        return state.messages, True


def after_in_room(answer: list[Any], place: Place, position: int, *, latest: bool) -> tuple[list[Message], bool]:
    """A room's messages after a position, and whether that is all there were: each names the one before it."""
    floor, newest, lost, history, values, more = answer
    if newest < 0:
        return [], floor <= position
    kept: dict[int, Kept] = {}
    expired = 0
    topics = set()
    for raw in values:
        each = decode_kept(raw, place.epoch)
        kept[each.message.sequence] = each
        topics.add(each.message.topic)
    for raw in history:
        each = decode_kept(raw, place.epoch)
        if each.expires and each.expires <= place.time and each.message.sequence not in kept:
            expired = max(expired, 0 if each.message.topic in topics else each.message.sequence)
        else:
            kept.setdefault(each.message.sequence, each)
    found = sorted(kept.values(), key=lambda each: each.message.sequence)
    messages = [each.message for each in found]
    if latest:
        return messages, max(lost, expired) <= position
    told = position
    for each in found:
        if each.previous > told:
            return messages, False
        told = each.message.sequence
    return messages, told >= newest or bool(more)


def named(room_filter: str) -> tuple[str, str]:
    """Kind and name of a filter, for the script; `/` is put after each name, so that `a/#` matches `a`."""
    if not has_wildcard(room_filter):
        return "room", room_filter
    levels = room_filter.split("/")
    begins = "!" if levels[0] in ("+", "#") else "="
    pattern = "".join("[^/]*/" if level == "+" else _escaped(level) + "/" for level in levels if level != "#")
    return "pattern", f"{begins}^{pattern}" + ("" if levels[-1] == "#" else "$")


def _escaped(level: str) -> str:
    return re.sub(r"([^A-Za-z0-9\x80-\U0010ffff])", r"%\1", level)
