"""The roster: who is in which room, held against a naive model, and what listeners make of what they are told.

What holds for any presence is in `test_presence_contract`.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.counters import Counters
from gateway.core.presence import Attendees, Change, Counted, Joined, Left, Member, PresenceBounds, Roster, Who
from gateway.core.presence_memory import MemoryPresence
from tests.unit.conftest import HandClock

ANN, BOB = Who("user", "ann"), Who("session", "bob")


@dataclass
class Bench:
    """A presence, its clock, and all that it told."""

    bounds: PresenceBounds = field(default_factory=PresenceBounds)

    def __post_init__(self) -> None:
        self.clock, self.counters, self.told = HandClock(), Counters(), list[Change]()
        self.presence = MemoryPresence(Roster(self.bounds, self.clock, self.counters), self.clock)
        self.presence.attach(self.told.append)

    def take(self) -> list[Change]:
        told, self.told[:] = list(self.told), []
        return told

    def attendees(self, room: str) -> Attendees:
        found: list[Attendees] = []
        self.presence.ask(room, found.append)
        return found[0]

    def fill(self, room: str, count: int, start: int = 0) -> None:
        for number in range(start, start + count):
            self.presence.enter(room, Who("session", str(number)), str(number))


def test_who_is_in_a_room_that_is_about_to_be_small_is_told_with_the_whole_list_and_not_before() -> None:
    bench = Bench(PresenceBounds(grace_seconds=0, members_told=2))
    bench.fill("hall", 3)
    bench.presence.leave("hall", Who("session", "2"), "2")
    assert bench.attendees("hall") == Attendees(2, None)
    bench.clock.advance(2)
    assert bench.attendees("hall").members is not None


def test_a_room_that_is_large_again_is_told_to_be_even_if_it_has_as_many_as_before() -> None:
    bench = Bench(PresenceBounds(grace_seconds=0, members_told=2))
    for _ in range(2):
        bench.fill("hall", 3)
        bench.clock.advance(2)
        assert bench.take()[-1] == Counted("hall", Attendees(3, None))
        bench.presence.leave("hall", Who("session", "2"), "2")
        bench.clock.advance(2)


def test_nothing_is_told_once_the_gateway_goes() -> None:
    bench = Bench()
    bench.presence.enter("hall", ANN, "s1")
    bench.presence.enter("hall", BOB, "s2")
    bench.presence.leave("hall", BOB, "s2")
    bench.take()
    bench.presence.close()
    assert bench.clock.waiting == 0
    bench.presence.leave("hall", ANN, "s1")
    bench.clock.advance(60)
    assert (bench.take(), bench.clock.waiting) == ([], 0)


def test_who_leaves_because_of_what_they_are_told_is_told_in_order() -> None:
    clock = HandClock()
    presence = MemoryPresence(Roster(PresenceBounds(grace_seconds=0), clock, Counters()), clock)
    told: list[Change] = []

    def tell(change: Change) -> None:
        if isinstance(change, Joined) and change.member.who == ANN:
            presence.leave("hall", BOB, "s2")
        told.append(change)

    presence.attach(tell)
    presence.enter("hall", BOB, "s2")
    presence.enter("hall", ANN, "s1")
    assert told == [Joined("hall", Member(BOB)), Joined("hall", Member(ANN)), Left("hall", BOB)]


@dataclass
class Listener:
    """What a client knows that does what the documents say."""

    members: dict[Who, bytes | None] | None = field(default_factory=dict)
    count: int = 0

    def hear(self, change: Change) -> None:
        if isinstance(change, Counted):
            told = change.attendees.members
            self.members = None if told is None else {member.who: member.state for member in told}
            self.count = change.attendees.count
            return
        assert self.members is not None, "a single change of a room of which only the count is known"
        if isinstance(change, Left):
            del self.members[change.who]
        else:
            assert (change.member.who in self.members) == change.updated
            self.members[change.member.who] = change.member.state
        self.count = len(self.members)


@dataclass
class Person:
    """One who is in the room of the naive model: sessions, state, and when the last session ended."""

    sources: set[str] = field(default_factory=set)
    state: bytes | None = None
    ended: float = 0.0


@dataclass
class Naive:
    """One room in the plainest way: everybody is looked at whenever somebody asks."""

    grace: float
    people: dict[Who, Person] = field(default_factory=dict)

    def act(self, now: float, what: str, who: Who, detail: str) -> None:
        self.look(now)
        if what == "enter":
            self.people.setdefault(who, Person()).sources.add(detail)
        person = self.people.get(who)
        if person is None:
            return
        if what == "state":
            person.state = detail.encode()
        elif what == "leave" and detail in person.sources:
            person.sources.discard(detail)
            person.ended = now

    def look(self, now: float) -> dict[Who, bytes | None]:
        for who, person in tuple(self.people.items()):
            if not person.sources and now >= person.ended + self.grace:
                del self.people[who]
        return {who: person.state for who, person in self.people.items()}


PEOPLE = st.sampled_from([Who(kind, name) for kind in ("user", "member") for name in "abc"])
STEP = st.one_of(
    st.tuples(st.sampled_from(["enter", "leave"]), PEOPLE, st.sampled_from("12")),
    st.tuples(st.just("state"), PEOPLE, st.sampled_from("xy")),
    st.sampled_from([0.5, 1.0, 2.0, 4.0]),
)


def act(bench: Bench, what: str, who: Who, detail: str) -> None:
    if what == "enter":
        bench.presence.enter("hall", who, detail)
    elif what == "leave":
        bench.presence.leave("hall", who, detail)
    else:
        bench.presence.set_state("hall", who, detail.encode())


TWO_LEAVE_TOGETHER: list[tuple[str, Who, str] | float] = [
    *(("enter", Who("user", name), "1") for name in "abc"),
    *(("leave", Who("user", name), "1") for name in "ab"),
    2.0,
]


@settings(max_examples=300)
@given(st.lists(STEP, max_size=60), st.sampled_from([0.0, 3.0]), st.integers(1, 7))
@example(TWO_LEAVE_TOGETHER, 3.0, 1)
def test_who_is_there_is_what_a_naive_model_says_and_listeners_know_it(
    steps: list[tuple[str, Who, str] | float], grace: float, members_told: int
) -> None:
    bench, naive, listener = Bench(PresenceBounds(grace, members_told)), Naive(grace), Listener()
    bench.presence.attach(listener.hear)
    for step in steps:
        if isinstance(step, float):
            bench.clock.advance(step)
        else:
            act(bench, *step)
            naive.act(bench.clock.now, *step)
        told, there = bench.attendees("hall"), naive.look(bench.clock.now)
        assert told.count == len(there) == sum(bench.presence.kinds.values())
        if told.members is not None:
            assert {member.who: member.state for member in told.members} == listener.members == there
    bench.clock.advance(grace)  # who leaves later than that would have the count wait once more
    bench.clock.advance(1.1)
    there = naive.look(bench.clock.now)
    assert listener.count == len(there)
    assert listener.members == (there if len(there) <= members_told else None)


@given(st.lists(STEP, max_size=60), st.integers(1, 4))
def test_counts_come_once_a_second_at_most_and_nothing_stays_behind(
    steps: list[tuple[str, Who, str] | float], members_told: int
) -> None:
    bench = Bench(PresenceBounds(3.0, members_told))
    counts: list[float] = []
    bench.presence.attach(lambda change: counts.append(bench.clock.now) if isinstance(change, Counted) else None)
    for step in steps:
        if isinstance(step, float):
            bench.clock.advance(step)
        else:
            act(bench, *step)
    assert all(later - earlier > 0.999 for earlier, later in pairwise(counts))
    for _, who, source in (step for step in steps if not isinstance(step, float)):
        bench.presence.leave("hall", who, source)
    bench.clock.advance(10)
    assert (bench.presence._roster._rooms, bench.clock.waiting) == ({}, 0)
