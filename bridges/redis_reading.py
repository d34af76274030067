"""How a node reads what is kept in Redis: what subscriptions lack, last values, and history.

Everything that one answer holds is from one moment, that of the last command: what took several, because there is much
of it, is brought up to that. Answers come between deliveries, as they come over the connection that brings those.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from bridges.redis_link import RedisLink, RedisRefused, Script, Word
from bridges.redis_messages import Kept, decode_kept
from bridges.redis_options import RedisUnavailable
from gateway.core.backlog import by_sequence
from gateway.core.engine import Span
from gateway.core.message import Message
from gateway.core.reading import PRESENT, Reading, Wanted, read
from gateway.core.topics import has_wildcard

__all__ = ["Asking", "Failed", "HistoryAsking", "LastAsking", "ReadAsking"]

logger = logging.getLogger(__name__)

NOT_YET: Final = -1

Failed: TypeAlias = Callable[["Asking"], None]
"""Is told of a question that has no answer, to ask it again later."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where all answers of one reply are from."""

    epoch: str
    head: int
    time: float


class Asking:
    """One question, which may take several commands."""

    def __init__(
        self,
        link: RedisLink,
        script: Script,
        now: Callable[[], float],
        head: Callable[[], int],
        arrived: Callable[[str, int], bool],
        failed: Failed,
    ) -> None:
        self._link = link
        self._now = now
        self._head = head
        self._script = script
        self._arrived = arrived
        """Is told epoch and head of each reply; whether answers of that epoch are to be taken."""
        self._failed = failed

    def ask(self) -> None:
        """Send the first command, or begin again."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Answer that nothing is known: asked again, it would meet the same fault."""
        raise NotImplementedError

    def _send(self, limit: int, words: Iterable[Word]) -> None:
        self._link.evaluate(self._script, (limit, round(self._now() * 1000), *words), self._take)

    def _take(self, reply: Any) -> None:
        if isinstance(reply, RedisRefused) and not str(reply).startswith("FORGOTTEN"):
            logger.error("Redis refuses to read the log of %s: %s", self._link.tag, reply)
            self.give_up()
            return
        if isinstance(reply, (RedisRefused, RedisUnavailable)):
            self._failed(self)
            return
        epoch, head, answers = reply
        if not self._arrived(epoch.decode(), head):
            self._failed(self)
            return
        self._go_on(epoch.decode(), head, answers)

    def _go_on(self, epoch: str, head: int, answers: list[Any]) -> None:
        raise NotImplementedError


@dataclass(slots=True)
class _Last:
    """The last values of a filter, as far as they are read."""

    place: int = NOT_YET
    more: bool = True
    rooms: dict[bytes, list[Message]] = field(default_factory=dict)

    def words(self, room_filter: str) -> tuple[Word, ...]:
        return (*_named(room_filter), "last", self.place, 0)

    def take(self, answer: list[Any], epoch: str) -> None:
        place, more, rooms = answer
        self.place, self.more = place, bool(more)
        for room, values in rooms:
            self.rooms[room] = [decode_kept(value, epoch).message for value in values]

    @property
    def values(self) -> list[Message]:
        return sorted((message for values in self.rooms.values() for message in values), key=by_sequence)


@dataclass(slots=True)
class _After:
    """What a filter brings after a place, as far as it is read."""

    place: int
    latest: bool
    with_holes: bool = False
    """Whether what is kept is wanted though some is lacking."""
    messages: list[Message] = field(default_factory=list)
    complete: bool = True
    reached: bool = False

    def words(self, room_filter: str) -> tuple[Word, ...]:
        what = "kept" if self.with_holes else "first" if self.latest else "after"
        return (*_named(room_filter), what, self.place, 0)

    def take(self, room_filter: str, answer: list[Any], place: Place, limit: int) -> None:
        if has_wildcard(room_filter):
            complete, self.place, raw = answer
            self.complete = self.complete and bool(complete)
            found, is_all = [decode_kept(each, place.epoch).message for each in raw], self.place >= place.head
        else:
            found, self.complete = after_in_room(answer, place, self.place, limit, latest=self.latest)
            history, is_all = answer[3], len(answer[3]) <= limit
            if not self.latest:
                self.messages = []  # all that there is since then is told again
            elif not is_all:
                self.place = decode_kept(history[-1], place.epoch).message.sequence
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


class ReadAsking(Asking):
    """What one session's subscriptions lack; what one of them has told isn't told by another."""

    def __init__(
        self,
        *way: Any,
        wanted: Mapping[str, Wanted],
        limit: int,
        done: Callable[[Reading], None],
    ) -> None:
        super().__init__(*way)
        self._wanted, self._limit = wanted, limit
        self.done = [done]
        """Whose question it is."""
        self._states: dict[str, _Last | _After] = {}

    def ask(self) -> None:
        """Ask, or ask again."""
        self._states = {
            room: _Last() if want.position is None else _After(want.position, want.latest)
            for room, want in self._wanted.items()
            if want.position != PRESENT
        }
        self._ask()

    def give_up(self) -> None:
        """Answer that all may be lacking."""
        for done in self.done:
            done(Reading((), dict.fromkeys(self._wanted, ()), self._head(), more=False))

    def _ask(self) -> None:
        self._send(self._limit, (word for room, state in self._states.items() for word in state.words(room)))

    def _go_on(self, epoch: str, head: int, answers: list[Any]) -> None:
        place, again = Place(epoch, head, self._now()), False
        for (room, state), answer in zip(tuple(self._states.items()), answers, strict=True):
            if isinstance(state, _Last):
                state.take(answer, epoch)
                again = again or state.more
                continue
            if state.place > head:  # nobody was told so much: what it was told is of another log
                state.complete = False
            else:
                state.take(room, answer, place, self._limit)
            if not state.complete:
                self._states[room], again = _Last(), True
            again = again or not (state.reached or not state.complete)
        if again:
            self._ask()
            return
        reading = self._reading(head)
        for done in self.done:
            done(reading)

    def _reading(self, head: int) -> Reading:
        wanted = {
            room: replace(want, position=None) if isinstance(self._states.get(room), _Last) else want
            for room, want in self._wanted.items()
        }
        return read(_Source(self._states), head, wanted, self._limit)


class _Source:
    def __init__(self, states: Mapping[str, _Last | _After]) -> None:
        self._states = states

    def last(self, room_filter: str, /) -> list[Message]:
        state = self._states[room_filter]
        assert isinstance(state, _Last)
        return state.values

    def after(self, room_filter: str, position: int, /, *, latest: bool = False) -> tuple[list[Message], bool]:  # noqa: ARG002
        state = self._states[room_filter]
        assert isinstance(state, _After)
        return state.messages, True


class LastAsking(Asking):
    """The last values of a room, or of all that a filter matches."""

    def __init__(self, *way: Any, room_filter: str, done: Callable[[int, tuple[Message, ...]], None]) -> None:
        super().__init__(*way)
        self._filter, self._done = room_filter, done
        self._state = _Last()

    def ask(self) -> None:
        """Ask, or ask again."""
        self._state = _Last()
        self._send(0, self._state.words(self._filter))

    def give_up(self) -> None:
        """Answer that there are none."""
        self._done(self._head(), ())

    def _go_on(self, epoch: str, head: int, answers: list[Any]) -> None:
        self._state.take(answers[0], epoch)
        if self._state.more:
            self._send(0, self._state.words(self._filter))
        else:
            self._done(head, tuple(self._state.values))


class HistoryAsking(Asking):
    """The kept messages of a span."""

    def __init__(self, *way: Any, span: Span, done: Callable[[tuple[Message, ...], bool], None]) -> None:
        super().__init__(*way)
        self._span, self._done = span, done
        self._after = _After(span.after, latest=False, with_holes=True)
        self._place = span.before
        self._before: dict[int, Message] = {}

    def ask(self) -> None:
        """Ask, or ask again."""
        span = self._span
        self._after, self._before, self._place = _After(span.after, latest=False, with_holes=True), {}, span.before
        self._ask()

    def give_up(self) -> None:
        """Answer that all may be lacking."""
        self._done((), False)

    def _ask(self) -> None:
        span = self._span
        back = (*_named(span.room_filter), "before", self._place, span.after)
        self._send(span.limit, back if span.newest else self._after.words(span.room_filter))

    def _go_on(self, epoch: str, head: int, answers: list[Any]) -> None:
        if self._span.newest:
            self._go_back(epoch, answers[0])
            return
        span, after = self._span, self._after
        after.take(span.room_filter, answers[0], Place(epoch, head, self._now()), span.limit)
        if not after.reached and after.place < span.before:
            self._ask()
        else:
            within = [message for message in after.messages if message.sequence < span.before]
            self._done(tuple(within[: span.limit]), after.complete)

    def _go_back(self, epoch: str, answer: list[Any]) -> None:
        """Nobody asks whether all is there that came before a place."""
        self._place, more, raw = answer
        messages = (decode_kept(each, epoch).message for each in raw)
        self._before.update((message.sequence, message) for message in messages)
        if more and len(self._before) < self._span.limit:
            self._ask()
        else:
            self._done(tuple(sorted(self._before.values(), key=by_sequence)[-self._span.limit :]), False)


def after_in_room(
    answer: list[Any], place: Place, position: int, limit: int, *, latest: bool
) -> tuple[list[Message], bool]:
    """A room's messages after a position, and whether that is all there were: each names the one before it."""
    floor, newest, lost, history, values = answer
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
    return messages, told >= newest or len(history) > limit


def _named(room_filter: str) -> tuple[str, str]:
    """Kind and name of a filter, for the script; `/` is put after each name, so that `a/#` matches `a`."""
    if not has_wildcard(room_filter):
        return "room", room_filter
    levels = room_filter.split("/")
    begins = "!" if levels[0] in ("+", "#") else "="
    pattern = "".join("[^/]*/" if level == "+" else _escaped(level) + "/" for level in levels if level != "#")
    return "pattern", f"{begins}^{pattern}" + ("" if levels[-1] == "#" else "$")


def _escaped(level: str) -> str:
    return re.sub(r"([^A-Za-z0-9\x80-\U0010ffff])", r"%\1", level)
