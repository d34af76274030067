"""The fan-out: the hub for those who are told everything, and for each sampling a group that is told at its ticks.

A group is a hub of its own, so clients with the same sampling share the bytes. It collects the messages of each room
and topic, and at its tick tells what they make, in the order of the sequence. So a member has been told all before the
first message that waits, and nothing after it: one place in the sequence says where it is, as for everybody else.

Of a session's subscriptions that overlap, the finest holds: one without a sample, else the one of the shortest period.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Final, TypeAlias

from gateway.core.clock import Clock, Timer
from gateway.core.counters import Counters
from gateway.core.hub import REMEMBERED_ROOMS, Hub
from gateway.core.message import Message
from gateway.core.outbox import Outbox
from gateway.core.sample import Sample, Values
from gateway.core.session import Session
from gateway.core.topics import has_wildcard

__all__ = ["Sampling"]

MAXIMUM_WAITING: Final = 10_000
"""How many rooms' topics may wait in one group; beyond, the one that waits longest is told early."""

Key: TypeAlias = tuple[str, str | None, int]


@dataclass(slots=True)
class _Waiting:
    number: int
    """Its place in the order in which the group collected."""
    newest: Message
    values: Values

    def message(self) -> Message:
        """What was collected, as one message: the newest, but for its data."""
        return replaced(self.newest, data=self.values.data())


class Sampling:
    """Everyone who is told what comes, each as finely as they asked for."""

    def __init__(self, hub: Hub, clock: Clock, counters: Counters) -> None:
        self._hub = hub
        self._clock = clock
        self._counters = counters
        self._groups: dict[Sample, _Group] = {}
        self._interested: dict[str, tuple[_Group, ...]] = {}

    def __len__(self) -> int:
        """How many groups there are."""
        return len(self._groups)

    def deliver(self, message: Message) -> None:
        """Tell a message to those who are told everything now, and to the others in their time."""
        self._hub.deliver(message)
        if not self._groups:
            return
        groups = self._interested.get(message.room)
        if groups is None:
            groups = tuple(group for group in self._groups.values() if group.sessions(message.room))
            if len(self._interested) >= REMEMBERED_ROOMS:
                self._interested.clear()
            self._interested[message.room] = groups
        for group in groups:
            group.collect(message)

    def subscribe(self, session: Session, room: str) -> None:
        """Tell a session what comes in a room or in all that a pattern matches; all before, it has been told."""
        sample = session.samples.get(room)
        if sample is None:
            self._hub.subscribe(session, room)
            return
        group = self._groups.get(sample)
        if group is None:
            group = self._groups[sample] = _Group(sample, self._clock, self._counters, self._hub.outbox)
        group.subscribe(session, room)
        self._forget(room)

    def unsubscribe(self, session: Session, room: str) -> None:
        """Take that back. A group ends with its last member."""
        sample = session.samples.get(room)
        if sample is None:
            self._hub.unsubscribe(session, room)
            return
        group = self._groups[sample]
        group.unsubscribe(session, room)
        if group.ended:
            del self._groups[sample]
        self._forget(room)

    def told(self, session: Session, room: str, head: int) -> int:
        """Up to which place a session has been told all that this subscription brings, if the newest is at `head`."""
        sample = session.samples.get(room)
        return head if sample is None else self._groups[sample].told(session, head)

    def sessions(self, room: str) -> dict[Session, None]:
        """Everyone who is told what comes in a room, now or at a tick."""
        found = self._hub.sessions(room)
        for group in self._groups.values():
            found |= group.sessions(room)
        return found

    def settle(self, session: Session) -> None:
        """Tell a session now what waits for it, so that it has been told all there is."""
        for group in self._groups_of(session):
            group.settle(session)

    def refresh(self, session: Session) -> None:
        """Find out anew who gets what, since a session's subscriptions change."""
        for group in self._groups_of(session):
            group.refresh()
            self._interested.clear()

    def _groups_of(self, session: Session) -> list["_Group"]:
        if not session.samples:
            return []
        return [self._groups[sample] for sample in {*session.samples.values()} if sample in self._groups]

    def _forget(self, room: str) -> None:
        if has_wildcard(room):
            self._interested.clear()
        else:
            self._interested.pop(room, None)


class _Group(Hub):
    """The sessions with one sampling, and what waits for them."""

    def __init__(self, sample: Sample, clock: Clock, counters: Counters, outbox: Outbox) -> None:
        super().__init__(counters, outbox)
        self._sample = sample
        self._clock = clock
        self._drops = counters.drops
        self._members: Counter[Session] = Counter()
        self._waiting: OrderedDict[Key, _Waiting] = OrderedDict()
        """In the order of their newest messages."""
        self._number = 0
        self._beyond: dict[Session, int] = {}
        """Members that have been told, in another way, what was collected up to this number."""
        self._timer: Timer | None = None

    @property
    def ended(self) -> bool:
        """Whether nobody is in it any more."""
        return not self._members

    def subscribe(self, session: Session, room: str) -> None:
        """Let a session in; what waits already is not for it."""
        super().subscribe(session, room)
        self._members[session] += 1
        self._put_beyond(session, self._number)

    def unsubscribe(self, session: Session, room: str) -> None:
        """Let it out."""
        super().unsubscribe(session, room)
        self._members[session] -= 1
        if self._members[session] == 0:
            del self._members[session]
            self._beyond.pop(session, None)
        if self.ended:
            self._waiting.clear()
            if self._timer is not None:
                self._timer.cancel()

    def sessions(self, room: str) -> dict[Session, None]:
        """Those of whose subscriptions this one is the finest for a room."""
        return {session: None for session in super().sessions(room) if session.sample_for(room) == self._sample}

    def collect(self, message: Message) -> None:
        """Tell a message now if the last tick is a period ago, else at the next one."""
        if self.ended:
            return
        if self._timer is None:
            self._timer = self._clock.call_later(self._sample.seconds, self._tick)
            self.deliver(message)
            return
        self._number += 1
        # What is never kept must not take the place of what is, and what is for one session not that of another's.
        key = (message.room, message.topic, self._number if message.audience.is_addressed else -int(message.kept))
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = _Waiting(self._number, message, Values(self._sample.keep, message.data))
            if len(self._waiting) > MAXIMUM_WAITING:
                self._tell_first()
            return
        waiting.number, waiting.newest = self._number, message
        waiting.values.add(message.data)
        self._waiting.move_to_end(key)
        self._drops["conflated"] += 1

    def _tick(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        while self._waiting:
            self._tell_first()
        self._beyond.clear()
        if not self.ended:
            self._timer = self._clock.call_later(self._sample.seconds, self._tick)

    def _tell_first(self) -> None:
        _, waiting = self._waiting.popitem(last=False)
        if next(reversed(self._beyond.values()), 0) < waiting.number:
            self.deliver(waiting.message())
            return
        told = {session for session, number in self._beyond.items() if number >= waiting.number}
        self.deliver(waiting.message(), but=told)

    def settle(self, session: Session) -> None:
        """Tell one member now what waits for it, for as long as its client takes it."""
        for waiting in tuple(self._waiting_for(session)):
            if not session.can_be_told:
                return
            self._put_beyond(session, waiting.number)
            self.tell(session, waiting.message())
        if session.can_be_told:
            self._put_beyond(session, self._number)

    def told(self, session: Session, head: int) -> int:
        """Up to which place a member has been told all."""
        kept = (waiting.newest for waiting in self._waiting_for(session) if waiting.newest.kept)
        first = next(kept, None)
        return head if first is None else first.sequence - 1

    def _waiting_for(self, session: Session) -> Iterator[_Waiting]:
        beyond = self._beyond.get(session, 0)
        for waiting in self._waiting.values():
            if waiting.number > beyond and session.hears(waiting.newest.room, self._sample):
                yield waiting

    def _put_beyond(self, session: Session, number: int) -> None:
        if self._waiting and session in self._members:
            self._beyond.pop(session, None)
            self._beyond[session] = number  # at the end: the numbers ascend
