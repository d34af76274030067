"""Sessions on an engine that answers later: what comes meanwhile is told once, and what changes meanwhile counts."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gateway.core.engine import Reading, Wanted
from gateway.core.engine_memory import MemoryEngine
from gateway.core.session import Session
from tests.unit.conftest import ListSink, World, make_world
from tests.unit.test_recovery import HISTORY, pause, publish, told, unpause


class LateReads:
    """Lets an engine in memory answer what was asked when it is told to, with what there is by then."""

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine
        self._read = engine.read
        self._asked: list[tuple[Mapping[str, Wanted], int, Callable[[Reading], None]]] = []
        engine.read = lambda *asked: self._asked.append(asked)  # type: ignore[method-assign]

    def answer(self) -> None:
        asked, self._asked = self._asked, []
        for each in asked:
            self._read(*each)


@pytest.fixture
def world() -> World:
    return make_world(rules=HISTORY)


@pytest.fixture
def reads(world: World) -> LateReads:
    engine: Any = world.namespace.engine
    return LateReads(engine)


@pytest.fixture
def joined(world: World, reads: LateReads) -> tuple[Session, ListSink]:
    """A session that is subscribed to `kept/a`."""
    session, sink, _ = world.join()
    world.subscribe(session, "kept/a")
    reads.answer()
    sink.take()
    return session, sink


Joined = tuple[Session, ListSink]


def settle(world: World, reads: LateReads) -> None:
    for _ in range(5):
        reads.answer()
        world.clock.advance(0.001)


@pytest.mark.parametrize("room", ["kept/b", "kept/#"])
def test_what_one_subscription_brings_meanwhile_is_told_once(
    world: World, reads: LateReads, joined: Joined, room: str
) -> None:
    session, sink = joined
    publish(world, "kept/b", 0)
    world.subscribe(session, room, since="epoch-0")
    publish(world, "kept/a", 1)
    publish(world, "kept/b", 2)
    publish(world, "kept/a", 3)
    settle(world, reads)
    publish(world, "kept/a", 4)
    publish(world, "kept/b", 5)
    assert told(sink) == [1, 3, (True, []), 0, 2, 4, 5]


def test_what_ends_meanwhile_is_told_by_the_other_from_there_on(world: World, reads: LateReads, joined: Joined) -> None:
    session, sink = joined
    world.subscribe(session, "kept/#", since="epoch-0")
    publish(world, "kept/a", 1)
    world.namespace.unsubscribe(session, "kept/a")
    publish(world, "kept/a", 2)
    publish(world, "kept/b", 3)
    settle(world, reads)
    publish(world, "kept/a", 4)
    assert told(sink) == [1, (True, []), 2, 3, 4]


def test_who_is_asked_for_anew_meanwhile_is_told_all_once(world: World, reads: LateReads, joined: Joined) -> None:
    session, sink = joined
    publish(world, "kept/b", 1)
    publish(world, "kept/a", 2)
    world.subscribe(session, "kept/b", since="epoch-0")
    world.subscribe(session, "kept/a", since="epoch-1")
    publish(world, "kept/a", 3)
    settle(world, reads)
    publish(world, "kept/a", 4)
    assert told(sink) == [2, (True, []), 1, (True, []), 2, 3, 4]


def test_who_asks_again_from_another_place_is_told_from_there(world: World, reads: LateReads, joined: Joined) -> None:
    session, sink = joined
    publish(world, "kept/b", 1, 2)
    world.subscribe(session, "kept/b", since="epoch-0")
    world.subscribe(session, "kept/b", since="epoch-1")
    settle(world, reads)
    publish(world, "kept/b", 3)
    assert told(sink) == [(True, []), 2, 3]


def test_a_client_that_stops_to_read_meanwhile_is_told_all_once(world: World, reads: LateReads, joined: Joined) -> None:
    session, sink = joined
    publish(world, "kept/b", 1)
    world.subscribe(session, "kept/#", since="epoch-0")
    publish(world, "kept/a", 2)
    pause(sink, session)
    publish(world, "kept/a", 3)
    unpause(sink, session)
    publish(world, "kept/a", 4)
    settle(world, reads)
    publish(world, "kept/a", 5)
    assert told(sink) == [2, (True, []), 1, 3, 4, 5]


def test_who_may_have_missed_something_meanwhile_is_told_all_once(
    world: World, reads: LateReads, joined: Joined
) -> None:
    session, sink = joined
    world.subscribe(session, "kept/#", since="epoch-0")
    publish(world, "kept/a", 1)
    engine = world.namespace.engine
    engine.attach(lambda _: None)
    publish(world, "kept/a", 2)
    engine.attach(world.namespace._deliver)
    world.namespace._interrupted({"kept/a"}, 1)
    publish(world, "kept/b", 3)
    publish(world, "kept/a", 4)
    settle(world, reads)
    publish(world, "kept/a", 5)
    assert told(sink) == [1, (True, []), 2, 3, 4, 5]


@pytest.fixture
def unsettled(world: World) -> list[Callable[[], None]]:
    """Who waits until it is known which epoch holds."""
    waiting: list[Callable[[], None]] = []
    world.namespace.engine.settled = waiting.append  # type: ignore[method-assign,assignment]
    return waiting


def settle_on(world: World, epoch: str, waiting: list[Callable[[], None]]) -> None:
    world.namespace.engine.epoch = epoch  # type: ignore[misc]
    for done in waiting:
        done()


def test_a_cursor_of_an_epoch_that_others_have_begun_is_good_once_that_is_known(
    world: World, reads: LateReads, joined: Joined, unsettled: list[Callable[[], None]]
) -> None:
    session, sink = joined
    publish(world, "kept/b", 1, 2)
    world.subscribe(session, "kept/b", since="new-1")
    world.subscribe(session, "kept/c", since="new-1")
    publish(world, "kept/a", 3)
    settle(world, reads)
    assert told(sink) == [3]
    assert len(unsettled) == 1

    settle_on(world, "new", unsettled)
    settle(world, reads)
    publish(world, "kept/b", 4)
    assert told(sink) == [(True, []), (True, []), 2, 4]


def test_a_cursor_that_stays_unknown_is_answered_with_the_last_values(
    world: World, reads: LateReads, joined: Joined, unsettled: list[Callable[[], None]]
) -> None:
    session, sink = joined
    publish(world, "kept/b", 1, 2)
    world.subscribe(session, "kept/b", since="old-1")
    settle_on(world, "new", unsettled)
    settle(world, reads)
    assert told(sink) == [(False, [2])]


@pytest.mark.parametrize("how", ["leaves", "unsubscribes", "pauses"])
def test_who_is_gone_by_then_is_told_nothing(
    world: World, reads: LateReads, joined: Joined, unsettled: list[Callable[[], None]], how: str
) -> None:
    session, sink = joined
    world.subscribe(session, "kept/b", since="new-0")
    match how:
        case "leaves":
            session.end()
        case "unsubscribes":
            world.namespace.unsubscribe(session, "kept/b")
        case "pauses":
            pause(sink, session)
    settle_on(world, "new", unsettled)
    settle(world, reads)
    assert told(sink) == []
    if how == "pauses":
        world.namespace.engine.settled = lambda done: done()  # type: ignore[method-assign]
        unpause(sink, session)
        settle(world, reads)
        assert told(sink) == [(True, [])]
