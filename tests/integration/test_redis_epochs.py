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
