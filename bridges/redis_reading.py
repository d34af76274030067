"""How a node reads what is kept in Redis: what subscriptions lack, last values, and history.

Everything that one answer holds is from one moment, that of the last command: what took several, because there is much
of it, is brought up to that. Answers come between deliveries, as they come over the connection that brings those.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

from bridges.redis_answers import After, Answered, LastValues, Place, named
from bridges.redis_link import RedisLink, RedisRefused, Script, Word
from bridges.redis_messages import decode_kept
from bridges.redis_options import RedisUnavailable
from gateway.core.backlog import by_sequence
from gateway.core.engine import Span
from gateway.core.message import Message
from gateway.core.reading import PRESENT, Reading, Wanted, brought, others_of, read

__all__ = ["Asking", "Failed", "HistoryAsking", "LastAsking", "ReadAsking"]

logger = logging.getLogger(__name__)

MAXIMUM_LOSSES: Final = 10
"""So many connections may be lost before an answer came; it may be the answer that ends them."""

Failed: TypeAlias = Callable[["Asking"], None]
"""Is told of a question that has no answer, to ask it again later."""


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
        self._losses = 0

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
            self._losses += 1
            if self._losses < MAXIMUM_LOSSES:
                self._failed(self)
            else:
                logger.error("no answer of the log of %s after %d connections were lost", self._link.tag, self._losses)
                self.give_up()
            return
        epoch, head, answers = reply
        if not self._arrived(epoch.decode(), head):
            self._failed(self)
            return
        self._go_on(epoch.decode(), head, answers)

    def _go_on(self, epoch: str, head: int, answers: list[Any]) -> None:
        raise NotImplementedError


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
        self._others = others_of(wanted)
        self.done = [done]
        """Whose question it is."""
        self._states: dict[str, LastValues | After] = {}
        self._known: dict[int, Message] = {}

    def ask(self) -> None:
        """Ask, or ask again."""
        self._known = {}
        self._states = {
            room: LastValues() if want.position is None else After(want.position, want.latest)
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
            if isinstance(state, LastValues):
                state.take(answer, epoch, self._known)
                again = again or state.more
                continue
            if state.place > head:  # nobody was told so much: what it was told is of another log
                state.complete = False
            else:
                choose = partial(brought, rank=self._wanted[room].rank, others=self._others)
                state.take(room, answer, place, self._limit, choose)
            if not state.complete:
                self._states[room], again = LastValues(), True
            again = again or not (state.reached or not state.complete)
        if again:
            self._ask()
            return
        reading = self._reading(head)
        for done in self.done:
            done(reading)

    def _reading(self, head: int) -> Reading:
        wanted = {
            room: replace(want, position=None) if isinstance(self._states.get(room), LastValues) else want
            for room, want in self._wanted.items()
        }
        return read(Answered(self._states), head, wanted, self._limit)


class LastAsking(Asking):
    """The last values of a room, or of all that a filter matches."""

    def __init__(self, *way: Any, room_filter: str, done: Callable[[int, tuple[Message, ...]], None]) -> None:
        super().__init__(*way)
        self._filter, self._done = room_filter, done
        self._state = LastValues()

    def ask(self) -> None:
        """Ask, or ask again."""
        self._state = LastValues()
        self._send(0, self._state.words(self._filter))

    def give_up(self) -> None:
        """Answer that there are none."""
        self._done(self._head(), ())

    def _go_on(self, epoch: str, head: int, answers: list[Any]) -> None:
        self._state.take(answers[0], epoch, {})
        if self._state.more:
            self._send(0, self._state.words(self._filter))
        else:
            self._done(head, tuple(self._state.values))


class HistoryAsking(Asking):
    """The kept messages of a span."""

    def __init__(self, *way: Any, span: Span, done: Callable[[tuple[Message, ...], bool], None]) -> None:
        super().__init__(*way)
        self._span, self._done = span, done
        self._after = After(span.after, latest=False, with_holes=True)
        self._place = span.before
        self._before: dict[int, Message] = {}

    def ask(self) -> None:
        """Ask, or ask again."""
        span = self._span
        self._after, self._before, self._place = After(span.after, latest=False, with_holes=True), {}, span.before
        self._ask()

    def give_up(self) -> None:
        """Answer that all may be lacking."""
        self._done((), False)

    def _ask(self) -> None:
        span = self._span
        back = (*named(span.room_filter), "before", self._place, span.after)
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
