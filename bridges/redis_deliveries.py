"""What one node delivers: messages as they come by channels, and what it missed, which is read from the log first.

While a node comes back, what comes by channels is left alone: it is in the log, and is read from there. So nothing
waits in a queue; and what the log lacks is said to whoever may have missed it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bridges.redis_channels import Change, Channels
from bridges.redis_link import RedisLink, Script
from bridges.redis_messages import decode_push
from bridges.redis_reading import Asking, ReadAsking
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.engine import Deliver, Interrupted, Reading, Wanted, ignore
from gateway.core.topics import filter_matches, has_wildcard

__all__ = ["Deliveries"]

logger = logging.getLogger(__name__)

PAGE_MESSAGES: Final = 1000
"""How many messages are read at a time when a node comes back."""
REMEMBERED_ROOMS: Final = 100_000
"""Of so many rooms the newest place is known, to notice a gap; then all are forgotten."""


@dataclass(frozen=True, slots=True)
class _Gap:
    room: str
    place: int
    """Up to where all of the room was delivered."""


class Deliveries:
    """The deliveries of one node in one namespace."""

    def __init__(self, link: RedisLink, script: Script, epoch: str, clock: Clock, counters: Counters) -> None:
        self.epoch = epoch
        self.head = 0
        """Up to where all that is watched was delivered."""
        self.is_live = False
        """Whether that is all there is: else what comes is read from the log later."""
        self.deliver: Deliver = ignore
        self.stale: Callable[[], None] = ignore
        """Called when what holds has to be asked anew."""
        self.live: Callable[[], None] = ignore
        """Called once all is delivered."""
        self.way: tuple[Any, ...] = (link, script, clock.time, lambda: self.head)
        """How to ask the log."""
        self._link, self._counters = link, counters
        self._interrupted: Interrupted = ignore
        self._channels = Channels()
        self._watched: dict[str, None] = {}
        self._stamp = 0
        self._newest: dict[str, int] = {}
        self._turn = 0
        """Counts the times that it began to come back: an answer to an earlier one is none."""

    def __len__(self) -> int:
        """How many rooms and filters are watched."""
        return len(self._watched)

    def attach(self, deliver: Deliver, interrupted: Interrupted) -> None:
        """Say who takes the deliveries, and is told what can't be delivered without holes."""
        self.deliver, self._interrupted = deliver, interrupted

    def watch(self, room_filter: str) -> None:
        """Deliver these rooms' messages."""
        self._watched[room_filter] = None
        self._forget_newest(room_filter)
        self._change(self._channels.watch(room_filter))

    def unwatch(self, room_filter: str) -> None:
        """Nobody on this node wants them any more."""
        del self._watched[room_filter]
        self._forget_newest(room_filter)
        self._change(self._channels.unwatch(room_filter))

    def _forget_newest(self, room_filter: str) -> None:
        """What nobody wanted is no gap; some of it may have come still."""
        if has_wildcard(room_filter):
            self._newest.clear()
        else:
            self._newest.pop(room_filter, None)

    def _change(self, change: Change) -> None:
        for channel in change.subscribe:
            self._link.subscribe(self._link.key(channel), self._take)
        for channel in change.unsubscribe:
            self._link.unsubscribe(self._link.key(channel))

    def arrived(self, epoch: str, head: int) -> bool:
        """Whether an answer is one of this log; all that was published before it has come."""
        if epoch != self.epoch or not self.is_live:
            return False
        self.head = max(self.head, head)
        return True

    def pause(self) -> None:
        """Deliver nothing until `begin` or `resume`."""
        self.is_live = False

    def begin(self, epoch: str, head: int, stamp: int, *, lost: bool, common: int | None) -> None:
        """Go on with a log of which this node knows nothing.

        Args:
            epoch: Of that log.
            head: The place of its newest message.
            stamp: Of that, among those too that are never kept.
            lost: Whether there was another one before.
            common: Up to where they are the same, if that is known.
        """
        before, self.epoch, self.head, self._stamp = self.epoch, epoch, head, stamp
        self._go_live()
        if lost:
            logger.error("the log of %s is another one: clients are told that they may have missed messages", before)
            self._interrupted(None, common)

    def resume(self, epoch: str, stamp: int) -> None:
        """Go on with the log, which may have a new epoch: what came since is read from it."""
        self.epoch, self._stamp = epoch, stamp
        self._catch_up()

    def _go_live(self) -> None:
        self.is_live = True
        self._newest.clear()
        self.live()

    def _catch_up(self, but: frozenset[str] = frozenset(), gap: _Gap | None = None) -> None:
        """Deliver what came since, before anything later.

        Args:
            but: Filters of which it is said already that they lack some.
            gap: A room that lacks some, though others may be beyond.
        """
        self.is_live = False
        self._turn += 1
        places = {each: self._from(each, gap) for each in self._watched if each not in but}
        if not places:
            self._go_live()
            return
        way = (lambda epoch, _: epoch == self.epoch, self._not_yet)
        wanted = {each: Wanted(place, place) for each, place in places.items()}
        done = partial(self._caught_up, self._turn, but, gap)
        ReadAsking(*self.way, *way, wanted=wanted, limit=PAGE_MESSAGES, done=done).ask()

    def _from(self, room_filter: str, gap: _Gap | None) -> int:
        return gap.place if gap is not None and filter_matches(room_filter, gap.room) else self.head

    def _not_yet(self, asking: Asking) -> None:  # noqa: ARG002
        if self._link.is_up:
            self.stale()

    def _caught_up(self, turn: int, but: frozenset[str], gap: _Gap | None, reading: Reading) -> None:
        if turn != self._turn:
            return
        lacking = {each: self._from(each, gap) for each in reading.incomplete}
        before = self.head
        for message in reading.messages:
            if message.sequence > before or (gap is not None and message.room == gap.room):
                self.head = max(self.head, message.sequence)
                self.deliver(message)
        if not reading.more:
            self.head = max(self.head, reading.head)
        for place in {*lacking.values()}:
            self._interrupted([each for each, since in lacking.items() if since == place], place)
        if reading.more:
            reached = reading.messages[-1].sequence
            rest = None if gap is None or reached >= self.head else _Gap(gap.room, reached)
            self._catch_up(but | lacking.keys(), rest)
        else:
            self._go_live()

    def _take(self, raw: bytes) -> None:
        push = decode_push(raw)
        message = push.message
        if push.stamp <= self._stamp and self.is_live:
            return  # it has come by another channel
        if not self.is_live:
            if not message.kept:
                self._counters.drops["fleeting_while_away"] += 1
            return  # it is read from the log
        if message.epoch != self.epoch:
            self.stale()
            return
        if message.kept:
            if push.previous > self._newest.get(message.room, push.previous):
                self._counters.gaps += 1
                self._catch_up(gap=_Gap(message.room, self._newest[message.room]))
                return
            if len(self._newest) >= REMEMBERED_ROOMS:
                self._newest.clear()
            self._newest[message.room] = self.head = message.sequence
        self._stamp = push.stamp
        self.deliver(message)
