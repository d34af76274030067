"""The engine of many nodes on a real Redis: one order at all of them, nothing lost or doubled by what may happen."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.core.engine import Publication, Reading, Span, Wanted
from gateway.core.errors import TidegateError
from gateway.core.log import LogBounds
from gateway.core.message import Audience, Cursor
from gateway.core.payload import Payload
from gateway.core.retention import Retention
from tests.redis import RedisServer, redis_server
from tests.redis_node import Node, node, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def prefix(numbers: Iterator[int]) -> str:
    """Keys of a test's own."""
    return f"test{next(numbers)}"


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return count()


@pytest.fixture
async def three(server: RedisServer, prefix: str) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(node(server.port, "a/#", prefix=prefix)) for _ in range(3)]


async def test_all_nodes_deliver_the_same_in_one_order(three: list[Node]) -> None:
    for number in range(300):
        three[number % 3].publish(f"a/{number % 7}", b"%d" % number)
        if number % 50 == 0:
            await asyncio.sleep(0)
    await until(lambda: all(len(each.delivered) == 300 for each in three))

    first, *others = ([(message.sequence, message.data) for message in each.delivered] for each in three)
    assert [sequence for sequence, _ in first] == list(range(1, 301))
    assert others == [first, first]
    for each in three:  # each node's own messages are in the order in which it published them
        assert each.said == [None] * 100
    mine = [number for number in three[0].numbers if number % 3 == 0]
    assert mine == sorted(mine)


async def test_a_node_is_told_only_of_rooms_in_use(server: RedisServer, prefix: str) -> None:
    async with node(server.port, "a", prefix=prefix) as one, node(server.port, "b/+", prefix=prefix) as two:
        for room in ("a", "b/c", "d"):
            one.publish(room)
        await until(lambda: two.delivered and len(one.said) == 3)
        two.engine.unwatch("b/+")
        two.engine.watch("d")
        two.publish("b/c")
        two.publish("d")
        await until(lambda: len(two.said) == 2)
        assert [message.room for message in one.delivered] == ["a"]
        assert [message.room for message in two.delivered] == ["b/c", "d"]


async def test_who_publishes_is_told_after_the_delivery(three: list[Node]) -> None:
    seen: list[int] = []

    def look(error: TidegateError | None) -> None:
        seen.append(len(three[0].delivered))

    three[0].engine.publish([Publication("a/x", Payload(b"1"))], look)
    await until(lambda: seen)
    assert seen == [1]


@pytest.mark.parametrize("audience", [Audience(session="s1"), Audience(user="ann", sender=False)])
async def test_what_is_for_one_session_or_user_reaches_every_node(three: list[Node], audience: Audience) -> None:
    three[0].publish("a/x", audience=audience, sender="s0")
    await until(lambda: all(each.delivered for each in three))
    for each in three:
        (message,) = each.delivered
        assert (message.audience, message.kept, message.sender) == (audience, False, "s0")


async def test_a_cursor_of_one_node_is_a_place_at_another(three: list[Node]) -> None:
    for number in range(10):
        three[0].publish("b", b"%d" % number)  # nobody watches it
    await until(lambda: len(three[0].said) == 10)
    cursor = Cursor(three[0].engine.epoch, 4)
    place = three[1].engine.position(cursor)
    reading = await three[1].read(b=place)
    assert [message.data for message in reading.messages] == [b"%d" % number for number in range(4, 10)]
    assert (reading.head, three[1].engine.head) == (10, 10)


async def test_a_place_beyond_the_newest_is_none(three: list[Node]) -> None:
    three[0].publish("a/x", b"7")
    await until(lambda: three[0].said)
    reading = await three[1].read(**{"a/x": 99})
    assert [message.data for message in reading.incomplete["a/x"]] == [b"7"]


async def test_those_who_want_the_same_in_one_turn_ask_once(three: list[Node]) -> None:
    asked: list[Any] = []
    evaluate = three[0].link.evaluate

    def note(*arguments: Any) -> None:
        asked.append(arguments)
        evaluate(*arguments)

    three[0].link.evaluate = note  # type: ignore[method-assign,assignment]
    readings = await asyncio.gather(*(three[0].read(**{"a/x": 0}) for _ in range(5)))
    assert len(asked) == 1
    assert all(reading == readings[0] for reading in readings)


async def test_a_missing_message_is_read_from_the_log_before_later_ones(three: list[Node]) -> None:
    engine = three[1].engine
    dropped: list[bytes] = []
    channels = three[1].link._channels
    for channel, handler in tuple(channels.items()):

        def lose_third(raw: bytes, handler: Any = handler) -> None:
            if b" 3 2 3 k " in raw and not dropped:
                dropped.append(raw)
            else:
                handler(raw)

        channels[channel] = lose_third
    for number in range(1, 7):
        three[0].publish("a/x", b"%d" % number)
    await until(lambda: len(three[1].delivered) == 6)
    assert dropped
    assert three[1].numbers == [1, 2, 3, 4, 5, 6]
    assert three[1].counters.gaps == 1
    assert engine.problem is None


async def test_the_stalest_rooms_give_way(server: RedisServer, prefix: str) -> None:
    bounds = LogBounds(last_values=3, bytes=100_000)
    async with node(server.port, "#", bounds=bounds, prefix=prefix) as one:
        for room in "abcd":
            one.publish(room)
            one.publish(room)
        await until(lambda: len(one.said) == 8)
        assert one.counters.drops["last_value_evicted"] == 1
        assert one.counters.drops["history_evicted"] == 2
        reading = await one.read(a=1, b=2)
        assert (reading.incomplete, [message.room for message in reading.messages]) == ({"a": ()}, ["b", "b"])
        for number in range(30):
            one.publish(f"large/{number}", b'"%s"' % (b"x" * 10_000))
        await until(lambda: len(one.said) == 38)
        one.engine._beat()
        await until(lambda: one.engine.holdings.last_values)
        assert one.engine.holdings.size_bytes <= 100_000


async def test_pages_of_many_rooms_are_one_moment(server: RedisServer, prefix: str) -> None:
    async with node(server.port, "#", prefix=prefix) as one:
        rooms = [f"r/{number}" for number in range(2500)]
        for room in rooms:
            one.publish(room, b"1", retention=Retention())
        await until(lambda: len(one.said) == 2500)
        found: list[tuple[int, Any]] = []
        one.engine.last("r/#", lambda head, values: found.append((head, values)))
        one.publish("r/0", b"2", retention=Retention())  # while it is read
        await until(lambda: found)
        head, values = found[0]
        assert {message.room for message in values} == {*rooms}
        assert all(left.sequence < right.sequence for left, right in pairwise(values))
        assert head == max(message.sequence for message in values)


async def test_a_pattern_is_read_on_over_what_it_doesnt_match(server: RedisServer, prefix: str) -> None:
    async with node(server.port, prefix=prefix) as one:
        one.publish("s/1/x", b"0")
        for _ in range(5000):
            one.publish("other/x", retention=Retention())
        one.publish("s/2/x", b"1")
        await until(lambda: len(one.said) == 5002)
        reading = await one.read_all({"s/+/x": Wanted(0, 0)})
        assert ([message.data for message in reading.messages], reading.incomplete) == ([b"0", b"1"], {})
        messages, _ = await one.history(Span("s/#", 0, 10_000, 9, newest=True))
        assert [message.data for message in messages] == [b"0", b"1"]
        messages, complete = await one.history(Span("s/#", 0, 10_000, 9, newest=False))
        assert ([message.data for message in messages], complete) == ([b"0", b"1"], True)


async def test_an_answer_that_would_be_too_long_comes_in_parts(tmp_path: Path) -> None:
    with redis_server(tmp_path, "client-output-buffer-limit pubsub 12mb 12mb 0") as server:
        async with node(server.port, bounds=LogBounds(bytes=100_000_000)) as one:
            lost: list[None] = []
            one.link.lost.append(lambda: lost.append(None))
            for number in range(900):
                one.publish(f"r/{number % 30}", b'"%d%s"' % (number, b"x" * 20_000))
                if number % 50 == 0:
                    await until(lambda: not one.engine.waiting)
            await until(lambda: len(one.said) == 900)
            for wanted in ({f"r/{number}": 0 for number in range(30)}, {"r/#": 0}):
                reading = await one.read(**wanted)
                assert (sequences(reading), reading.incomplete, reading.more) == (list(range(1, 901)), {}, False)
            assert lost == []


def sequences(reading: Reading) -> list[int]:
    return [message.sequence for message in reading.messages]


async def test_history_grows_old(server: RedisServer, prefix: str) -> None:
    async with node(server.port, "a", prefix=prefix) as one:
        one.publish("a", b"1", topic="t", retention=Retention(messages=10, seconds=0.2))
        one.publish("a", b"2", topic="t", retention=Retention(messages=10, seconds=0.2))
        one.publish("b", b"3", retention=Retention(last=False, messages=10, seconds=0.2))
        await until(lambda: len(one.said) == 3)
        await asyncio.sleep(0.3)
        reading = await one.read(a=0, b=0)
        assert [message.data for message in reading.incomplete["a"]] == [b"2"]
        assert reading.incomplete["b"] == ()
        messages, complete = await one.history(Span("a", 1, 99, 9, newest=False))
        assert ([message.data for message in messages], complete) == ([b"2"], True)
        messages, _ = await one.history(Span("+", 0, 99, 9, newest=True))
        assert [message.data for message in messages] == [b"2"]
        reading = await one.read_all({"a": Wanted(0, 0, latest=True), "b": Wanted(0, 0, latest=True)})
        assert ([message.data for message in reading.messages], reading.incomplete) == ([b"2"], {"b": ()})


async def test_no_name_begins_with_a_dollar_for_a_wildcard(server: RedisServer, prefix: str) -> None:
    async with node(server.port, prefix=prefix) as one:
        for room in ("$a/b", "c.d/b", "cxd/b"):
            one.publish(room)
        await until(lambda: len(one.said) == 3)
        for room_filter, rooms in (
            ("#", ["c.d/b", "cxd/b"]),
            ("+/b", ["c.d/b", "cxd/b"]),
            ("$a/+", ["$a/b"]),
            ("c.d/#", ["c.d/b"]),
        ):
            reading = await one.read_all({room_filter: Wanted(0, 0)})
            assert [message.room for message in reading.messages] == rooms
