"""The engine of many nodes on a real Redis: one order at all of them, nothing lost or doubled by what may happen."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from gateway.core.engine import Publication, Span, Wanted
from gateway.core.errors import TidegateError
from gateway.core.log import LogBounds
from gateway.core.message import Audience, Cursor
from gateway.core.payload import Payload
from gateway.core.retention import Retention
from tests.proxy import relay
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


async def test_a_lost_connection_loses_and_doubles_nothing(server: RedisServer, prefix: str) -> None:
    random = Random(7)
    with relay(server.port) as way, relay(server.port) as other_way:
        async with (
            node(way.port, "a", prefix=prefix) as publisher,
            node(other_way.port, "a", prefix=prefix) as listener,
            node(server.port, "a", prefix=prefix) as undisturbed,
        ):
            for number in range(600):
                publisher.publish("a", b"%d" % number)
                if number % 60 == 30:
                    (way if random.random() < 0.6 else other_way).cut()
                if number % 7 == 0:
                    await asyncio.sleep(0.001)
            await until(lambda: all(len(each.delivered) == 600 for each in (publisher, listener, undisturbed)))
            for each in (publisher, listener, undisturbed):
                assert each.numbers == list(range(600))
                assert each.interrupted == []
            assert publisher.said == [None] * 600
            messages, _ = await listener.history(Span("a", 0, 10_000, 1000, newest=True))
            assert [int(message.data) for message in messages] == list(range(600))


async def test_a_node_that_was_away_is_told_what_it_missed_page_by_page(server: RedisServer, prefix: str) -> None:
    with relay(server.port) as way:
        async with node(server.port, prefix=prefix) as one, node(way.port, "a", "b/#", "c", prefix=prefix) as two:
            one.publish("a", b"0")
            await until(lambda: two.delivered)
            way.refuse()
            way.cut()
            await until(lambda: not two.link.is_up)
            numbers = list(range(1, 3001))
            for number in numbers:
                room = f"b/{number % 5}" if number % 2 else "a"
                one.publish(room, b"%d" % number, retention=Retention(messages=5000))
            for _ in range(3):
                one.publish("c", b"9", retention=Retention())
            await until(lambda: len(one.said) == 3004)
            way.serve()
            await until(lambda: two.link.is_up and two.engine.head == one.engine.head)
            assert two.numbers == [0, *numbers]
            assert two.interrupted == [({"c"}, 1)]  # of which only the last value is kept


async def test_a_server_that_starts_again_with_its_data_goes_on_in_an_epoch_that_continues(tmp_path: Path) -> None:
    with redis_server(tmp_path, "appendonly yes") as server:
        async with node(server.port, "a") as one, node(server.port, "a") as two:
            for number in range(5):
                one.publish("a", b"%d" % number)
            await until(lambda: len(two.delivered) == 5)
            before = one.engine.epoch
            server.stop()
            await until(lambda: not one.link.is_up and not two.link.is_up)
            one.publish("a", b"5")  # waits
            two.publish("a", b"6", volatile=True)  # needs nobody, and reaches those who are here
            assert two.numbers[-1] == 6
            server.start()
            await until(lambda: len(one.delivered) == 6)
            two.publish("a", b"7")
            await until(lambda: one.numbers[-1] == two.numbers[-1] == 7)

            assert one.engine.epoch == two.engine.epoch != before
            assert (one.numbers, one.interrupted, two.interrupted) == ([0, 1, 2, 3, 4, 5, 7], [], [])
            assert [one.engine.position(Cursor(before, place)) for place in (5, 6)] == [5, None]
            reading = await two.read(a=two.engine.position(Cursor(before, 2)))
            assert [int(message.data) for message in reading.messages] == [2, 3, 4, 5, 7]


async def test_a_server_that_has_lost_its_data_is_another_log(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with node(server.port, "a") as one, node(server.port, "a", "b") as two:
            for number in range(5):
                one.publish("a", b"%d" % number)
            await until(lambda: len(two.delivered) == 5)
            before = one.engine.epoch
            server.kill()
            await until(lambda: not one.link.is_up and not two.link.is_up)
            server.start()
            await until(lambda: one.interrupted and two.interrupted)
            assert one.interrupted == two.interrupted == [(None, 5)]
            assert one.engine.epoch == two.engine.epoch != before
            assert one.engine.position(Cursor(before, 3)) is None
            one.publish("a", b"5")
            await until(lambda: two.numbers[-1] == 5)
            assert two.delivered[-1].sequence == 6  # no place is used twice
            assert (await two.read(a=3)).incomplete.keys() == {"a"}


async def test_who_has_seen_what_the_server_lost_is_told_and_who_has_not_is_not(tmp_path: Path) -> None:
    with redis_server(tmp_path, "appendonly no") as server, relay(server.port) as way:
        async with node(server.port, "a") as ahead, node(way.port, "a") as behind:
            for number in range(3):
                ahead.publish("a", b"%d" % number)
            await until(lambda: len(behind.delivered) == 3)
            with server.client() as client:
                client.save()
            way.refuse()
            way.cut()
            await until(lambda: not behind.link.is_up)
            ahead.publish("a", b"3")
            await until(lambda: len(ahead.delivered) == 4)
            server.kill()
            server.start()  # from what was saved
            way.serve()
            await until(lambda: ahead.interrupted and behind.link.is_up)
            behind.publish("a", b"4")
            await until(lambda: behind.numbers[-1] == ahead.numbers[-1] == 4)
            assert (ahead.interrupted, behind.interrupted) == ([(None, 3)], [])
            assert behind.numbers == [0, 1, 2, 4]
            assert [message.sequence for message in behind.delivered] == [1, 2, 3, 5]


async def test_a_server_that_is_paused_delays_and_loses_nothing(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with (
            node(server.port, "a", silence_seconds=0.5) as one,
            node(server.port, "a", silence_seconds=0.5) as two,
        ):
            one.publish("a", b"0")
            await until(lambda: two.delivered)
            server.send_signal(signal.SIGSTOP)
            for number in range(1, 50):  # some of them are in the server's buffers when the connection is given up
                one.publish("a", b"%d" % number)
                await asyncio.sleep(0)
            await until(lambda: one.engine.problem and two.engine.problem)
            for number in range(50, 100):
                one.publish("a", b"%d" % number)
            server.send_signal(signal.SIGCONT)
            await until(lambda: len(one.delivered) == len(two.delivered) == 100)
            assert one.numbers == two.numbers == list(range(100))
            assert one.said == [None] * 100


async def test_more_than_may_wait_is_refused_and_counted(server: RedisServer, prefix: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("bridges.redis_publishing.MAXIMUM_WAITING", 10)
    with relay(server.port) as way:
        async with node(way.port, "a", prefix=prefix) as one:
            way.refuse()
            way.cut()
            await until(lambda: not one.link.is_up)
            for number in range(12):
                one.publish("a", b"%d" % number)
            one.publish("a", b"12", receipt=("plant", 1, b"d"))  # the broker holds back what has a receipt
            assert [error.code for error in one.said if error] == ["engine_unavailable"] * 2
            assert one.counters.drops["engine_unavailable"] == 2
            way.serve()
            await until(lambda: len(one.delivered) == 11)
            assert one.numbers == [*range(10), 12]


async def test_a_full_server_is_a_problem_and_what_waits_is_stored_once_there_is_room(tmp_path: Path) -> None:
    with redis_server(tmp_path, "maxmemory-policy noeviction") as server, server.client() as client:
        async with node(server.port, "a") as one:
            one.publish("a", b"0")
            await until(lambda: one.delivered)
            client.config_set("maxmemory", "1mb")
            for number in range(1, 4):
                one.publish("a", b"%d" % number)
                await asyncio.sleep(0)
            await until(lambda: one.engine.problem)
            assert "OOM" in (one.engine.problem or "")
            one.publish("a", b"9", volatile=True)  # it needs no place
            assert one.numbers == [0, 9]
            client.config_set("maxmemory", "0")
            await until(lambda: len(one.delivered) == 5)
            assert (one.numbers, one.engine.problem) == ([0, 9, 1, 2, 3], None)


@pytest.mark.parametrize("command", ["SCRIPT FLUSH", "FLUSHALL"])
async def test_what_others_do_to_the_server_is_overcome(tmp_path: Path, command: str) -> None:
    with redis_server(tmp_path) as server, server.client() as client:
        async with node(server.port, "a") as one, node(server.port, "a") as two:
            one.publish("a", b"0")
            await until(lambda: two.delivered)
            client.execute_command(command)
            one.publish("a", b"1")
            two.publish("a", b"2")
            await until(lambda: {*one.numbers} == {*two.numbers} == {0, 1, 2})
            assert len(one.numbers) == len(two.numbers) == 3
            assert bool(one.interrupted) == bool(two.interrupted) == (command == "FLUSHALL")


async def test_only_the_latest_owner_of_an_upstream_is_heard(three: list[Node]) -> None:
    one, two, _ = three
    owned: list[str] = []
    one.engine.own("plant", 1, lambda: owned.append("one"), lambda: owned.append("one fenced"))
    await until(lambda: owned)
    one.publish("a/x", b"1", ("plant", 7, b"seven"), upstream="plant")
    await until(lambda: one.said == [None])
    two.engine.own("plant", 2, lambda: owned.append("two"), lambda: owned.append("two fenced"))
    await until(lambda: len(owned) == 2)
    assert list(two.engine.receipts.entries()) == [("plant", 7, b"seven")]

    one.publish("a/x", b"2", ("plant", 8, b"eight"), upstream="plant")
    one.publish("a/x", b"3", upstream="plant")
    two.publish("a/x", b"4", ("plant", 8, b"eight"), upstream="plant")
    one.publish("a/x", b"5")  # a browser's
    await until(lambda: len(one.delivered) == 3)
    assert {*one.numbers} == {1, 4, 5}
    assert one.said == [None, None]  # the broker isn't told that it has the others
    assert owned == ["one", "two", "one fenced", "one fenced"]
    assert one.counters.drops["fenced"] == 2

    two.engine.acknowledged("plant", 7)
    await until(lambda: not two.engine.waiting)
    two.publish("a/x", b"6")
    await until(lambda: len(two.delivered) == 4)
    one.engine.own("plant", 3, lambda: owned.append("one again"), lambda: None)
    await until(lambda: owned[-1] == "one again")
    assert list(one.engine.receipts.entries()) == [("plant", 8, b"eight")]
    one.engine.forget("plant")
    one.publish("a/x", b"7")
    await until(lambda: len(one.delivered) == 5)
    two.engine.own("plant", 4, lambda: owned.append("two again"), lambda: None)
    await until(lambda: owned[-1] == "two again")
    assert list(two.engine.receipts.entries()) == []


async def own(node: Node, token: int) -> list[str]:
    """Let a node own the upstream `plant`; what it is told later."""
    told: list[str] = []
    node.engine.own("plant", token, lambda: told.append("owns"), lambda: told.append("fenced"))
    await until(lambda: told)
    return told


async def test_who_comes_with_an_earlier_token_doesnt_own_it(three: list[Node]) -> None:
    one, two, _ = three
    assert await own(one, 5) == ["owns"]
    assert await own(two, 4) == ["fenced"]


async def test_an_earlier_owner_can_forget_nothing_of_what_the_later_one_needs(three: list[Node]) -> None:
    """It may have been paused, with the broker's answers unread; the identifier means another packet since."""
    one, two, third = three
    await own(one, 1)
    for packet_id in (7, 8):
        one.publish("a/x", b"1", ("plant", packet_id, b"digest"), upstream="plant")
    await until(lambda: len(one.said) == 2)
    await own(two, 2)
    one.engine.acknowledged("plant", 7)
    one.engine.forget("plant")
    one.publish("a/x")
    await until(lambda: len(one.said) == 3)
    await own(third, 3)
    assert list(third.engine.receipts.entries()) == [("plant", 7, b"digest"), ("plant", 8, b"digest")]


async def test_what_was_refused_is_not_taken_for_stored_when_the_answer_is_lost(
    three: list[Node], server: RedisServer
) -> None:
    one, two, _ = three
    told = await own(one, 1)
    one.publish("a/x", b"1", ("plant", 7, b"seven"), upstream="plant")
    await until(lambda: one.said)
    await own(two, 2)
    publishing = one.engine._publishing
    answers: list[Any] = []
    publishing._take = lambda batch, reply: answers.append(reply)  # type: ignore[method-assign]
    one.publish("a/x", b"2", ("plant", 8, b"eight"), upstream="plant")
    one.publish("a/x", b"3")
    await until(lambda: answers)
    del publishing._take
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: told == ["owns", "fenced"])
    await until(lambda: len(one.said) == 2)
    assert sorted(one.numbers) == [1, 3]
    assert sorted(two.numbers) == [1, 3], "what was stored wasn't stored again"


async def test_a_later_owner_is_remembered_though_redis_lost_its_data(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client() as client:
        async with node(server.port, "a") as one, node(server.port, "a") as two:
            told = await own(one, 1)
            await own(two, 2)
            client.flushall()
            two.publish("a", b"1", upstream="plant")
            await until(lambda: two.said == [None])
            one.publish("a", b"2", upstream="plant")
            await until(lambda: told == ["owns", "fenced"])
            assert two.numbers == [1]


async def test_who_owns_it_anew_is_not_told_of_what_it_did_before(three: list[Node]) -> None:
    one, two, _ = three
    before = await own(one, 1)
    await own(two, 2)
    one.publish("a/x", b"1", upstream="plant")
    again = await own(one, 3)
    one.publish("a/x", b"2", upstream="plant")
    await until(lambda: one.said == [None])
    assert one.numbers == [2]
    assert (before, again) == (["owns"], ["owns"])
    assert one.counters.drops["fenced"] == 1


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


async def test_what_redis_refuses_in_the_midst_of_a_batch_is_reported_and_all_else_is_stored(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client() as client:
        async with node(server.port, "a/#") as one:
            client.set("tidegate:{default}:log:a/bad", "of another type")
            for number, room in enumerate(("a/1", "a/bad", "a/2")):
                one.publish(room, b"%d" % number)
            await until(lambda: len(one.said) == 3)
            one.publish("a/1", b"3")
            await until(lambda: len(one.said) == 4)
            assert [None if error is None else error.code for error in one.said] == [
                None,
                "engine_unavailable",
                None,
                None,
            ]
            assert one.numbers == [0, 2, 3]
            assert one.counters.drops["engine_unavailable"] == 1


async def test_a_log_that_is_left_without_its_state_takes_what_is_published(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client() as client:
        async with node(server.port, "a") as one:
            for number in range(5):
                one.publish("a", b"%d" % number)
            await until(lambda: len(one.said) == 5)
        client.delete("tidegate:{default}:meta")  # as an eviction would, while no gateway is there
        async with node(server.port, "a") as one:
            one.publish("a", b"5")
            await until(lambda: one.said)
            assert (one.said, one.numbers) == ([None], [5])


async def test_a_server_that_is_busy_with_a_script_is_overcome(tmp_path: Path) -> None:
    with redis_server(tmp_path, "busy-reply-threshold 100") as server, server.client() as client:
        async with node(server.port, "a") as one:
            script = asyncio.create_task(asyncio.to_thread(client.eval, "while true do end", 0))
            await asyncio.sleep(0.4)
            one.engine.watch("b")  # what this is answered with is nobody else's answer
            one.publish("a", b"0")
            await asyncio.sleep(0.3)
            with server.client() as another:
                another.script_kill()
            with pytest.raises(redis.ResponseError):
                await script
            one.publish("b", b"1")
            await until(lambda: one.numbers == [0, 1])
            assert not one.running.done()
