"""What comes while a node's channels change: whoever is subscribed to a room hears all of it, whatever others want."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.retention import Retention
from tests.redis import RedisServer, redis_server
from tests.redis_node import node, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


async def test_nothing_is_lost_while_a_tree_of_rooms_comes_into_use_and_goes(server: RedisServer) -> None:
    async with node(server.port, prefix="trees") as one, node(server.port, "a/x", prefix="trees") as two:
        lost: list[None] = []
        two.link.lost.append(lambda: lost.append(None))
        for number in range(2000):
            one.publish("a/x", b"%d" % number)
            if number % 10 == 0:
                await asyncio.sleep(0)
            if number % 100 == 50:
                two.engine.watch("a/+")
            elif number % 100 == 0 and number:
                two.engine.unwatch("a/+")
        await until(lambda: two.numbers and two.numbers[-1] == 1999)
        assert two.numbers == list(range(2000))
        assert two.counters.gaps == 0
        assert lost == []


async def test_a_room_that_is_wanted_again_at_once_ends_no_connection(server: RedisServer) -> None:
    async with node(server.port, "b", "a", prefix="again") as one:
        lost: list[None] = []
        one.link.lost.append(lambda: lost.append(None))
        for number in range(50):
            one.engine.unwatch("a")
            one.engine.watch("a")
            one.publish("a", b"%d" % number)
            await asyncio.sleep(0)
        await until(lambda: one.numbers and one.numbers[-1] == 49)
        assert one.numbers == list(range(50))
        assert (one.counters.gaps, lost) == (0, [])


def lose(two: Any, data: bytes) -> list[bytes]:
    """Let pushes of a message not reach a node; those that didn't."""
    lost: list[bytes] = []
    for channel, handler in tuple(two.link._channels.items()):

        def take(raw: bytes, handler: Any = handler) -> None:
            if raw.endswith(data):
                lost.append(raw)
            else:
                handler(raw)

        two.link._channels[channel] = take
    return lost


async def test_a_missing_message_is_told_though_others_came_after_it(server: RedisServer) -> None:
    async with node(server.port, prefix="gap") as one, node(server.port, "a/+", "b", prefix="gap") as two:
        lost = lose(two, b"3")
        rooms = {1: "a/x", 2: "b", 3: "a/x", 4: "b", 5: "a/y", 6: "a/x", 7: "b"}
        for number, room in rooms.items():
            one.publish(room, b"%d" % number)
        await until(lambda: len(two.delivered) == 7)
        assert len(lost) == 1
        assert two.numbers == [1, 2, 4, 5, 3, 6, 7]
        assert (two.counters.gaps, two.interrupted) == (1, [])


async def test_who_wants_a_room_is_told_that_a_message_is_missing_that_is_nowhere(server: RedisServer) -> None:
    filters = ("a/+", "a/x", "b/#")
    async with node(server.port, prefix="hole") as one, node(server.port, *filters, prefix="hole") as two:
        lose(two, b"3")
        for number, room in {1: "a/x", 2: "b/x", 3: "a/x", 4: "b/x", 5: "a/x", 6: "b/x"}.items():
            one.publish(room, b"%d" % number, retention=Retention())
        await until(lambda: two.numbers[-1:] == [6])
        assert two.numbers == [1, 2, 4, 6]
        assert two.interrupted == [({"a/+", "a/x"}, 1)]


async def test_what_nobody_wanted_meanwhile_is_no_gap(server: RedisServer) -> None:
    async with node(server.port, "a", prefix="pause") as one:
        for number in range(30):
            one.publish("a", b"%d" % number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            one.engine.unwatch("a")  # the message is on its way
            one.publish("a", b"100")
            await until(lambda: not one.engine.waiting)
            one.publish("a", b"100")
            await until(lambda: not one.engine.waiting)
            one.engine.watch("a")
        one.publish("a", b"200")
        await until(lambda: one.numbers[-1:] == [200])
        assert one.counters.gaps == 0
