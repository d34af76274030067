"""Cursors across the epochs that a Redis begins each time it starts: which node knows of which, and since when."""

import asyncio
from pathlib import Path

from gateway.core.message import Cursor
from tests.proxy import relay
from tests.redis import redis_server
from tests.redis_node import node, until


async def test_a_node_that_has_not_come_back_says_nothing_of_cursors_of_a_new_epoch_until_it_has(
    tmp_path: Path,
) -> None:
    with redis_server(tmp_path, "appendonly yes") as server, relay(server.port) as way:
        async with node(server.port, "a") as one, node(way.port, "a") as two:
            one.publish("a", b"0")
            await until(lambda: two.delivered)
            before = one.engine.epoch
            way.refuse()
            server.stop()
            server.start()
            await until(lambda: one.engine.epoch != before and not two.link.is_up)
            one.publish("a", b"1")
            await until(lambda: len(one.delivered) == 2)
            cursor = Cursor(one.engine.epoch, 1)
            settled: list[int | None] = []
            two.engine.settled(lambda: settled.append(two.engine.position(cursor)))
            await asyncio.sleep(0)
            assert (two.engine.position(cursor), settled) == (None, [])
            way.serve()
            await until(lambda: settled)
            assert settled == [1]
            two.engine.settled(lambda: settled.append(None))
            assert settled == [1, None]
            assert two.numbers == [0, 1]


async def test_a_node_that_comes_late_to_a_new_log_lacks_all_that_is_in_it(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, relay(server.port) as way:
        async with node(server.port, "a") as one, node(way.port, "a") as two:
            for number in range(3):
                one.publish("a", b"%d" % number)
            await until(lambda: len(two.delivered) == 3)
            way.refuse()
            server.kill()
            await until(lambda: not one.link.is_up and not two.link.is_up)
            one.publish("a", b"3")  # waits for the new log
            server.start()
            await until(lambda: len(one.delivered) == 4)
            one.publish("a", b"4")
            await until(lambda: len(one.delivered) == 5)
            way.serve()
            await until(lambda: two.interrupted)
            assert one.interrupted == two.interrupted == [(None, 3)]
            reading = await two.read(a=3)
            assert [int(message.data) for message in reading.messages] == [3, 4]
            one.publish("a", b"5")
            await until(lambda: two.numbers[-1] == 5)
            assert two.numbers == [0, 1, 2, 5]


async def test_where_nobody_knows_which_log_is_gone_nothing_is_known_of_the_new_one(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, relay(server.port) as way:
        async with node(way.port, "a") as one:
            one.publish("a", b"0")
            await until(lambda: one.delivered)
            way.refuse()
            server.kill()
            await until(lambda: not one.link.is_up)
            server.start()
            async with node(server.port):  # it has seen nothing of the log that is gone
                way.serve()
                await until(lambda: one.interrupted)
            assert one.interrupted == [(None, None)]
