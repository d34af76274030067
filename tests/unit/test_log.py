"""What is remembered, what is forgotten, and that the log never claims to have what it lacks."""

import math
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.backlog import Backlog
from gateway.core.counters import Counters
from gateway.core.log import MESSAGE_OVERHEAD_BYTES, Log, LogBounds, _Room
from gateway.core.message import Message
from gateway.core.retention import NOTHING, Retention
from gateway.core.topics import filter_matches
from tests.unit.conftest import HandClock


class Writer:
    """A log, and everything that was ever stored in it."""

    def __init__(self, bounds: LogBounds | None = None) -> None:
        self.clock, self.counters = HandClock(), Counters()
        self.log = Log(bounds or LogBounds(), self.clock, self.counters)
        self.all: list[Message] = []

    def store(self, room: str, retention: Retention, topic: str | None = None, data: bytes = b"1") -> Message:
        message = Message(room, data, "e", len(self.all) + 1, self.clock.time(), topic)
        self.all.append(message)
        self.log.store(message, retention)
        return message

    def sequences_after(self, room: str, position: int) -> tuple[list[int], bool]:
        messages, complete = self.log.after(room, position)
        return sorted(message.sequence for message in messages), complete


def test_history_keeps_the_newest_messages_and_knows_what_it_lost() -> None:
    writer = Writer()
    for _ in range(5):
        writer.store("a", Retention(messages=3))
    assert writer.sequences_after("a", 2) == ([3, 4, 5], True)
    assert writer.sequences_after("a", 4) == ([5], True)
    assert writer.sequences_after("a", 1) == ([3, 4, 5], False)


def test_messages_that_are_too_old_are_no_history() -> None:
    writer = Writer()
    for _ in range(3):
        writer.store("a", Retention(last=False, messages=10, seconds=60))
        writer.clock.advance(25)
    assert writer.sequences_after("a", 0) == ([2, 3], False)
    writer.clock.advance(60)
    assert writer.sequences_after("a", 2) == ([], False)
    assert writer.sequences_after("a", 3) == ([], True)
    assert (writer.log.messages, writer.log.size_bytes) == (0, 0)


def test_what_is_too_old_for_the_history_already_stays_as_last_value() -> None:
    writer = Writer()
    old = Message("a", b"1", "e", 1, writer.clock.time() - 100, "t")
    writer.log.store(old, Retention(last=True, messages=10, seconds=60))
    assert (writer.log.last_values, writer.log.messages) == (1, 0)
    assert writer.log.size_bytes > MESSAGE_OVERHEAD_BYTES
    assert writer.sequences_after("a", 0) == ([1], True)


def test_a_last_value_is_a_history_of_one_for_each_topic() -> None:
    writer = Writer()
    for topic in ("x", "y", "x"):
        writer.store("a", Retention(), topic)
    assert writer.sequences_after("a", 1) == ([2, 3], True)
    assert writer.sequences_after("a", 0) == ([2, 3], False)


def test_a_room_that_keeps_nothing_says_that_something_is_lacking() -> None:
    writer = Writer()
    writer.store("a", NOTHING)
    writer.store("b", Retention())
    assert writer.sequences_after("a", 0) == ([], False)
    assert writer.sequences_after("a", 1) == ([], True)
    assert writer.sequences_after("b", 0) == ([2], True)
    assert writer.sequences_after("never/written", 0) == ([], True)


def test_the_budget_takes_the_oldest_history_first_then_the_stalest_last_values() -> None:
    each_bytes = MESSAGE_OVERHEAD_BYTES + 102
    writer = Writer(LogBounds(bytes=4 * each_bytes))
    data = b"x" * 100
    writer.store("s", Retention(), "t", data)
    for _ in range(4):
        writer.store("h", Retention(last=False, messages=10), "t", data)
    assert writer.sequences_after("h", 0) == ([3, 4, 5], False)
    assert writer.sequences_after("s", 0) == ([1], True)
    assert writer.counters.drops["history_evicted"] == 1
    for number in range(4):
        writer.store(str(number), Retention(), "t", data)
    assert writer.log.messages == 0
    assert writer.sequences_after("s", 0) == ([], False)
    assert writer.counters.drops["last_value_evicted"] == 1
    assert writer.log.size_bytes == 4 * each_bytes


def test_rooms_of_which_nothing_is_kept_are_bounded_and_forgotten_on_the_safe_side() -> None:
    writer = Writer(LogBounds(rooms=2))
    for room in "abc":
        writer.store(room, NOTHING)
    assert writer.sequences_after("a", 1) == ([], True)
    assert writer.sequences_after("a", 0) == ([], False)
    assert writer.sequences_after("unknown", 0) == ([], False)
    assert writer.sequences_after("+", 2) == ([], False)
    assert writer.sequences_after("c", 3) == ([], True)


def test_a_room_that_is_written_again_is_not_forgotten_for_the_room_that_gives_way_to_it() -> None:
    writer = Writer(LogBounds(last_values=2, rooms=1))
    for room, retention in (("x", Retention()), ("y", Retention()), ("z", NOTHING), ("z", Retention())):
        writer.store(room, retention)
    assert writer.sequences_after("z", 3) == ([4], True)


def test_a_floor_of_an_earlier_time_is_known_after_a_restart() -> None:
    writer = Writer()
    writer.log.raise_floor("a", 7)
    assert writer.sequences_after("a", 6) == ([], False)
    assert writer.sequences_after("a", 7) == ([], True)


ROOM = st.sampled_from(["a", "a/b", "a/c", "b"])
KEPT = st.builds(Retention, st.booleans(), st.integers(0, 4), st.sampled_from([math.inf, math.inf, 3.0]))
STORE = st.tuples(st.just("store"), ROOM, KEPT, st.sampled_from(["t", "u", None]))
STEP = st.one_of(
    STORE,
    STORE,
    st.tuples(st.just("wait"), ROOM, st.just(NOTHING), st.none()),
    st.tuples(st.just("forget"), ROOM, st.just(NOTHING), st.sampled_from(["t", "u", None])),
)
SMALL = st.builds(
    LogBounds, st.integers(1, 4), st.sampled_from([10**9, 4 * (MESSAGE_OVERHEAD_BYTES + 5)]), st.integers(1, 3)
)


@given(st.lists(STEP, max_size=40), SMALL, st.sampled_from(["a", "a/b", "a/+", "#", "b"]))
def test_what_is_said_to_be_complete_is_complete(
    steps: list[tuple[str, str, Retention, str | None]], bounds: LogBounds, room_filter: str
) -> None:
    writer = Writer(bounds)
    for what, room, retention, topic in steps:
        if what == "store":
            writer.store(room, retention, topic)
        elif what == "wait":
            writer.clock.advance(1)
        else:
            writer.log.forget(room, topic)
    for position in range(len(writer.all) + 1):
        found, complete = writer.sequences_after(room_filter, position)
        due = [m.sequence for m in writer.all[position:] if filter_matches(room_filter, m.room)]
        assert set(found) <= set(due)
        assert not complete or found == due
    assert writer.log.last_values <= bounds.last_values
    assert writer.log.size_bytes <= bounds.bytes
    held = {m.sequence for m in writer.log.after("#", 0)[0]}
    assert writer.log.size_bytes == sum(
        MESSAGE_OVERHEAD_BYTES + len(m.data) + len(m.room) + len(m.topic or "")
        for m in writer.all
        if m.sequence in held
    )


@given(st.lists(st.sampled_from(["append", "append", "append", "drop"]), max_size=300), st.integers(0, 320))
def test_a_backlog_is_a_list_whose_front_moves(steps: list[str], place: int) -> None:
    backlog, plain = Backlog(), list[int]()
    for sequence, step in enumerate(steps):
        if step == "append":
            backlog.append(Message("a", b"", "e", sequence, 0.0))
            plain.append(sequence)
        elif plain:
            assert backlog.popleft().sequence == plain.pop(0)
    assert len(backlog) == len(plain)
    assert not plain or backlog.oldest.sequence == plain[0]
    assert [message.sequence for message in backlog.after(place)] == [n for n in plain if n > place]
    assert [message.sequence for message in backlog.before(place)] == [n for n in reversed(plain) if n < place]


@pytest.mark.parametrize("retention", [Retention(messages=5), Retention()])
def test_nothing_is_lacking_while_all_is_kept(retention: Retention) -> None:
    writer = Writer()
    for topic in "vwxyz":
        writer.store("a", retention, topic)
    assert writer.sequences_after("a", 0) == ([1, 2, 3, 4, 5], True)
    assert writer.sequences_after("#", 0) == ([1, 2, 3, 4, 5], True)


def test_of_very_many_rooms_only_those_are_read_that_have_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer()
    read: list[str] = []
    for number in range(200):
        writer.store(f"a/{number}", Retention(messages=number % 2))

    def noted(reads: Callable[[_Room, int], Iterator[Message]]) -> Callable[[_Room, int], Iterator[Message]]:
        def note(room: _Room, place: int) -> Iterator[Message]:
            read.append(room.name)
            return reads(room, place)

        return note

    monkeypatch.setattr(_Room, "after", noted(_Room.after))
    monkeypatch.setattr(_Room, "before", noted(_Room.before))

    messages, complete = writer.log.after("a/#", 20)
    assert ([message.sequence for message in islice(messages, 5)], complete) == ([21, 22, 23, 24, 25], True)
    assert [message.sequence for message in islice(writer.log.before("#", 90), 3)] == [89, 88, 87]
    assert len(read) <= 8


@given(
    stored=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.booleans(), st.sampled_from("tu"))),
    place=st.integers(0, 30),
)
def test_rooms_come_in_the_order_of_the_sequence_both_ways(
    stored: list[tuple[str, int, bool, str]], place: int
) -> None:
    writer = Writer()
    for room, messages, last, topic in stored:
        writer.store(f"r/{room}", Retention(last=last, messages=messages), topic)
    rooms = [f"r/{room}" for room in "abcd"]

    after = [message.sequence for message in writer.log.after("r/#", place)[0]]
    before = [message.sequence for message in writer.log.before("r/#", place)]

    assert after == sorted(m.sequence for room in rooms for m in writer.log.after(room, place)[0])
    assert before == sorted((m.sequence for room in rooms for m in writer.log.before(room, place)), reverse=True)
