"""The promises of `gateway.core.engine`, held by every engine: a new one gets a line in `ENGINES`."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from bridges.redis import RedisEngine
from bridges.redis_link import RedisLink
from bridges.redis_options import RedisOptions
from bridges.sqlite import SqliteEngine
from bridges.sqlite_journal import Journal
from gateway.core.clock import SystemClock
from gateway.core.counters import Counters
from gateway.core.engine import Engine, Publication, Reading, Span, Wanted
from gateway.core.engine_memory import MemoryEngine
from gateway.core.errors import TidegateError
from gateway.core.log import Log, LogBounds
from gateway.core.message import Audience, Cursor, Message
from gateway.core.payload import Payload
from gateway.core.retention import Retention
from tests.redis import redis_server
from tests.unit.conftest import HandClock

Settle = Callable[[], None]
"""Lets an engine finish what it has begun."""


@dataclass
class Bench:
    """An engine with all that it says."""

    engine: Engine
    counters: Counters
    settle: Settle
    delivered: list[Message] = field(default_factory=list)
    said: list[TidegateError | None] = field(default_factory=list)

    def publish(self, room: str, data: bytes = b"1", **more: object) -> None:
        publication = Publication(room, Payload(data), **{"retention": Retention(messages=10), **more})  # type: ignore[arg-type]
        self.engine.publish([publication], self.said.append)
        self.settle()

    def read(self, limit: int = 100, **wanted: int | None) -> Reading:
        found: list[Reading] = []
        asked = {room: Wanted(self.engine.head if at is None else at, at) for room, at in wanted.items()}
        self.engine.read(asked, limit, found.append)
        self.settle()
        (reading,) = found
        return reading


def memory(path: Path) -> Iterator[Bench]:
    clock, counters = HandClock(), Counters()
    yield Bench(MemoryEngine("e1", Log(LogBounds(), clock, counters), clock, counters), counters, lambda: None)


def sqlite(path: Path) -> Iterator[Bench]:
    clock, counters, loop = HandClock(), Counters(), asyncio.new_event_loop()
    memory = MemoryEngine("e1", Log(LogBounds(), clock, counters), clock, counters)
    engine = SqliteEngine(memory, Journal(path / "log.db", "e1"), counters)

    async def start() -> None:
        engine.start()

    def settle() -> None:
        while engine._waiting and not loop.is_running():
            loop.run_until_complete(asyncio.sleep(0.001))

    loop.run_until_complete(start())
    yield Bench(engine, counters, settle)
    engine.close(5)
    loop.close()


class InLoop:
    """An engine that is only asked in its event loop, as the gateway does."""

    def __init__(self, engine: RedisEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine, self._loop = engine, loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if not callable(found) or self._loop.is_running():
            return found

        async def call(*args: Any) -> Any:
            return found(*args)

        return lambda *args: self._loop.run_until_complete(call(*args))


def redis(path: Path) -> Iterator[Bench]:
    clock, counters, loop = SystemClock(), Counters(), asyncio.new_event_loop()
    with redis_server(path) as server:
        link = RedisLink(RedisOptions((("127.0.0.1", server.port),), node="n1"), "default", clock, Random())
        engine = RedisEngine(link, LogBounds(), clock, Random(), counters)
        engine.watch("#")

        async def start() -> asyncio.Task[None]:
            engine.start()
            running = asyncio.ensure_future(link.run())
            await engine.ready.wait()
            return running

        async def wait() -> None:
            for _ in range(3):  # a question may take several commands
                await asyncio.sleep(0.001)
                await link.call("PING")  # all that was sent before is answered then, all that was published has come

        def settle() -> None:
            if not loop.is_running():
                loop.run_until_complete(wait())

        async def stop() -> None:
            running.cancel()
            await asyncio.wait((running,))

        running = loop.run_until_complete(start())
        yield Bench(cast(Engine, InLoop(engine, loop)), counters, settle)
        loop.run_until_complete(stop())
        loop.close()


ENGINES = [memory, sqlite, redis]


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    for made in request.param(tmp_path):
        made.engine.attach(made.delivered.append)
        yield made


def sequences(messages: tuple[Message, ...] | list[Message]) -> list[int]:
    return [message.sequence for message in messages]


def test_each_message_gets_the_next_place_and_is_delivered_and_reported_in_order(bench: Bench) -> None:
    for room in ("a", "b", "a"):
        bench.publish(room)
    assert sequences(bench.delivered) == [1, 2, 3]
    assert bench.said == [None, None, None]
    assert bench.engine.head == 3


def test_a_message_is_in_the_log_and_the_head_moved_when_it_is_delivered(bench: Bench) -> None:
    seen: list[tuple[int, list[int]]] = []

    def look(message: Message) -> None:
        bench.engine.read(
            {"a": Wanted(0, 0)}, 9, lambda reading: seen.append((reading.head, sequences(reading.messages)))
        )

    bench.engine.attach(look)
    bench.publish("a")
    bench.publish("a")
    assert seen == [(1, [1]), (2, [1, 2])]


def test_volatile_and_addressed_messages_have_no_place_of_their_own(bench: Bench) -> None:
    bench.publish("a")
    bench.publish("a", volatile=True)
    bench.publish("a", audience=Audience(session="s"))
    bench.publish("a")
    assert [(message.sequence, message.kept) for message in bench.delivered] == [
        (1, True),
        (1, False),
        (1, False),
        (2, True),
    ]
    assert sequences(bench.read(a=0).messages) == [1, 2]


def test_reading_merges_rooms_in_order_each_message_once(bench: Bench) -> None:
    for room in ("a", "b", "a", "c", "b"):
        bench.publish(room)
    wanted = {"a": Wanted(0, 0), "+": Wanted(0, 0), "b": Wanted(0, 2)}
    found: list[Reading] = []
    bench.engine.read(wanted, 3, found.append)
    bench.settle()
    assert (sequences(found[0].messages), found[0].more, found[0].head) == ([1, 3, 4], True, 5)


def test_what_one_subscription_has_told_isnt_told_by_another(bench: Bench) -> None:
    for _ in range(4):
        bench.publish("a")
    found: list[Reading] = []
    bench.engine.read({"a": Wanted(0, 0), "#": Wanted(2, 4)}, 9, found.append)
    bench.settle()
    assert sequences(found[0].messages) == [1, 2]


def test_where_messages_are_lacking_the_last_values_come_instead(bench: Bench) -> None:
    for number in range(12):
        bench.publish("a", b"%d" % number)
    reading = bench.read(a=1)
    assert reading.messages == ()
    assert [message.data for message in reading.incomplete["a"]] == [b"11"]
    assert bench.read(a=2).incomplete == {}


def test_who_was_told_nothing_gets_the_last_values(bench: Bench) -> None:
    bench.publish("a", topic="t")
    bench.publish("a", topic="u")
    reading = bench.read(a=None)
    assert (sequences(reading.incomplete["a"]), reading.messages) == ([1, 2], ())
    found: list[tuple[int, tuple[Message, ...]]] = []
    bench.engine.last("a", lambda head, values: found.append((head, values)))
    bench.settle()
    assert found == [(2, reading.incomplete["a"])]


def test_history_is_read_page_by_page(bench: Bench) -> None:
    for _ in range(6):
        bench.publish("a")
    found: list[tuple[list[int], bool]] = []
    for span in (Span("a", 0, 99, 2, newest=True), Span("a", 1, 99, 2, newest=False), Span("a", 0, 3, 9, newest=True)):
        newest = span.newest  # who reads back from the end doesn't ask what came after the beginning
        bench.engine.history(span, lambda messages, complete: found.append((sequences(messages), complete or newest)))  # noqa: B023
        bench.settle()
    assert found == [([5, 6], True), ([2, 3], True), ([1, 2], True)]


def test_a_retained_message_that_says_nothing_new_is_dropped(bench: Bench) -> None:
    bench.publish("a", b"1", topic="t")
    bench.publish("a", b"1", topic="t", retained=True)
    bench.publish("a", b"2", topic="t", retained=True)
    assert [message.data for message in bench.delivered] == [b"1", b"2"]
    assert bench.counters.drops["retained_known"] == 1


def test_several_messages_and_their_receipt_are_stored_together(bench: Bench) -> None:
    publications = [Publication(room, Payload(b"1"), Retention(messages=10)) for room in ("a", "b")]
    bench.engine.publish(publications, bench.said.append, ("plant", 7, b"digest"))
    bench.settle()
    assert (sequences(bench.delivered), bench.said) == ([1, 2], [None])
    assert list(bench.engine.receipts.entries()) == [("plant", 7, b"digest")]
    bench.engine.acknowledged("plant", 7)
    assert list(bench.engine.receipts.entries()) == []


def test_what_stores_nothing_is_reported_after_all_before_it(bench: Bench) -> None:
    said: list[str] = []
    bench.engine.publish([Publication("a", Payload(b"1"))], lambda _: said.append("first"))
    bench.engine.publish([], lambda _: said.append("second"))
    bench.settle()
    assert said == ["first", "second"]


def test_watched_rooms_are_delivered_and_counted(bench: Bench) -> None:
    before = bench.engine.holdings.watched
    for room_filter in ("a", "b/#"):
        bench.engine.watch(room_filter)
    assert bench.engine.holdings.watched == before + 2
    for room in ("a", "b/c"):
        bench.publish(room)
    assert [message.room for message in bench.delivered] == ["a", "b/c"]
    bench.engine.unwatch("a")
    assert bench.engine.holdings.watched == before + 1


def test_a_last_value_that_is_taken_back_is_gone(bench: Bench) -> None:
    bench.publish("a", topic="t")
    bench.publish("a", b"null", topic="t", clears=True, retention=Retention(last=False))
    assert bench.read(a=None).incomplete["a"] == ()


@pytest.mark.parametrize(("cursor", "place"), [("{}-0", 0), ("{}-2", 2), ("{}-3", None), ("other-1", None)])
def test_a_cursor_is_a_place_or_nothing(bench: Bench, cursor: str, place: int | None) -> None:
    bench.publish("a")
    bench.publish("a")
    found = bench.engine.position(Cursor.parse(cursor.format(bench.engine.epoch)))
    if found is not None and "a" in bench.read(a=found).incomplete:
        found = None  # an engine of many nodes may find out only by reading that nothing is so new
    assert found == place
