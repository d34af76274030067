"""Packets, framing, events, and who is waited for, of Socket.IO; over no connection."""

import asyncio
from random import Random
from typing import Any
from unittest.mock import MagicMock

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio import packet as library

from bridges.socketio_answers import Answers
from bridges.socketio_client import Client, ClientSink, Served
from bridges.socketio_events import read_event
from bridges.socketio_framing import Frames, NamespaceFraming
from bridges.socketio_memory import AWAY_SECONDS, MAXIMUM_AWAY, MAXIMUM_BYTES, Away, Memory, Place, places_of
from bridges.socketio_outlet import Outlet
from bridges.socketio_packets import SEPARATOR, Malformed, StrictPacket, as_payload, read_engine_packet
from bridges.socketio_server import missed
from gateway.core import wire, wire_requests
from gateway.core.engine import Reading
from gateway.core.errors import BadMessage, RequestTimeout, ShuttingDown, TidegateError
from gateway.core.identity import ANONYMOUS
from gateway.core.limit_errors import TooManyRequests
from gateway.core.limits import Limits
from gateway.core.message import Cursor, Message
from gateway.core.publishing import Sending
from gateway.core.retention import Retention
from gateway.core.room_rules import RoomRule
from gateway.core.sample import Keep, Sample
from gateway.core.wire_requests import Subscribe
from tests.unit.conftest import HandClock, World, make_world

ROOT, OTHER = (NamespaceFraming(path, lambda number, asker: (number, asker) == (7, "ann")) for path in ("/", "/b"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def framed(data: Any, framing: NamespaceFraming = ROOT, **fields: Any) -> list[bytes]:
    message = Message("a", orjson.dumps(data), "e", 5, 1.0, **fields)
    payload = framing.frame("message", wire.encode_message(message), message.cursor)
    assert payload.endswith(SEPARATOR)
    return payload[:-1].split(SEPARATOR)


def test_a_message_has_its_cursor_as_the_last_argument() -> None:
    (packet,) = framed({"n": 1}, OTHER)
    assert packet.startswith(b'42/b,["message",{"type":"message","room":"a","data":{"n":1}')
    assert packet.endswith(b',"e-5"]')


@pytest.mark.parametrize("depth", [250, 1000])
def test_an_answer_that_is_too_deep_to_be_told_is_an_error_of_one_kind(depth: int) -> None:
    deep = orjson.loads(b"[" * depth + b"]" * depth)
    with pytest.raises(RecursionError):
        as_payload(StrictPacket(library.ACK, data=[{"type": "reply", "data": [[[[deep]]]]}], id=1))


def test_binary_data_is_an_attachment() -> None:
    packet, attachment = framed("AQI=", binary=True)
    assert packet.startswith(b'451-["message",')
    assert orjson.loads(packet[4:])[1]["data"] == {"_placeholder": True, "num": 0}
    assert attachment == b"bAQI="


def test_an_event_of_a_client_is_that_event() -> None:
    assert framed({"event": "hi", "args": [1, "x"]}, sender="ann") == [b'42["hi",1,"x","e-5"]']
    place = {"_placeholder": True, "num": 0}
    assert framed({"event": "hi", "args": [place], "attachments": ["AQI="]}, OTHER, sender="ann") == [
        b'451-/b,["hi",{"_placeholder":true,"num":0},"e-5"]',
        b"bAQI=",
    ]


@pytest.mark.parametrize(
    "data",
    [
        {"event": "message", "args": []},
        {"event": "disconnect", "args": []},
        {"event": "bye", "args": []},
        {"event": 1, "args": []},
        {"event": "hi", "args": {}},
        {"event": "hi", "args": [], "more": 1},
        {"event": "hi", "args": [], "attachments": ["!"]},
        {"event": "hi", "args": [], "attachments": ["AQI="] * 11},
        {"event": "hi", "args": [{"_placeholder": True, "num": 1}], "attachments": ["AQI="]},
        {"event": "hi", "args": [], "answer": "7"},
        {"event": "hi"},
    ],
)
def test_what_only_looks_like_an_event_is_a_message(data: Any) -> None:
    (packet,) = framed(data, sender="ann")
    assert packet.startswith(b'42["message",')


def test_what_a_device_says_is_never_an_event() -> None:
    (packet,) = framed({"event": "hi", "args": []}, topic="t")
    assert packet.startswith(b'42["message",')


def test_an_event_is_to_be_acknowledged_only_if_its_sender_waits_for_that() -> None:
    for number, sender, head in ((7, "ann", b"427["), (7, "eve", b"42["), (8, "ann", b"42[")):
        (packet,) = framed({"event": "hi", "args": [], "answer": number}, sender=sender)
        assert packet.startswith(head + b'"hi"')


def test_answers_are_acknowledgements_and_errors_say_so() -> None:
    assert ROOT.frame("ack", wire.encode("ack", 3)) == b'433[{"type":"ack"}]' + SEPARATOR
    error = wire.encode_error(4, TooManyRequests("x", retry_after_seconds=1.5))
    assert OTHER.frame("error", error) == (
        b'43/b,4[{"error":{"code":"too_many_requests","message":"x","retry_after_seconds":1.5}}]' + SEPARATOR
    )
    assert ROOT.frame("error", wire.encode_error(None, BadMessage("x"))).startswith(b'42["error",{')
    reply = wire.encode("reply", 5, binary=True, data="AQI=")
    assert ROOT.frame("reply", reply).split(SEPARATOR)[1] == b"bAQI="


def test_frames_are_made_once_of_what_is_the_same() -> None:
    frames, payload = Frames(ROOT.frame), b"42[1]" + SEPARATOR + b"bAQI=" + SEPARATOR
    assert frames.of(payload) == b"\x81\x0542[1]\x82\x02\x01\x02"
    assert frames.of(payload) is frames.of(payload)


@given(JSON, st.sampled_from(["/", "/b"]), st.none() | st.integers(0, 2**53))
def test_what_the_library_writes_is_read(value: Any, namespace: str, number: int | None) -> None:
    written = library.Packet(library.EVENT, data=["x", value], namespace=namespace, id=number).encode()
    packet = StrictPacket(encoded_packet=written)
    assert (packet.data, packet.namespace or "/", packet.id) == (["x", value], namespace, number)


@given(st.text())
def test_whatever_comes_is_read_or_refused(text: str) -> None:
    for prefix in ("", "4", "42", "451-"):
        try:
            _, data = read_engine_packet(prefix + text)
            if data:
                StrictPacket(encoded_packet=data)
        except Malformed:
            pass


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("subscribe", ["a", {"since": "e-1"}], {"type": "subscribe", "id": 1, "room": "a", "since": "e-1"}),
        ("subscribe", [["a", "b"]], {"type": "subscribe", "id": 1, "room": ["a", "b"]}),
        ("publish", ["a", b"\x01\x02"], {"type": "publish", "id": 1, "room": "a", "data": "AQI=", "binary": True}),
        (
            "publish",
            ["a", None, {"echo": False}],
            {"type": "publish", "id": 1, "room": "a", "data": None, "echo": False},
        ),
        (
            "emit",
            ["a", "hi", [1, b"\x01\x02"], {"volatile": True}],
            {
                "type": "publish",
                "id": 1,
                "room": "a",
                "volatile": True,
                "data": {"event": "hi", "args": [1, {"_placeholder": True, "num": 0}], "attachments": ["AQI="]},
            },
        ),
        ("auth", ["t"], {"type": "auth", "id": 1, "token": "t"}),
    ],
)
def test_events_are_objects_of_the_protocol(name: str, args: list[Any], expected: dict[str, Any]) -> None:
    assert read_event(1, name, args) == expected
    wire_requests.read(expected)


def test_options_cannot_change_what_is_asked() -> None:
    for name, args in (
        ("publish", ["a", 1, {"type": "auth"}]),
        ("subscribe", ["a", {"id": 5}]),
        ("emit", ["a", "x", [], {"data": 1}]),
    ):
        with pytest.raises(BadMessage, match="options: expected"):
            read_event(1, name, args)


def test_only_who_was_asked_answers() -> None:
    clock, found = HandClock(), list[Any]()
    world = make_world()
    answers, (asker, _, _) = Answers(clock), world.join()
    number = answers.expect(asker, "bob", 5, found.append)
    answers.take(number, "eve", ["no"])
    answers.take(number + 1, "bob", ["no"])
    answers.take(number, "bob", ["yes"])
    answers.take(number, "bob", ["again"])
    assert found == [["yes"]]
    assert (len(answers), clock.waiting) == (0, 0)


def test_who_is_asked_in_vain_is_waited_for_so_long() -> None:
    clock, found = HandClock(), list[list[Any] | TidegateError]()
    asker, _, _ = make_world().join()
    answers = Answers(clock)
    answers.expect(asker, "bob", None, found.append)
    clock.advance(9.9)
    assert found == []
    clock.advance(0.2)
    answers.expect(asker, "bob", 5, found.append)
    answers.left("bob")
    answers.expect(asker, "bob", 5, found.append)
    answers.left(asker.id)
    assert [type(error) for error in found] == [RequestTimeout, RequestTimeout]
    assert (len(answers), clock.waiting) == (0, 0)


def test_one_client_waits_for_so_many_answers() -> None:
    asker, _, _ = make_world(Limits(requests_in_flight=2)).join()
    answers = Answers(HandClock())
    for _ in range(2):
        answers.expect(asker, "bob", 5, lambda _: None)
    with pytest.raises(TooManyRequests):
        answers.expect(asker, "bob", 5, lambda _: None)
    for seconds in (0, -1, 61, "5", True, float("nan")):
        with pytest.raises(BadMessage, match="timeout_seconds"):
            answers.expect(asker, "bob", seconds, lambda _: None)


def remember(memory: Memory, secret: str, places: dict[str, Place]) -> None:
    memory.keep(secret, "/", "ann", "e", places)


def test_who_comes_back_is_told_each_room_from_where_it_lacks_something() -> None:
    memory, sample = Memory(HandClock(), Random(1)), Sample(1.0, Keep.LAST)
    remember(
        memory,
        "s",
        {
            "live": Place(3, None, None),
            "new": Place(9, None, None),
            "behind": Place(2, 4, None),
            "sampled": Place(3, None, sample),
        },
    )
    away = memory.take("s", "/", "ann")
    assert away is not None
    since = {room: request.since for request in away.requests(7) for room in request.rooms}
    assert since == {"live": Cursor("e", 7), "new": Cursor("e", 9), "behind": Cursor("e", 4), "sampled": Cursor("e", 7)}
    assert {request.since for request in away.requests(None)} == {Cursor("e", n) for n in (2, 3, 9)}


def test_what_is_remembered_is_for_the_same_user_and_namespace_once_and_for_a_while() -> None:
    clock = HandClock()
    memory = Memory(clock, Random(1))
    remember(memory, "s", {})
    assert memory.take("s", "/b", "ann") is None
    assert memory.take("s", "/", "bob") is None
    assert memory.take("s", "/", None) is None
    assert memory.take("s", "/", "ann") is not None
    assert memory.take("s", "/", "ann") is None
    remember(memory, "s", {})
    clock.advance(AWAY_SECONDS)
    assert memory.take("s", "/", "ann") is None


def test_of_too_many_who_are_away_the_first_is_forgotten() -> None:
    memory = Memory(HandClock(), Random(1))
    for number in range(MAXIMUM_AWAY + 1):
        remember(memory, str(number), {})
    assert len(memory) == MAXIMUM_AWAY
    assert memory.take("0", "/", "ann") is None


def test_who_is_away_holds_a_bounded_amount_of_memory() -> None:
    memory, place = Memory(HandClock(), Random(1)), Place(1, None, None)
    remember(memory, "hoarder", {f"{number}{'x' * 999}": place for number in range(100)})
    assert len(memory) == 0

    large = {f"{number}{'x' * 999}": place for number in range(50)}
    most = MAXIMUM_BYTES // 50_000
    for number in range(most + 10):
        remember(memory, str(number), large)
    remember(memory, "last", {"a": place})
    assert most * 0.8 < len(memory) <= most
    assert memory.take("0", "/", "ann") is None
    assert memory.take("last", "/", "ann") is not None

    while memory.take(str(number), "/", "ann"):
        number -= 1
    assert len(memory) == 0
    remember(memory, "again", large)  # what was taken counts no more
    assert memory.take("again", "/", "ann") is not None


def test_places_are_those_of_a_session(world: World) -> None:
    session, _, _ = world.join()
    world.device("sensors/a/b/c", b"1")
    world.subscribe(session, "sites/#")
    assert places_of(session) == {"sites/#": Place(1, None, None)}
    session.pause()
    world.device("sensors/a/b/c", b"2")
    assert places_of(session)["sites/#"].told == 1


class Pace:
    """A `Flow` that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def overflow(self) -> None:
        self.told.append("overflow")

    def gone(self) -> None:
        self.told.append("gone")

    def aside(self, size_bytes: int) -> None:
        self.told.append("aside")


async def test_what_waits_for_a_client_that_polls_is_bounded() -> None:
    pace = Pace()
    outlet = Outlet(100, pace, Frames(ROOT.frame))
    outlet.write(b"x" * 1000)  # one large write is no sign of a slow client
    outlet.write(b"x" * 50)
    assert (pace.told, outlet.paused) == ([], False)
    outlet.write(b"x")
    assert (pace.told, outlet.paused) == (["pause"], True)
    assert len(outlet.take()) == 1051
    outlet.relieve()
    assert (pace.told, outlet.paused) == (["pause", "resume"], False)
    for _ in range(103):
        outlet.write(b"x")
    assert pace.told == ["pause", "resume", "pause", "overflow"]


async def test_after_the_end_what_waits_can_be_taken_and_nothing_more_is() -> None:
    outlet = Outlet(100, Pace(), Frames(ROOT.frame))
    outlet.write(b"last")
    outlet.close(1000, "x")
    outlet.write(b"more")
    await outlet.wait()
    assert outlet.take() == b"last"


async def test_an_engine_may_answer_after_a_client_that_came_back_has_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[Any] = []
    monkeypatch.setattr(world.namespace.engine, "read", lambda _, __, done: late.append(done))
    away = Away("/", None, "epoch", {"a": Place(0, None, None)}, 1.0, 1)
    asked = asyncio.ensure_future(missed(world.namespace, world.namespace.access.of(ANONYMOUS), away, None))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    late[0](Reading((), {}, 0, more=False))
    assert asked.cancelled()


async def test_what_a_client_heard_in_an_epoch_that_is_continued_is_not_told_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.namespace.engine
    monkeypatch.setattr(engine, "read", lambda _, __, done: done(Reading((), {}, 9, more=False)))
    monkeypatch.setattr(engine, "position", lambda cursor: cursor.sequence if cursor.epoch in ("old", "new") else None)
    away = Away("/", None, "new", {"a": Place(3, None, None)}, 1.0, 1)
    grants = world.namespace.access.of(ANONYMOUS)
    for offset, since in ((Cursor("old", 7), 7), (Cursor("new", 8), 8), (Cursor("else", 9), 3), (None, 3)):
        (request,) = await missed(world.namespace, grants, away, offset) or []
        assert request.since == Cursor("new", since)


async def test_a_client_that_is_sent_away_is_remembered_where_it_was_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(rules=[RoomRule("kept/#", Retention(messages=10))])
    asked: list[tuple[Any, ...]] = []
    read = world.namespace.engine.read
    monkeypatch.setattr(world.namespace.engine, "read", lambda *question: asked.append(question))
    memory, connection, sink = (
        Memory(world.clock, Random(1)),
        MagicMock(),
        ClientSink(MagicMock(paused=False), ROOT.frame),
    )
    session = world.namespace.open("socketio", sink, world.namespace.access.of(ANONYMOUS))
    served = Served("/", world.namespace, MagicMock(), Answers(world.clock), ROOT)
    client = Client(connection, served, session, memory, "secret", None)
    client.resubscribe([Subscribe(None, ("kept/a",), Cursor("epoch", 0))])
    world.namespace.publish(Sending("kept/a", 1), lambda _: None)
    read(*asked.pop())
    session.end(ShuttingDown("it goes"))
    client.leave(comes_back=True)
    away = memory.take("secret", "/", session.user)
    assert away is not None
    assert away.places == {"kept/a": Place(0, None, None)}
