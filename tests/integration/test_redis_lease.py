"""Leases as a real Redis keeps them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bridges.redis_lease import RedisLeases
from bridges.redis_link import RedisLink
from bridges.redis_options import RedisOptions
from gateway.core.clock import SystemClock
from gateway.core.lease import Granted, Taken
from tests.real import DEADLINE_SECONDS
from tests.redis import RedisServer, redis_cluster, redis_server


@pytest.fixture(scope="module")
def standing_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(standing_redis: RedisServer) -> RedisServer:
    with standing_redis.client() as client:
        client.flushall()
    return standing_redis


class Store:
    """A node's way to its leases, which waits for the answers."""

    def __init__(self, leases: RedisLeases, link: RedisLink) -> None:
        self.leases, self.link = leases, link
        self.hurried = asyncio.Event()
        leases.follow("plant", self.hurried.set)

    async def acquire(self, least: int = 0) -> Granted | Taken:
        found = await answer(lambda done: self.leases.acquire("plant", least, done))
        assert found is not None
        return found  # type: ignore[no-any-return]

    async def renew(self, token: int) -> bool:
        return bool(await answer(lambda done: self.leases.renew("plant", token, done)))


async def answer(ask: Callable[[Callable[[Any], None]], None]) -> Any:
    found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ask(found.set_result)
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await found


@asynccontextmanager
async def store(port: int, node: str, seconds: float = 30, *, instance: str = "1") -> AsyncIterator[Store]:
    options = RedisOptions((("127.0.0.1", port),), node=node, prefix="test")
    link = RedisLink(options, "cluster", SystemClock(), Random(1))
    found = Store(RedisLeases(link, seconds, instance), link)
    connected = asyncio.Event()
    link.connected.append(connected.set)
    running = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await connected.wait()
        found.hurried.clear()
        yield found
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_one_has_it_until_it_gives_it_back_and_the_others_are_told(redis: RedisServer) -> None:
    async with store(redis.port, "a") as a, store(redis.port, "b") as b:
        first = await a.acquire()
        assert isinstance(first, Granted)
        taken = await b.acquire()
        assert isinstance(taken, Taken)
        assert (taken.holder, taken.token) == ("a", first.token)
        assert 20 < taken.seconds <= 30
        assert await a.renew(first.token)
        assert not await b.renew(first.token)
        b.leases.release("plant", first.token)
        assert isinstance(await b.acquire(), Taken)
        a.leases.release("plant", first.token)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await b.hurried.wait()
        second = await b.acquire()
        assert isinstance(second, Granted)
        assert second.token > first.token
        assert not await a.renew(first.token)
        b.leases.release("plant", second.token)


async def test_it_expires_by_the_servers_clock_and_its_tokens_go_on(redis: RedisServer) -> None:
    async with store(redis.port, "a", 0.05) as a, store(redis.port, "b", 0.05) as b:
        first = await a.acquire()
        second = await b.acquire()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while isinstance(second, Taken):
                await asyncio.sleep(second.seconds)
                second = await b.acquire()
        assert second.token > first.token
        assert not await a.renew(first.token)


async def test_a_process_finds_its_own_again_but_none_of_an_earlier_one_with_its_name(redis: RedisServer) -> None:
    async with store(redis.port, "a") as a, store(redis.port, "a", instance="2") as later:
        first, again = await a.acquire(), await a.acquire()
        assert isinstance(again, Granted)
        assert again.token > first.token
        assert not await a.renew(first.token)
        assert isinstance(await later.acquire(), Taken)
        a.leases.release("plant", again.token)


async def test_tokens_grow_though_redis_lost_its_data(redis: RedisServer) -> None:
    async with store(redis.port, "a") as a, store(redis.port, "b") as b:
        first = await a.acquire()
        with redis.client() as client:
            client.flushall()
        second = await b.acquire()
        assert isinstance(second, Granted)
        assert second.token > first.token
        with redis.client() as client:
            client.flushall()
        seen_elsewhere = second.token + 10**9
        third = await a.acquire(seen_elsewhere)
        assert third == Granted(seen_elsewhere + 1)
        a.leases.release("plant", third.token)


async def test_without_a_connection_there_is_no_answer(redis: RedisServer) -> None:
    async with store(redis.port, "a") as a:
        pass
    assert await answer(lambda done: a.leases.acquire("plant", 0, done)) is None
    assert await answer(lambda done: a.leases.renew("plant", 1, done)) is None


async def test_a_cluster_keeps_them_too(tmp_path: Path) -> None:
    with redis_cluster(tmp_path) as servers:
        async with store(servers[0].port, "a") as a, store(servers[1].port, "b") as b:
            first = await a.acquire()
            assert isinstance(first, Granted)
            a.leases.release("plant", first.token)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await b.hurried.wait()
            assert isinstance(await b.acquire(), Granted)
