"""Clients that leave, come back, and don't read: no gap, nothing twice, and nothing lacking in silence."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core import answering
from gateway.core import recovery as recoveries
from gateway.core.access import Access
from gateway.core.identity import Identity
from gateway.core.limits import Limits
from gateway.core.message import Cursor
from gateway.core.publishing import Sending
from gateway.core.retention import Retention
from gateway.core.room_rules import RoomRule
from gateway.core.session import Session
from gateway.core.topics import filter_matches
from gateway.core.wire_requests import Subscribe
from tests.unit.conftest import ListSink, World, make_world

HISTORY = [RoomRule("kept/#", Retention(messages=1000)), RoomRule("short/#", Retention(messages=3))]


def publish(world: World, room: str, *data: object, **more: Any) -> None:
    for each in data:
        world.namespace.publish(Sending(room, each, **more), lambda _: None)


def told(sink: ListSink) -> list[object]:
    """What a client heard: data of messages, and for `subscribed` whether it recovered, with the last values."""
    heard: list[object] = []
    for sent in sink.take():
        if sent["type"] == "message":
            heard.append(sent["data"])
        else:
            last: Any = sent["last"]
            heard.append((sent["recovered"], [message["data"] for message in last]))
    return heard


def test_who_comes_back_with_a_cursor_is_told_what_was_missed_then_what_comes() -> None:
    world = make_world(rules=HISTORY)
    publish(world, "kept/x", 1, 2, 3)
    session, sink, _ = world.join()
    world.subscribe(session, "kept/x", since="epoch-1")
    publish(world, "kept/x", 4)
    subscribed, *messages = sink.take()
    assert (subscribed["recovered"], subscribed["cursor"], subscribed["last"]) == (True, "epoch-1", [])
    assert [(sent["data"], sent["cursor"]) for sent in messages] == [(2, "epoch-2"), (3, "epoch-3"), (4, "epoch-4")]


def test_who_comes_back_too_late_is_told_so_with_the_last_values() -> None:
    world = make_world(rules=HISTORY)
    publish(world, "short/x", 1, 2, 3, 4, 5)
    for since, expected in (("epoch-2", [(True, []), 3, 4, 5]), ("epoch-1", [(False, [5])])):
        session, sink, _ = world.join()
        world.subscribe(session, "short/x", since=since)
        assert told(sink) == expected


def test_cursors_of_elsewhere_and_of_the_future_are_answered_with_the_last_values() -> None:
    world = make_world(rules=HISTORY)
    publish(world, "kept/x", 1)
    for since in ("epoch-2", "epoch-999999999999999999", "other-1", "0-0"):
        session, sink, _ = world.join()
        world.subscribe(session, "kept/x", since=since)
        (subscribed,) = sink.take()
        assert (subscribed["recovered"], subscribed["cursor"]) == (False, "epoch-1")


def test_several_rooms_come_back_merged_in_order() -> None:
    world = make_world(rules=HISTORY)
    for number in range(6):
        publish(world, f"kept/{number % 3}", number)
    session, sink, _ = world.join()
    rooms = ("kept/0", "kept/1", "kept/+")
    world.namespace.subscribe(session, Subscribe("all", rooms, Cursor("epoch", 0)))
    assert [sent.get("id") for sent in sink.written[:3]] == [None, None, "all"]
    assert told(sink) == [(True, []), (True, []), (True, []), 0, 1, 2, 3, 4, 5]


def test_several_requests_with_cursors_of_their_own_come_back_merged_in_order() -> None:
    world = make_world(rules=HISTORY)
    for number in range(1, 9):
        publish(world, f"kept/{number % 2}", number)
    session, sink, _ = world.join()
    requests = [Subscribe(None, (f"kept/{n}",), Cursor("epoch", since)) for n, since in ((0, 4), (1, 1))]
    world.namespace.subscribe(session, *requests, Subscribe(None, ("kept/new",), None))
    assert [sent["cursor"] for sent in sink.written[:3]] == ["epoch-1"] * 3
    assert told(sink) == [(True, []), (True, []), (False, []), 3, 5, 6, 7, 8]


def test_only_the_last_answer_of_several_says_where_to_come_back_to() -> None:
    world = make_world(rules=HISTORY)
    session, sink, _ = world.join()
    cursors: list[str | None] = []

    def note(kind: str, text: bytes, cursor: str | None) -> bytes:
        cursors.append(cursor)
        return text

    sink.frame = note
    world.namespace.subscribe(session, Subscribe(None, ("a", "b", "c"), None))
    assert cursors == [None, None, "epoch-0"]


def test_a_client_that_takes_no_more_in_the_midst_of_the_answers_gets_the_others_later() -> None:
    world = make_world(rules=HISTORY)
    for number in range(6):
        publish(world, f"kept/{number}", number)
    session, sink, _ = world.join()
    sink.session, sink.full_after = session, 2
    world.namespace.subscribe(session, Subscribe("all", tuple(f"kept/{n}" for n in range(6)), None))
    publish(world, "kept/0", "meanwhile")
    assert [sent["room"] for sent in sink.take()] == ["kept/0", "kept/1"]
    sink.full_after = 10**9
    unpause(sink, session)
    written = sink.take()
    assert [sent["room"] for sent in written if sent["type"] == "subscribed"] == [f"kept/{n}" for n in range(2, 6)]
    assert [sent.get("id") for sent in written if sent["type"] == "subscribed"][-1] == "all"
    assert [sent["data"] for sent in written if sent["type"] == "message"] == ["meanwhile"]


def test_overlapping_subscriptions_that_come_back_one_after_the_other_bring_a_message_once() -> None:
    world = make_world(rules=HISTORY)
    publish(world, "kept/x", 1, 2, 3)
    session, sink, _ = world.join()
    world.subscribe(session, "kept/#", since="epoch-1")
    world.subscribe(session, "kept/x", since="epoch-0")
    publish(world, "kept/x", 4)
    assert told(sink) == [(True, []), 2, 3, (True, []), 1, 4]


def test_a_client_that_doesnt_read_costs_no_queue_and_is_told_later() -> None:
    world = make_world(rules=HISTORY)
    session, sink, _ = world.join()
    world.subscribe(session, "kept/x")
    sink.take()
    pause(sink, session)
    publish(world, "kept/x", *range(100))
    assert sink.written == []
    unpause(sink, session)
    publish(world, "kept/x", 100)
    assert told(sink) == list(range(101))


def test_a_client_that_didnt_read_is_told_where_the_log_lacks_something() -> None:
    world = make_world(rules=HISTORY)
    session, sink, _ = world.join()
    for room in ("short/x", "none/x", "kept/x"):
        world.subscribe(session, room)
    sink.take()
    pause(sink, session)
    for number in range(5):
        publish(world, "short/x", number)
    publish(world, "none/x", "gone")
    publish(world, "kept/x", "kept")
    unpause(sink, session)
    publish(world, "none/x", "live")
    assert told(sink) == [(False, [4]), (False, []), "kept", "live"]


def test_a_client_that_missed_nothing_is_told_nothing() -> None:
    world = make_world(rules=HISTORY)
    session, sink, _ = world.join()
    world.subscribe(session, "none/x")
    sink.take()
    pause(sink, session)
    publish(world, "kept/other", 1)
    unpause(sink, session)
    assert sink.take() == []


def test_a_client_that_takes_nothing_for_too_long_is_disconnected_with_a_reason() -> None:
    world = make_world(Limits(lag_seconds=30), rules=HISTORY)
    session, sink, _ = world.join()
    world.subscribe(session, "kept/x")
    for _ in range(3):  # slow, but it reads
        pause(sink, session)
        world.clock.advance(29)
        unpause(sink, session)
    assert not session.ended
    pause(sink, session)
    world.clock.advance(30)
    assert sink.closed == (4408, "slow_consumer")
    bye = sink.take()[-1]
    assert (bye["code"], bye["retry"]) == ("slow_consumer", True)
    assert (world.clock.waiting, len(world.namespace.recovery)) == (0, 0)


def test_a_long_replay_lets_others_have_their_turn() -> None:
    world = make_world(rules=HISTORY)
    count = recoveries.CHUNK_MESSAGES * 3
    publish(world, "kept/x", *range(count))
    session, sink, _ = world.join()
    world.subscribe(session, "kept/x", since="epoch-0")
    assert told(sink) == [(True, []), *range(recoveries.CHUNK_MESSAGES)]
    publish(world, "kept/x", "live")
    assert sink.take() == []
    world.clock.advance(0)
    world.clock.advance(0)
    world.clock.advance(0)
    assert told(sink) == [*range(recoveries.CHUNK_MESSAGES, count), "live"]


def test_a_client_that_stops_reading_in_the_midst_of_a_replay_goes_on_from_there() -> None:
    world = make_world(rules=HISTORY)
    publish(world, "kept/x", *range(10))
    session, sink, _ = world.join()
    sink.full_after = 4
    sink.session = session
    world.subscribe(session, "kept/x", since="epoch-0")
    assert told(sink) == [(True, []), 0, 1, 2]
    sink.full_after = 100
    unpause(sink, session)
    assert told(sink) == list(range(3, 10))


def test_what_is_never_kept_is_dropped_for_a_busy_client_and_counted() -> None:
    world = make_world(rules=HISTORY)
    (slow, slow_sink, _), (quick, quick_sink, _) = world.join(), world.join()
    for session in (slow, quick):
        world.subscribe(session, "kept/x")
    slow_sink.take(), quick_sink.take()
    pause(slow_sink, slow)
    publish(world, "kept/x", "typing", volatile=True)
    publish(world, "elsewhere", "typing", volatile=True)
    unpause(slow_sink, slow)
    assert (told(slow_sink), told(quick_sink)) == ([], ["typing"])
    assert world.counters.drops["fleeting_to_slow_client"] == 1


def test_the_audience_is_everyone_all_but_the_sender_one_session_or_one_user() -> None:
    world = make_world(rules=HISTORY)
    users = [Access().of(Identity(user)) for user in ("ann", "ann", "bob")]
    ann, ann_tab, bob = (world.namespace.open("websocket", ListSink(), user) for user in users)
    everyone = (ann, ann_tab, bob)
    for session in everyone:
        world.subscribe(session, "kept/+")
        world.subscribe(session, "kept/x")
    said: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [1, 1, 1]),
        ({"echo": False}, [0, 1, 1]),
        ({"to": {"session": bob.id}}, [0, 0, 1]),
        ({"to": {"user": "ann"}}, [1, 1, 0]),
        ({"to": {"user": "ann"}, "echo": False}, [0, 1, 0]),
        ({"to": {"user": "nobody"}}, [0, 0, 0]),
    ]
    from gateway.core import wire_requests

    for fields, expected in said:
        request = wire_requests.read({"type": "publish", "room": "kept/x", "data": 1, **fields})
        assert isinstance(request, wire_requests.Publish)
        for session in everyone:
            session.sink.take()  # type: ignore[attr-defined]
        publish(world, "kept/x", 1, audience=request.audience, sender=ann.id)
        heard = [len([s for s in session.sink.take() if s["type"] == "message"]) for session in everyone]  # type: ignore[attr-defined]
        assert heard == expected, fields


def test_what_was_sent_to_one_is_not_told_to_others_later() -> None:
    from gateway.core.message import Audience

    world = make_world(rules=HISTORY)
    publish(world, "kept/x", "secret", audience=Audience(session="s"))
    publish(world, "kept/x", "open")
    session, sink, _ = world.join()
    world.subscribe(session, "kept/x", since="epoch-0")
    assert told(sink) == [(True, []), "open"]


def test_the_engine_is_told_which_rooms_somebody_wants() -> None:
    world = make_world(rules=HISTORY)

    def watched() -> int:
        return world.namespace.engine.holdings.watched

    (first, _, _), (second, _, _) = world.join(), world.join()
    for session in (first, second, first):
        world.subscribe(session, "kept/x")
    world.subscribe(first, "kept/#")
    assert watched() == 2
    world.namespace.unsubscribe(first, "kept/x")
    assert watched() == 2
    second.end()
    assert watched() == 1
    first.end()
    assert watched() == 0


def test_a_session_that_left_in_a_pause_leaves_nothing_behind() -> None:
    world = make_world(rules=HISTORY)
    session, sink, _ = world.join()
    world.subscribe(session, "kept/x")
    pause(sink, session)
    session.end()
    assert (world.clock.waiting, len(world.namespace.recovery), len(world.namespace._hub)) == (0, 0, 0)
    session.resume()
    assert len(world.namespace._hub) == 0


def miss(world: World, *rooms: str, data: int) -> int:
    """Messages that are stored, but not delivered on this node; the place before them."""
    engine, before = world.namespace.engine, world.namespace.engine.head
    engine.attach(lambda _: None)
    for room in rooms:
        publish(world, room, data)
    engine.attach(world.namespace._deliver)
    return before


def test_who_may_have_missed_something_is_told_it_from_the_log_or_that_it_is_gone() -> None:
    world = make_world(rules=HISTORY)
    session, sink, _ = world.join()
    untouched, silent, _ = world.join()
    world.subscribe(session, "kept/x")
    world.subscribe(session, "none/x")
    world.subscribe(untouched, "kept/y")
    publish(world, "kept/x", 1)
    sink.take()
    silent.take()
    before = miss(world, "kept/x", "none/x", data=2)

    world.namespace._interrupted({"kept/x", "none/x"}, before)
    publish(world, "kept/x", 3)
    assert told(sink) == [(False, []), 2, 3]
    assert silent.take() == []


def test_a_client_that_comes_back_by_itself_is_not_brought_back_twice() -> None:
    world = make_world(rules=HISTORY)
    session, sink, _ = world.join()
    world.subscribe(session, "kept/x")
    pause(sink, session)
    sink.take()
    before = miss(world, "kept/x", data=1)
    world.namespace._interrupted({"kept/x"}, before)
    assert sink.take() == []
    unpause(sink, session)
    assert told(sink) == [1]


@pytest.mark.parametrize("paused", [False, True])
def test_in_another_log_everybody_is_told_what_there_is_and_that_something_may_be_lacking(paused: bool) -> None:
    world = make_world(rules=HISTORY)
    session, sink, _ = world.join()
    world.subscribe(session, "kept/x")
    world.subscribe(session, "kept/y")
    publish(world, "kept/x", 1)
    if paused:
        pause(sink, session)
    sink.take()
    miss(world, "kept/x", data=2)
    world.namespace.engine.epoch = "other"  # type: ignore[misc]

    world.namespace._interrupted(None, None)
    unpause(sink, session)
    cursors = {sent["room"]: sent["cursor"] for sent in sink.written if sent["type"] == "subscribed"}
    assert cursors == {"kept/x": "other-2", "kept/y": "other-2"}
    assert told(sink) == [(False, [2]), (False, [])]


@pytest.mark.parametrize("paused", [False, True])
def test_where_another_log_begins_everybody_is_told_so_and_then_all_that_it_has(paused: bool) -> None:
    world = make_world(rules=HISTORY)
    session, sink, _ = world.join()
    world.subscribe(session, "kept/x")
    world.subscribe(session, "kept/y")
    publish(world, "kept/x", 1)
    if paused:
        pause(sink, session)
    sink.take()
    place = miss(world, "kept/x", data=2)
    miss(world, "kept/x", data=3)
    world.namespace.engine.epoch = "other"  # type: ignore[misc]

    world.namespace._interrupted(None, place)
    unpause(sink, session)
    publish(world, "kept/y", 4)
    cursors = {sent["room"]: sent["cursor"] for sent in sink.written if sent["type"] == "subscribed"}
    assert cursors == {"kept/x": "other-1", "kept/y": "other-1"}
    assert told(sink) == [(False, []), (False, []), 2, 3, 4]


def test_who_had_not_been_told_all_last_values_is_told_those_of_another_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "PART_BYTES", 1)
    world = make_world(rules=HISTORY)
    for number in range(4):
        publish(world, f"kept/{number}", number)
    session, sink, _ = world.join()
    sink.session, sink.full_after = session, len(sink.written) + 2
    world.subscribe(session, "kept/+")
    assert told(sink) == [(False, [0]), (False, [1])]
    world.namespace._interrupted(None, 4)
    sink.full_after = 10**9
    unpause(sink, session)
    assert told(sink) == [(False, [0]), (False, [1]), (False, [2]), (False, [3])]


def pause(sink: ListSink, session: Session) -> None:
    sink.paused = True
    session.pause()


def unpause(sink: ListSink, session: Session) -> None:
    sink.paused = False
    session.resume()


def line(kind: str, text: bytes, cursor: str | None) -> bytes:
    return text + b"\n"


class DatedSink(ListSink):
    """Takes objects joined as they come in bursts; writes down with each the place that the sequence had reached."""

    def __init__(self, world: World) -> None:
        super().__init__(frame=line, joins=True)
        self.world = world

    def write(self, data: bytes) -> None:
        for text in data.splitlines():
            super().write(text)
            self.written[-1]["at"] = self.world.namespace.engine.head


@dataclass
class Client:
    """A client that keeps one cursor and comes back with it, in one request, to all rooms of which it heard.

    Then it subscribes anew to those of which it didn't hear `subscribed`.
    """

    world: World
    rooms: tuple[str, ...]
    since: str | None = None
    known: set[str] = field(default_factory=set)
    """Rooms of which it heard `subscribed`: only they lack nothing up to `since`."""
    heard: list[int] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    """The newest of each room that it heard, as message or last value."""
    excused: set[int] = field(default_factory=set)
    """Messages for which the gateway said that something is lacking."""
    published: list[tuple[int, str]] = field(default_factory=list)
    session: Session | None = None
    in_burst: bool = False
    sink: ListSink = field(default_factory=ListSink)

    def connect(self) -> None:
        if self.session is not None:
            return
        self.sink = DatedSink(self.world)
        self.session = self.sink.session = self.world.namespace.open("websocket", self.sink)
        known = tuple(room for room in self.rooms if room in self.known)
        new = tuple(room for room in self.rooms if room not in self.known)
        if known and self.since is not None:
            self.world.namespace.subscribe(self.session, Subscribe(None, known, Cursor.parse(self.since)))
        if new:
            self.world.namespace.subscribe(self.session, Subscribe(None, new, None))

    def disconnect(self, delivered: int) -> None:
        """The connection breaks: only the first part of what was written arrives."""
        if self.session is not None:
            self.session.end()
            self.take(self.sink.written[:delivered])
            self.session = None

    def burst(self) -> None:
        """A burst of messages begins, or is over; what happens meanwhile happens in the midst of it."""
        self.in_burst = not self.in_burst
        outbox = self.world.namespace.outbox
        outbox.begin() if self.in_burst else outbox.end()

    def stall(self, count: int) -> None:
        self.sink.full_after = len(self.sink.written) + count

    def read_on(self) -> None:
        self.sink.full_after = 10**9
        if self.session is not None:
            unpause(self.sink, self.session)

    def publish(self, room: str, count: int) -> None:
        for _ in range(count):
            number = len(self.published) + 1
            self.published.append((number, room))
            publish(self.world, room, number)

    def take(self, written: list[dict[str, Any]]) -> None:
        for sent in written:
            for message in [sent] if sent["type"] == "message" else sent["last"]:
                self.values[message["room"]] = max(message["data"], self.values.get(message["room"], 0))
            if sent.get("more"):
                continue  # it can't come back with this, and knows nothing of the room yet
            self.since = sent["cursor"]
            if sent["type"] == "message":
                assert sent["data"] not in self.heard, "told twice"
                self.heard.append(sent["data"])
                continue
            self.known.add(sent["room"])
            if not sent["recovered"]:
                lacking = self.published[: sent["at"]]  # what came until then; the gateway has said that it lacks some
                self.excused.update(number for number, room in lacking if filter_matches(sent["room"], room))


PUBLISH = st.tuples(st.just("publish"), st.sampled_from(["kept/a", "kept/b", "short/a", "none/a"]), st.integers(1, 6))
EVENT = st.one_of(
    PUBLISH,
    PUBLISH,
    st.tuples(st.just("pause"), st.just(""), st.integers(0, 6)),
    st.tuples(st.just("unpause"), st.just(""), st.just(0)),
    st.tuples(st.just("disconnect"), st.just(""), st.integers(0, 30)),
    st.tuples(st.just("connect"), st.just(""), st.just(0)),
    st.tuples(st.just("turn"), st.just(""), st.just(0)),
    st.tuples(st.just("burst"), st.just(""), st.just(0)),
)
SUBSCRIPTIONS = st.lists(
    st.sampled_from(["kept/a", "kept/+", "short/a", "none/a", "#", "+/a"]), min_size=1, max_size=3, unique=True
)


@settings(max_examples=300)
@given(st.lists(EVENT, max_size=40), SUBSCRIPTIONS, st.sampled_from([1, 10**6]))
@example(
    [("disconnect", "", 0), ("publish", "kept/b", 1), ("connect", "", 0), ("disconnect", "", 1)],
    ["kept/a", "kept/+"],
    10**6,
)
def test_there_is_no_gap_and_nothing_twice_whatever_happens(
    events: list[tuple[str, str, int]], subscriptions: list[str], part_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "PART_BYTES", part_bytes)
        client = play(events, subscriptions)
    due = {n for n, room in client.published if any(filter_matches(wanted, room) for wanted in subscriptions)}
    assert due - client.excused <= set(client.heard) <= due
    assert client.heard == sorted(client.heard)
    newest = {room: number for number, room in client.published if number in due and not room.startswith("none/")}
    assert {room: client.values.get(room) for room in newest} == newest


def play(events: list[tuple[str, str, int]], subscriptions: list[str]) -> Client:
    """Let it all happen, and come to rest; what became of the client."""
    world = make_world(rules=HISTORY)
    client = Client(world, tuple(subscriptions))
    client.connect()
    do: dict[str, Callable[[str, int], None]] = {
        "publish": client.publish,
        "turn": lambda *_: world.clock.advance(0),
        "connect": lambda *_: client.connect(),
        "pause": lambda _, count: client.stall(count),
        "unpause": lambda *_: client.read_on(),
        "disconnect": lambda _, count: client.disconnect(count),
        "burst": lambda *_: client.burst(),
    }
    for what, room, count in [*events, ("connect", "", 0), ("unpause", "", 0), ("turn", "", 0)]:
        do[what](room, count)
    if client.in_burst:
        client.burst()
    client.take(client.sink.take())
    return client
