"""What may happen to Redis, and to the way there: nothing is lost or doubled, and what is gone is said."""

import asyncio
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from gateway.core.engine import Span
from gateway.core.message import Cursor
from gateway.core.retention import Retention
from tests.proxy import relay
from tests.redis import RedisServer, redis_server
from tests.redis_node import node, until


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


async def test_a_fault_of_one_keeps_nobody_from_hearing_that_the_connection_is_lost(
    server: RedisServer, prefix: str
) -> None:
    with relay(server.port) as way:
        async with node(way.port, "a", prefix=prefix) as one:

            def fault(reply: Any) -> None:
                raise ZeroDivisionError

            way.freeze()
            one.link.send(fault, "PING")
            one.publish("a", b"1")
            found = asyncio.ensure_future(one.read(a=0))
            await asyncio.sleep(0.05)  # all of it is on its way
            way.cut()
            way.thaw()
            reading = await found
            await until(lambda: one.delivered)
            assert (one.said, one.numbers) == ([None], [1])
            assert reading.head in (0, 1)


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
