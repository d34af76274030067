"""Sampled subscriptions: few messages, the last one always, nothing twice, and the work shared."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import recovery as recoveries
from gateway.core import sampling as samplings
from gateway.core.engine import Wanted
from gateway.core.message import Audience, Cursor
from gateway.core.retention import Retention
from gateway.core.room_rules import RoomRule
from gateway.core.sample import Keep, Sample, rank_of, read_sample
from gateway.core.session import Session
from gateway.core.topics import filter_matches
from gateway.core.wire_requests import Subscribe
from tests.unit.conftest import ListSink, World, make_world
from tests.unit.test_recovery import pause, publish, told, unpause
from tests.unit.test_sample import combined

RULES = [
    RoomRule("kept/#", Retention(messages=1000)),
    RoomRule("last/#", Retention()),
    RoomRule("past/#", Retention(last=False, messages=3)),
]
SECOND = Sample(1.0)


@pytest.fixture
def world() -> World:
    return make_world(rules=RULES)


def subscribe(
    world: World, session: Session, *rooms: str, sample: Sample | None = SECOND, since: str | None = None
) -> None:
    cursor = None if since is None else Cursor.parse(since)
    world.namespace.subscribe(session, Subscribe(None, rooms, cursor, sample))


def join(world: World, *rooms: str, sample: Sample | None = SECOND) -> tuple[Session, ListSink]:
    session, sink, _ = world.join()
    subscribe(world, session, *rooms, sample=sample)
    sink.take()
    return session, sink


def test_subscribed_says_how_it_is_sampled(world: World) -> None:
    session, sink, _ = world.join()
    subscribe(world, session, "last/x", sample=Sample(0.5, Keep.MEAN))
    assert sink.take()[0]["sample"] == {"seconds": 0.5, "keep": "mean"}
    subscribe(world, session, "last/x", sample=None)
    assert "sample" not in sink.take()[0]


def test_the_first_message_comes_at_once_then_one_a_period_and_the_last_always(world: World) -> None:
    _, sink = join(world, "last/+")
    heard = []
    for number in range(10):
        publish(world, "last/x", number)
        heard += [(number, value) for value in told(sink)]
        world.clock.advance(0.25)
    world.clock.advance(1)
    assert heard == [(0, 0), (4, 3), (8, 7)]
    assert told(sink) == [9]
    assert world.counters.drops["conflated"] == 6
    world.clock.advance(1)
    assert world.clock.waiting == 0


def test_a_message_has_the_newest_cursor_and_time(world: World) -> None:
    _, sink = join(world, "last/x", sample=Sample(1, Keep.MEAN))
    publish(world, "last/x", 0, 1, 2)
    world.clock.advance(0.5)
    publish(world, "last/x", 6)
    world.clock.advance(0.5)
    sent = sink.take()[-1]
    assert (sent["data"], sent["cursor"], sent["time"]) == (3, "epoch-4", world.clock.time() - 0.5)


def test_topics_are_sampled_apart_and_told_in_order(world: World) -> None:
    session, sink, _ = world.join()
    subscribe(world, session, "sites/#")
    sink.take()
    for device in "abab":
        world.device(f"sensors/s/{device}/m", b"1")
    world.device("sensors/s/c/m", b"1")
    world.device("sensors/s/a/m", b"2")
    world.clock.advance(1)
    assert [(sent["topic"], sent["cursor"]) for sent in sink.take()] == [
        ("sensors/s/a/m", "epoch-1"),
        ("sensors/s/b/m", "epoch-4"),
        ("sensors/s/c/m", "epoch-5"),
        ("sensors/s/a/m", "epoch-6"),
    ]


def test_clients_with_the_same_sampling_share_bytes_and_timer(world: World) -> None:
    written: list[bytes] = []
    for rooms in (("last/x",), ("last/+",), ("last/x", "last/#")):
        session, _ = join(world, *rooms)
        session.sink.write = written.append  # type: ignore[method-assign, assignment]
    publish(world, "last/x", 1, 2, 3)
    world.clock.advance(1)
    assert [orjson.loads(data)["data"] for data in written] == [1, 1, 1, 3, 3, 3]
    assert len({id(data) for data in written}) == 2
    assert (len(world.namespace._fanout), world.clock.waiting) == (1, 1)


def test_a_group_ends_with_its_last_member(world: World) -> None:
    (one, _), (other, _) = join(world, "last/x"), join(world, "last/x", sample=Sample(2))
    publish(world, "last/x", 1, 2)
    assert len(world.namespace._fanout) == 2
    world.namespace.unsubscribe(one, "last/x")
    other.end()
    assert (len(world.namespace._fanout), world.clock.waiting, len(world.namespace._hub)) == (0, 0, 0)
    publish(world, "last/x", 3)


def test_what_waits_is_not_told_to_who_comes_later_and_has_it_from_the_log(world: World) -> None:
    _, early = join(world, "last/x")
    publish(world, "last/x", 1, 2)
    session, sink, _ = world.join()
    subscribe(world, session, "last/x")
    assert told(sink) == [(False, [2])]
    world.clock.advance(1)
    assert (told(early), told(sink)) == ([1, 2], [])
    publish(world, "last/x", 3)
    world.clock.advance(1)
    assert (told(early), told(sink)) == ([3], [3])


def test_sampling_is_changed_by_subscribing_again(world: World) -> None:
    session, sink = join(world, "last/x")
    publish(world, "last/x", 1, 2)
    subscribe(world, session, "last/x", sample=Sample(5))
    publish(world, "last/x", 3, 4)
    assert told(sink) == [1, 2, (False, [2]), 3]
    world.clock.advance(5)
    assert told(sink) == [4]
    publish(world, "last/x", 5)
    subscribe(world, session, "last/x", sample=None, since="epoch-5")
    publish(world, "last/x", 6, 7)
    assert told(sink) == [5, (True, []), 6, 7]


def test_of_overlapping_subscriptions_the_finest_holds(world: World) -> None:
    other, _ = join(world, "last/#")
    session, sink = join(world, "last/#")
    publish(world, "last/a", *range(3))
    world.clock.advance(3)
    subscribe(world, session, "last/a", sample=None)
    subscribe(world, session, "last/b", sample=Sample(0.25))
    subscribe(world, session, "last/+", sample=Sample(1, Keep.MAX))
    sink.take()
    for room in ("last/a", "last/b", "last/c"):
        publish(world, room, *(f"{room[-1]}{number}" for number in range(3)))
    assert told(sink) == ["a0", "a1", "a2", "b0"]
    world.clock.advance(0.25)
    assert told(sink) == ["b2"]
    world.clock.advance(0.75)
    assert told(sink) == ["c2"]
    other.end()
    publish(world, "last/a", "a3")
    world.clock.advance(1)
    world.namespace.unsubscribe(session, "last/a")
    publish(world, "last/a", "a4", "a5")
    world.clock.advance(1)
    assert told(sink) == ["a3", "a4", "a5"]


def test_what_an_unsampled_subscription_has_told_is_not_told_again_when_that_ends(world: World) -> None:
    _, other = join(world, "last/#")
    session, sink = join(world, "last/#")
    subscribe(world, session, "last/a", sample=None)
    sink.take()
    publish(world, "last/b", 0)
    publish(world, "last/a", 1, 2)
    world.namespace.unsubscribe(session, "last/a")
    world.clock.advance(1)
    assert (told(sink), told(other)) == ([0, 1, 2], [0, 2])


def test_who_comes_back_is_told_the_last_value_of_each_topic_once(world: World) -> None:
    for number in range(5):
        publish(world, "last/a", number)
        publish(world, "kept/b", number)
    session, sink, _ = world.join()
    subscribe(world, session, "last/a", "kept/b", since="epoch-2")
    assert told(sink) == [(True, []), (True, []), 4, 4]
    publish(world, "last/a", 5)
    assert told(sink) == [5]
    session, sink, _ = world.join()
    subscribe(world, session, "last/a", "kept/b", since="epoch-11")
    assert told(sink) == [(True, []), (True, [])]


def test_who_comes_back_to_what_is_gone_is_told_so(world: World) -> None:
    publish(world, "none/a", 1)
    publish(world, "past/a", *range(5))
    for room, since in (("none/a", "epoch-0"), ("past/a", "epoch-1")):
        session, sink, _ = world.join()
        subscribe(world, session, room, since=since)
        assert told(sink) == [(False, [])]


def test_a_client_that_doesnt_read_is_told_the_last_value_later(world: World) -> None:
    session, sink = join(world, "last/#")
    publish(world, "last/a", 1, 2)
    publish(world, "last/b", 3)
    pause(sink, session)
    publish(world, "last/a", *range(10, 20))
    world.clock.advance(5)
    assert told(sink) == [1]
    unpause(sink, session)
    assert told(sink) == [3, 19]
    publish(world, "last/a", 20)
    assert told(sink) == [20]


def test_a_client_that_stops_reading_in_a_tick_goes_on_from_there(world: World) -> None:
    session, sink = join(world, "last/#")
    sink.session, sink.full_after = session, 3
    publish(world, "last/0", "first")
    for room in "abcd":
        publish(world, f"last/{room}", room)
    world.clock.advance(1)
    assert told(sink) == ["first", "a", "b"]
    sink.full_after = 100
    unpause(sink, session)
    world.clock.advance(1)
    assert told(sink) == ["c", "d"]


def test_a_client_that_stops_reading_while_it_subscribes_to_more_goes_on_from_there(world: World) -> None:
    session, sink = join(world, "last/#")
    for room in "0abcd":
        publish(world, f"last/{room}", room)
    sink.session, sink.full_after = session, 3
    subscribe(world, session, "kept/x")
    assert told(sink) == ["0", "a", "b"]
    sink.full_after = 100
    unpause(sink, session)
    assert told(sink) == [(False, []), "c", "d"]
    world.clock.advance(1)
    assert told(sink) == []


def test_too_many_topics_at_once_are_told_early_in_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplings, "MAXIMUM_WAITING", 2)
    _, sink = join(world, "last/#")
    for room in "abacad":
        publish(world, f"last/{room}", room)
    assert told(sink) == ["a", "b", "c"]
    world.clock.advance(1)
    assert told(sink) == ["a", "d"]


def test_what_is_never_kept_takes_no_place_of_what_is_and_what_is_for_one_is_told_to_that_one(world: World) -> None:
    (ann, ann_sink), (_, bob_sink) = join(world, "last/x"), join(world, "last/x")
    publish(world, "last/x", "first", "kept")
    publish(world, "last/x", "typing", volatile=True)
    for secret in ("one", "two"):
        publish(world, "last/x", secret, audience=Audience(session=ann.id))
    assert world.namespace._fanout.told(ann, "last/x", world.namespace.engine.head) == 1
    world.clock.advance(1)
    assert told(ann_sink) == ["first", "kept", "typing", "one", "two"]
    assert told(bob_sink) == ["first", "kept", "typing"]
    publish(world, "last/x", "typing", volatile=True)
    assert world.namespace._fanout.told(ann, "last/x", world.namespace.engine.head) == 2


def cursors(sink: ListSink) -> list[int]:
    return [Cursor.parse(str(sent["cursor"])).sequence for sent in sink.take()]


def test_cursors_never_go_back_though_the_engine_answers_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    session, sink = join(world, "last/x")
    publish(world, "last/y", 0)
    late: list[Callable[[], None]] = []
    read = world.namespace.engine.read
    monkeypatch.setattr(world.namespace.engine, "read", lambda *asked: late.append(lambda: read(*asked)))
    subscribe(world, session, "last/y")
    publish(world, "last/x", 1, 2)
    late.pop()()
    world.clock.advance(1)
    assert cursors(sink) == [2, 3, 3]


def test_what_a_subscription_leaves_untold_that_ends_in_its_replay_a_sampled_one_tells(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recoveries, "CHUNK_MESSAGES", 1)
    session, sink = join(world, "#")
    publish(world, "kept/x", 1, 2, 3)
    subscribe(world, session, "kept/x", sample=None, since="epoch-1")
    publish(world, "kept/x", 4)
    world.namespace.unsubscribe(session, "kept/x")
    world.clock.advance(2)
    assert told(sink) == [1, 3, (True, []), 2, 4]


EVENT = st.tuples(
    st.sampled_from(["last/a", "last/b", "kept/c"]), st.integers(0, 9), st.sampled_from([0, 0.125, 0.5, 2])
)


@given(st.sampled_from(Keep), st.lists(EVENT, max_size=40))
def test_a_subscriber_has_one_message_a_period_and_topic_and_the_last_value_comes(
    keep: Keep, events: list[tuple[str, int, float]]
) -> None:
    world = make_world(rules=RULES)
    _, sink = join(world, "#", sample=Sample(1, keep))
    published: list[tuple[float, str, int]] = []
    heard: list[tuple[float, str, Any]] = []

    def wait(eighths: int) -> None:
        for _ in range(eighths):
            world.clock.advance(0.125)
            heard.extend((world.clock.now, str(sent["room"]), sent["data"]) for sent in sink.take())

    for room, value, wait_seconds in events:
        published.append((world.clock.now, room, value))
        publish(world, room, value)
        heard.extend((world.clock.now, str(sent["room"]), sent["data"]) for sent in sink.take())
        wait(int(wait_seconds * 8))
    wait(16)
    assert heard == naive_group(keep, published)
    for room in {room for _, room, _ in published}:
        times = [time for time, name, _ in heard if name == room]
        assert all(later - earlier >= 1 for earlier, later in pairwise(times))
        if keep is Keep.LAST:
            assert [value for _, name, value in heard if name == room][-1] == [v for _, r, v in published if r == room][
                -1
            ]


def naive_group(keep: Keep, published: list[tuple[float, str, int]]) -> list[tuple[float, str, Any]]:
    """The first at once, and the rest at ticks, in the order in which the topics were published last."""
    expected: list[tuple[float, str, Any]] = []
    while published:
        expected.append(published[0])
        tick, later = published[0][0] + 1, published[1:]
        while held := [each for each in later if each[0] < tick]:
            later = later[len(held) :]
            newest_last = list(dict.fromkeys(room for _, room, _ in reversed(held)))[::-1]
            values = {room: [value for _, name, value in held if name == room] for room in newest_last}
            expected += [(tick, room, combined(keep, values[room])) for room in newest_last]
            tick += 1
        published = later
    return expected


@dataclass
class Client:
    """A client that keeps one cursor for each sampling, comes back with it, and knows what it heard."""

    world: World
    wanted: dict[str, Sample | None]
    cursors: dict[Sample | None, str] = field(default_factory=dict)
    heard: list[tuple[str, int]] = field(default_factory=list)
    published: dict[str, list[int]] = field(default_factory=dict)
    last: set[tuple[str, int]] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)
    """Rooms of which the gateway said that something is lacking."""
    session: Session | None = None
    sink: ListSink = field(default_factory=ListSink)
    number: int = 0

    def finest(self, room: str) -> Sample | None:
        found = [sample for wanted, sample in self.wanted.items() if filter_matches(wanted, room)]
        return min(found, key=rank_of)

    def connect(self) -> None:
        if self.session is not None:
            return
        self.sink = ListSink()
        self.session = self.sink.session = self.world.namespace.open("websocket", self.sink)
        samples = sorted({*self.wanted.values()}, key=rank_of)
        for sample in samples:
            rooms = tuple(room for room, wanted in self.wanted.items() if wanted == sample)
            subscribe(self.world, self.session, *rooms, sample=sample, since=self.cursors.get(sample))

    def disconnect(self, delivered: int) -> None:
        if self.session is not None:
            self.session.end()
            self.take(self.sink.written[:delivered])
            self.session = None

    def change(self, which: int) -> None:
        """Subscribe again, with another sample or none; the cursor of a coarser one that overlaps would be behind."""
        if self.session is not None and len(self.wanted) == 1:
            self.take(self.sink.take())
            room = sorted(self.wanted)[which % len(self.wanted)]
            subscribe(self.world, self.session, room, sample=(None, SECOND, Sample(4.0))[which // 3])
            self.take(self.sink.take())

    def publish(self, room: str, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.published.setdefault(room, []).append(self.number)
            publish(self.world, room, self.number)

    def stall(self, count: int) -> None:
        self.sink.full_after = len(self.sink.written) + count

    def read_on(self) -> None:
        self.sink.full_after = 10**9
        if self.session is not None:
            unpause(self.sink, self.session)

    def take(self, written: list[dict[str, Any]]) -> None:
        for sent in written:
            if sent["type"] == "message":
                self.cursors[self.finest(sent["room"])] = sent["cursor"]
                self.hear(sent)
                continue
            sample = read_sample(sent.get("sample"))
            self.wanted[sent["room"]] = sample
            self.cursors[sample] = sent["cursor"]
            if not sent["recovered"]:
                self.last.update((message["room"], message["data"]) for message in sent["last"])
                self.excused.update(room for room in self.published if filter_matches(sent["room"], room))

    def hear(self, message: dict[str, Any]) -> None:
        room, data = message["room"], message["data"]
        earlier = [said for heard, said in self.heard if heard == room]
        assert data > max(earlier, default=0), f"told twice or out of order: {data} after {earlier}"
        # What one subscription lacks and has told as a last value, another one that overlaps may have kept to tell.
        assert (room, data) not in self.last or len(self.wanted) > 1, "told after it was a last value"
        self.heard.append((room, data))


SAMPLES = st.sampled_from([None, SECOND, Sample(4.0)])
STEP = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(["last/a", "last/b", "kept/a"]), st.integers(1, 4)),
    st.tuples(st.just("publish"), st.sampled_from(["last/a", "last/b", "kept/a"]), st.integers(1, 4)),
    st.tuples(st.just("wait"), st.just(""), st.integers(0, 12)),
    st.tuples(st.just("pause"), st.just(""), st.integers(0, 6)),
    st.tuples(st.just("unpause"), st.just(""), st.just(0)),
    st.tuples(st.just("disconnect"), st.just(""), st.integers(0, 30)),
    st.tuples(st.just("connect"), st.just(""), st.just(0)),
    st.tuples(st.just("change"), st.just(""), st.integers(0, 8)),
)
WANTED = st.dictionaries(st.sampled_from(["last/a", "last/+", "kept/a", "#", "+/a"]), SAMPLES, min_size=1, max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=40), WANTED)
def test_the_last_value_always_comes_and_nothing_twice_whatever_happens(
    steps: list[tuple[str, str, int]], wanted: dict[str, Sample | None]
) -> None:
    world = make_world(rules=RULES)
    client = Client(world, wanted)
    client.connect()
    do: dict[str, Callable[[str, int], None]] = {
        "publish": client.publish,
        "wait": lambda _, quarters: world.clock.advance(quarters / 4),
        "connect": lambda *_: client.connect(),
        "pause": lambda _, count: client.stall(count),
        "unpause": lambda *_: client.read_on(),
        "disconnect": lambda _, count: client.disconnect(count),
        "change": lambda _, which: client.change(which),
    }
    for what, room, count in [*steps, ("connect", "", 0), ("unpause", "", 0), ("wait", "", 40)]:
        do[what](room, count)
    client.take(client.sink.take())
    for room, numbers in client.published.items():
        heard = [number for heard, number in client.heard if heard == room]
        if any(filter_matches(wish, room) for wish in wanted):
            assert numbers[-1] in heard or (room, numbers[-1]) in client.last, "the last value is lacking"
            if client.finest(room) is None and room.startswith("kept/") and room not in client.excused:
                assert heard == numbers
        else:
            assert heard == []


def test_an_engine_gives_the_newest_of_each_topic_to_who_wants_no_more(world: World) -> None:
    publish(world, "kept/a", 1, 2)
    publish(world, "kept/b", 3)
    found: list[list[int]] = []
    wanted = {"kept/#": Wanted(0, 0, latest=True, rank=1.0)}
    for finer in ({}, {"kept/b": Wanted(0, 3)}):
        world.namespace.engine.read(
            {**wanted, **finer}, 10, lambda reading: found.append([message.sequence for message in reading.messages])
        )
    assert found == [[2, 3], [2]]


def test_a_subscription_that_ends_in_its_replay_leaves_sampled_ones_elsewhere_alone() -> None:
    world = make_world(rules=[RoomRule("#", Retention(messages=10_000))])
    publish(world, "other/z", *range(600))
    session, sink = join(world, "mine/#")
    publish(world, "mine/x", "once")
    subscribe(world, session, "other/z", sample=None, since="epoch-0")
    world.namespace.unsubscribe(session, "other/z")
    world.clock.advance(5)
    assert told(sink).count("once") == 1
