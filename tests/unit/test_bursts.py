"""Bursts as sessions meet them: joined, in order, and never behind what is said to one session alone."""

from typing import Any

import orjson

from gateway.core.counters import Counters
from gateway.core.delivery import Delivery
from gateway.core.intake import Intake
from gateway.core.session import Session
from tests.unit.conftest import ListSink, World, make_world
from tests.unit.test_recovery import HISTORY, line, publish


class JoinedSink(ListSink):
    """Writes down what comes as one piece."""

    def __init__(self) -> None:
        super().__init__(frame=line, joins=True)
        self.pieces: list[list[Any]] = []

    def write(self, data: bytes) -> None:
        objects = [orjson.loads(text) for text in data.splitlines()]
        self.pieces.append([each.get("data", each["type"]) for each in objects])


def joined(world: World, *rooms: str) -> tuple[Session, JoinedSink]:
    sink = JoinedSink()
    session = world.namespace.open("websocket", sink)
    for room in rooms:
        world.subscribe(session, room)
    sink.pieces.clear()
    return session, sink


def test_what_a_session_gets_of_a_burst_is_one_piece_in_order() -> None:
    world = make_world(rules=HISTORY)
    (_, first), (_, second) = joined(world, "kept/a", "kept/b"), joined(world, "kept/b")
    world.namespace.outbox.begin()
    for number, room in enumerate(["kept/a", "kept/b", "kept/a", "kept/b"]):
        publish(world, room, number)
    assert first.pieces == second.pieces == []
    world.namespace.outbox.end()
    assert (first.pieces, second.pieces) == ([[0, 1, 2, 3]], [[1, 3]])
    publish(world, "kept/b", 4)
    assert second.pieces[1:] == [[4]]


def test_what_is_said_to_one_session_comes_behind_what_was_held() -> None:
    world = make_world(rules=HISTORY)
    session, sink = joined(world, "kept/a")
    world.namespace.outbox.begin()
    publish(world, "kept/a", 1)
    session.send("pong", b'{"type": "pong"}')
    publish(world, "kept/a", 2)
    world.namespace.outbox.end()
    assert sink.pieces == [[1], ["pong"], [2]]


def test_who_leaves_or_comes_in_the_midst_gets_what_was_delivered_until_then_or_from_then_on() -> None:
    world = make_world(rules=HISTORY)
    session, sink = joined(world, "kept/a")
    world.namespace.outbox.begin()
    publish(world, "kept/a", 1)
    world.namespace.unsubscribe(session, "kept/a")
    assert sink.pieces == [[1]]
    _, newcomer = joined(world, "kept/a")
    publish(world, "kept/a", 2)
    world.namespace.outbox.end()
    assert (sink.pieces, newcomer.pieces) == ([[1]], [[2]])


def test_a_lost_connection_is_written_to_no_more() -> None:
    world = make_world(rules=HISTORY)
    session, sink = joined(world, "kept/a")
    session.gone()
    publish(world, "kept/a", 1)
    assert (sink.pieces, session.ended) == ([], True)


def test_a_burst_of_an_upstream_is_one_in_every_namespace() -> None:
    world = make_world()
    intake = Intake([world.namespace], Counters())
    _, sink = joined(world, "sites/#")
    for _ in range(2):  # it may be entered again
        sink.pieces.clear()
        with intake.burst:
            for number in range(3):
                intake.receive(
                    Delivery("embedded", "sensors/oslo/fan-1/power", b"%d" % number, False, None), lambda: None
                )
            assert sink.pieces == []
        assert sink.pieces == [[0, 1, 2]]
