"""How gateways have their requests sent by one of them, over a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import pytest

from bridges.redis_keepers import RedisKeepers
from bridges.redis_lease import RedisLeases
from bridges.redis_link import RedisLink
from bridges.redis_options import RedisOptions
from gateway.core.clock import SystemClock
from gateway.core.counters import Counters
from gateway.core.errors import ReplyAmbiguous, TidegateError, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from gateway.core.keeper import Ask, Keeper
from gateway.core.upstream import ReplyTo
from tests.real import DEADLINE_SECONDS
from tests.redis import RedisServer, redis_server
from tests.redis_node import until
from tests.unit.conftest import ListUpstream

LEASE_SECONDS = 30.0
TOPIC = "commands/x/reply"


@pytest.fixture(scope="module")
def standing_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(standing_redis: RedisServer) -> RedisServer:
    with standing_redis.client() as client:
        client.flushall()
    return standing_redis


@dataclass
class Gateway:
    """One of several, and what comes of its requests."""

    keepers: RedisKeepers
    keeper: Keeper
    upstream: ListUpstream
    link: RedisLink
    answers: dict[bytes, bytes] = field(default_factory=dict)
    errors: list[TidegateError] = field(default_factory=list)

    def ask(self, correlation: bytes, payload: bytes = b"{}", seconds: float = DEADLINE_SECONDS) -> None:
        ask = Ask("plant", "commands/x", payload, 1, ReplyTo(TOPIC, correlation, seconds))
        self.keepers.ask(ask, self.errors.append)

    def hear(self, raw: bytes) -> None:
        """The device answers."""
        self.keeper.receive("plant", TOPIC, raw, None)


@asynccontextmanager
async def gateway(port: int, node: str, lease_seconds: float = LEASE_SECONDS) -> AsyncIterator[Gateway]:
    clock = SystemClock()
    link = RedisLink(RedisOptions((("127.0.0.1", port),), node=node, prefix="test"), "cluster", clock, Random(1))
    keeper, upstream = Keeper(clock, Random(2), Counters()), ListUpstream()
    keeper.connect({"plant": upstream})
    answers: dict[bytes, bytes] = {}

    def take(name: str, topic: str, raw: bytes, correlation: bytes | None) -> None:
        assert (name, topic) == ("plant", TOPIC)
        assert correlation is not None
        answers[correlation] = raw

    leases = RedisLeases(link, lease_seconds, node)
    keepers = RedisKeepers(link, leases, lease_seconds, keeper, take, clock, node)
    running = asyncio.create_task(link.run())
    try:
        await until(lambda: link.is_up)
        yield Gateway(keepers, keeper, upstream, link, answers)
    finally:
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def pair(redis: RedisServer) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two, of which the first one is the keeper."""
    async with gateway(redis.port, "a") as a, gateway(redis.port, "b") as b:
        a.keepers.reachable("plant", up=True)
        await until(lambda: a.keepers.keeps("plant"))
        b.keepers.reachable("plant", up=True)
        yield a, b


async def test_requests_go_by_the_keeper_and_answers_come_back(redis: RedisServer) -> None:
    async with pair(redis) as (a, b):
        b.ask(b"one", b'{"a":\n1}')
        await until(lambda: a.upstream.published)
        a.ask(b"two")
        assert a.upstream.published == [
            ("commands/x", b'{"a":\n1}', 1, False),
            ("commands/x", b"{}", 1, False),
        ]
        assert a.upstream.replies_to == [ReplyTo(TOPIC, b"one", 20.0), ReplyTo(TOPIC, b"two", 20.0)]
        assert b.upstream.published == []
        a.hear(b"\n\xff1")
        a.hear(b"2")
        await until(lambda: b.answers)
        assert (a.answers, b.answers) == ({b"two": b"2"}, {b"one": b"\n\xff1"})
        assert a.errors == b.errors == []


async def test_what_the_keeper_says_instead_comes_back_too(redis: RedisServer) -> None:
    async with pair(redis) as (a, b):
        a.upstream.error = UpstreamRefused("not for you")
        b.ask(b"one")
        await until(lambda: b.errors)
        a.upstream.error = None
        b.ask(b"two", seconds=0.05)
        await until(lambda: not len(b.keepers._asked))
        await until(lambda: next(iter(a.keeper._pending._places.values())).overdue)
        b.ask(b"three")
        await until(lambda: isinstance(b.errors[-1], ReplyAmbiguous))
        assert [str(b.errors[0]), b.errors[-1].retry_after_seconds is not None] == ["not for you", True]
        assert len(a.upstream.published) == 2


async def test_without_a_keeper_who_asks_is_told_so_after_a_while(redis: RedisServer) -> None:
    async with gateway(redis.port, "a", lease_seconds=0.1) as a:
        a.ask(b"one")
        await until(lambda: a.errors)
        assert isinstance(a.errors[0], UpstreamUnavailable)


async def test_a_request_finds_the_keeper_that_is_about_to_be(redis: RedisServer) -> None:
    async with gateway(redis.port, "a") as a, gateway(redis.port, "b") as b:
        b.ask(b"one")
        a.keepers.reachable("plant", up=True)
        await until(lambda: a.upstream.published)
        a.hear(b"1")
        await until(lambda: b.answers == {b"one": b"1"})


async def test_a_request_of_which_nobody_knows_whether_it_was_sent_is_not_sent_again(redis: RedisServer) -> None:
    async with pair(redis) as (a, b):
        with redis.client() as client:
            client.execute_command("CLIENT", "PAUSE", 20_000, "WRITE")
            b.ask(b"one")
            await asyncio.sleep(0)  # it is written at the end of this turn
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            client.execute_command("CLIENT", "UNPAUSE")
        await until(lambda: b.errors)
        assert isinstance(b.errors[0], UpstreamTimeout)
        await until(lambda: b.link.is_up)
        b.ask(b"two")
        await until(lambda: a.upstream.published)
        assert [to.correlation for to in a.upstream.replies_to if to is not None] == [b"two"]


async def test_a_keeper_that_cant_reach_the_broker_or_leaves_makes_way(redis: RedisServer) -> None:
    async with pair(redis) as (a, b):
        b.ask(b"one")
        await until(lambda: a.upstream.published)
        leaving = asyncio.create_task(a.keepers.leave(DEADLINE_SECONDS))
        await until(lambda: not a.link._channels.get(b"test:{cluster}:ask:plant"))
        await a.link.call("PING")
        b.ask(b"two")
        await b.link.call("PING")
        assert not b.keepers.keeps("plant"), "an answer is yet to come, which b would take for its own"
        a.hear(b"1")
        await leaving
        await until(lambda: b.upstream.published)
        b.hear(b"2")
        assert b.answers == {b"one": b"1", b"two": b"2"}
        a.keepers.reachable("plant", up=True)
        b.keepers.reachable("plant", up=False)
        assert not b.keepers.keeps("plant")
        async with gateway(redis.port, "c") as c:
            c.keepers.reachable("plant", up=True)
            await until(lambda: c.keepers.keeps("plant"))


@pytest.mark.parametrize("told", [b"", b"{}\n", b"[1]\n", b'["6f", "of a later version", "", null]\n'])
async def test_what_cannot_be_read_harms_nobody(redis: RedisServer, told: bytes) -> None:
    async with pair(redis) as (a, b):
        with redis.client() as client:
            for channel in ("ask:plant", "answer:b"):
                assert client.execute_command("SPUBLISH", b.link.key(channel), told) == 1
        b.ask(b"one")
        await until(lambda: a.upstream.published)
        a.hear(b"1")
        await until(lambda: b.answers == {b"one": b"1"})
