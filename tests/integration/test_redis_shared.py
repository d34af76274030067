"""What nodes share through a real Redis: limits, tickets and ended logins, also while it is away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bridges import redis_logins
from bridges.redis_limits import RedisLimits
from bridges.redis_link import RedisLink
from bridges.redis_logins import RedisLogins
from bridges.redis_options import RedisOptions
from bridges.redis_tickets import RedisTickets
from gateway.core.authentication import Authentication, Undecided, hash_token
from gateway.core.clock import SystemClock
from gateway.core.ended_logins import Ended, EndedLogins
from gateway.core.errors import EngineUnavailable, Unauthenticated
from gateway.core.identity import Identity, Login
from gateway.core.limits import TokenBuckets
from gateway.core.shared_counts import Counts
from gateway.core.shared_limits import SharedLimits
from gateway.core.tickets import Tickets
from tests.real import free_port
from tests.redis import RedisServer, redis_server
from tests.redis_node import until

TOKEN = "tg_" + "a" * 64
BURST = 10


class Node:
    """One node's part of all that is shared."""

    def __init__(self, name: str, port: int) -> None:
        self.clock = SystemClock()
        options = RedisOptions((("127.0.0.1", port),), node=name, silence_seconds=1, reconnect_max_seconds=0.2)
        self.link = RedisLink(options, "cluster", self.clock, Random())
        self.limits = SharedLimits(name, 0.5, self.clock)
        self.buckets = TokenBuckets(0.001, BURST, self.clock, 100)
        self.buckets.share("rate", self.limits)
        self.counts = Counts()
        self.counts.share("counts", 1, self.limits)
        self.told = RedisLimits(self.link, self.limits, report_seconds=0.02)
        self.ended, self.ended_sessions = EndedLogins(self.clock), list[str]()
        self.prolonged: list[tuple[str, Login, float]] = []
        RedisLogins(
            self.link, self.ended, self.ended_sessions.append, lambda *told: self.prolonged.append(told), self.clock
        )
        tickets = Tickets(30, self.clock, Random(), store=RedisTickets(self.link))
        self.authentication = Authentication(self.clock, tickets, {hash_token(TOKEN): Identity("ci")}, anonymous=None)
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.tasks = [asyncio.ensure_future(run()) for run in (self.link.run, self.told.run)]

    async def stop(self) -> None:
        """End it without a word, as a crash would."""
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    def take(self, key: str = "a", most: int = 1000) -> int:
        """How much of a rate may be taken."""
        return next((number for number in range(most) if self.buckets.take(key)), most)

    async def heard_more(self) -> None:
        """Wait until another node has told something."""
        heard = self.limits.outcomes["heard"]
        await until(lambda: self.limits.outcomes["heard"] > heard, "it hears")

    async def ticket(self) -> str:
        """A ticket for who shows the token."""
        return await self.authentication.tickets.issue_for_all(self.authentication.identify(TOKEN))

    async def redeem(self, ticket: str) -> str | None:
        """Whom a ticket lets in, as doors ask; None if nobody."""
        try:
            try:
                found = self.authentication.of(None, ticket)
            except Undecided as undecided:
                await undecided.renew()
                found = self.authentication.of(None, ticket)
        except Unauthenticated:
            return None
        return None if found is None else found.user


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


Start = Callable[..., Any]


@pytest.fixture
async def nodes(redis: RedisServer) -> AsyncIterator[list[Node]]:
    async with cluster(redis.port) as started:
        yield started


@asynccontextmanager
async def cluster(port: int, number: int = 3) -> AsyncIterator[list[Node]]:
    """So many nodes, which know each other."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(running(f"node-{each}", port)) for each in range(number)]
        await until(lambda: all(node.limits.nodes == number for node in made), "they know each other")
        yield made


@asynccontextmanager
async def running(name: str, port: int) -> AsyncIterator[Node]:
    node = Node(name, port)
    node.start()
    try:
        await until(lambda: node.ended.learn is None, f"{name} is connected")
        yield node
    finally:
        await node.stop()


async def test_who_spreads_over_all_nodes_gets_what_one_would_give(nodes: list[Node]) -> None:
    one, two, three = nodes
    heard = [asyncio.ensure_future(each.heard_more()) for each in (two, three)]
    await asyncio.sleep(0)
    assert one.take() == BURST
    await asyncio.gather(*heard)
    assert (two.take(), three.take()) == (0, 0)
    assert two.take("b") == BURST


async def test_while_redis_is_away_each_node_goes_on_alone(nodes: list[Node], redis: RedisServer) -> None:
    redis.kill()
    await until(lambda: not any(node.link.is_up for node in nodes), "the connections are lost")
    assert [node.take() for node in nodes] == [BURST] * 3
    await until(lambda: all(node.limits.nodes == 1 for node in nodes), "each is alone")
    nodes[0].counts.add("a")
    redis.start()
    await until(lambda: all(node.counts["a"] == 1 for node in nodes), "they hear of each other again")
    assert nodes[1].take("b") == BURST
    await until(lambda: nodes[2].buckets.take("b") > 0, "and of what is taken")


async def test_what_a_node_had_is_forgotten_when_it_has_died(nodes: list[Node], redis: RedisServer) -> None:
    one, two, three = nodes
    for _ in range(3):
        one.counts.add("a")
    await until(lambda: two.counts["a"] == three.counts["a"] == 3, "the others know")
    await one.stop()
    await until(lambda: two.counts["a"] == three.counts["a"] == 0, "it is taken to be gone")
    with redis.client() as client:
        assert client.keys("*limits*") == []


async def test_a_node_that_is_connected_again_knows_what_has_changed_meanwhile(nodes: list[Node]) -> None:
    one, two, _ = nodes
    for node in nodes:
        node.limits._silence_seconds = 1000
    for _ in range(3):
        one.counts.add("a")
    await until(lambda: two.counts["a"] == 3, "the other knows")
    two.tasks[0].cancel()
    await until(lambda: not two.link.is_up, "it is cut off")
    for _ in range(3):
        one.counts.remove("a")
    told = one.limits.outcomes["told"]
    await until(lambda: one.limits.outcomes["told"] > told, "those who hear it are told")
    two.tasks[0] = asyncio.ensure_future(two.link.run())
    await until(lambda: two.counts["a"] == 0, "it hears, too")


async def test_a_node_that_leaves_says_so(nodes: list[Node]) -> None:
    one, two, _ = nodes
    one.limits._silence_seconds = two.limits._silence_seconds = 1000
    one.counts.add("a")
    await until(lambda: two.counts["a"] == 1, "the other knows")
    one.told.leave()
    await one.stop()
    await until(lambda: two.counts["a"] == 0, "it has left")


async def test_what_cannot_be_read_harms_nobody(nodes: list[Node], redis: RedisServer) -> None:
    with redis.client() as client:
        for told in (
            b"",
            b"[]",
            b"{}",
            b'{"node":"x","told":1}',
            b'{"node":"x","told":{"rate":[1],"counts":{"a":"b"}}}',
        ):
            client.execute_command("SPUBLISH", "tidegate:{cluster}:limits", told)
            for channel in ("ended_logins_channel", "renewed_logins_channel"):
                client.execute_command("SPUBLISH", f"tidegate:{{cluster}}:{channel}", told)
    nodes[0].counts.add("a")
    await until(lambda: nodes[1].counts["a"] == 1, "the others are heard still")
    assert not any(task.done() for task in nodes[1].tasks)


async def test_a_ticket_lets_in_at_any_node_and_once_at_all_of_them(nodes: list[Node]) -> None:
    for issuer in nodes:
        ticket = await issuer.ticket()
        tried = await asyncio.gather(*(node.redeem(ticket) for node in nodes * 10))
        assert [user for user in tried if user is not None] == ["ci"]
    assert [len(node.authentication.tickets) for node in nodes] == [0, 0, 0]


async def test_nothing_in_redis_lets_in_or_shows_what_was_shown_for_it(nodes: list[Node], redis: RedisServer) -> None:
    ticket = await nodes[0].ticket()
    with redis.client() as client:
        (key,) = client.keys("*ticket*")
        kept = client.get(key)
        assert 0 < client.pttl(key) <= 30_000
        for secret in (ticket, TOKEN, hash_token(TOKEN), "ci"):
            assert secret.encode() not in key + kept
        client.set(key, kept[:-1] + bytes([kept[-1] ^ 1]))
    assert await nodes[1].redeem(ticket) is None


async def test_what_is_no_ticket_is_not_asked_for(nodes: list[Node], redis: RedisServer) -> None:
    with redis.client() as client:
        before = client.info("commandstats").get("cmdstat_getdel")
        assert await nodes[0].redeem("0" * 47) is None
        assert client.info("commandstats").get("cmdstat_getdel") == before
    assert await nodes[0].redeem("0" * 48) is None


async def test_without_redis_a_ticket_lets_in_where_it_was_issued_then_and_nowhere_else(
    nodes: list[Node], redis: RedisServer
) -> None:
    one, two, _ = nodes
    shared = await one.ticket()
    redis.kill()
    await until(lambda: not any(node.link.is_up for node in nodes), "the connections are lost")
    own = await one.ticket()
    for node in (one, two):
        assert await node.redeem(shared) is None  # nobody can know whether it was used
    assert await two.redeem(own) is None
    redis.start()
    await until(lambda: all(node.link.is_up for node in nodes), "they are connected again")
    assert await two.redeem(own) is None
    assert [await one.redeem(own), await one.redeem(own)] == ["ci", None]


async def test_a_ticket_that_redis_does_not_confirm_is_given_up_for_one_of_the_nodes_own(
    nodes: list[Node], redis: RedisServer
) -> None:
    with redis.client() as client:
        client.config_set("maxmemory", 1)
    one, two, _ = nodes
    ticket = await one.ticket()
    assert [await two.redeem(ticket), await one.redeem(ticket)] == [None, "ci"]


def end(node: Node, login: str, user: str = "ann", since: float = 1.0, seconds: float = 1000.0) -> None:
    node.ended.add(user, Login(login, since), node.clock.time() + seconds)


def knows(node: Node, login: str, user: str = "ann", since: float = 1.0) -> bool:
    return node.ended.has(user, Login(login, since))


async def test_a_login_that_has_ended_at_one_node_has_ended_at_all(nodes: list[Node], redis: RedisServer) -> None:
    one, two, three = nodes
    end(one, "x")
    await until(lambda: knows(two, "x") and knows(three, "x"), "the others know")
    assert two.ended_sessions == ["x"]
    assert not knows(two, "y")
    async with running("late", redis.port) as late:
        assert knows(late, "x")
        assert not knows(late, "y")


async def test_a_login_that_lasts_longer_does_so_at_all_nodes(nodes: list[Node]) -> None:
    one, two, _ = nodes
    assert one.ended.prolonged is not None
    one.ended.prolonged("ann", Login("x", 1.5), 100.25)
    await until(lambda: two.prolonged == [("ann", Login("x", 1.5), 100.25)], "the other knows")


async def test_what_ended_while_redis_was_away_is_told_once_it_is_back(nodes: list[Node], redis: RedisServer) -> None:
    one, two, _ = nodes
    end(one, "before")
    await until(lambda: knows(two, "before"), "the other knows")
    redis.kill()
    await until(lambda: not any(node.link.is_up for node in nodes), "the connections are lost")
    end(one, "meanwhile")
    assert not knows(two, "meanwhile")
    redis.start()  # without what it had
    await until(lambda: knows(two, "meanwhile"), "the other hears of it")
    async with running("late", redis.port) as late:
        await until(lambda: knows(late, "before") and knows(late, "meanwhile"), "Redis has both again")


async def test_redis_keeps_of_each_user_no_more_than_nodes_do(nodes: list[Node], redis: RedisServer) -> None:
    one, two, _ = nodes
    for number in range(130):
        end(one, f"x{number}", since=float(number))
    end(one, "expired", user="eve", seconds=-1)
    end(one, "last", user="bob")
    await until(lambda: knows(two, "last", "bob"), "the other has heard all")
    with redis.client() as client:
        assert client.zcard("tidegate:{cluster}:ended_logins") == 102
    async with running("late", redis.port) as late:
        assert all(knows(late, f"x{number}", since=float(number)) for number in range(130))
        assert knows(late, "unheard of", since=29.0)
        assert not knows(late, "unheard of", since=29.5)
        assert not knows(late, "unheard of", "bob")


async def test_a_node_reads_all_of_very_many(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_logins, "PAGE", 10)
    with redis.client() as client:
        until_then = SystemClock().time() + 1000
        told = {redis_logins._packed(Ended(f"user{n}", "x", 1.0, until_then + n)): until_then + n for n in range(1000)}
        client.zadd("tidegate:{cluster}:ended_logins", told)
    async with running("late", redis.port) as late:
        assert all(knows(late, "x", f"user{n}") for n in range(1000))


async def test_no_cookie_counts_before_it_is_known_which_logins_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_logins, "PATIENCE_SECONDS", 0.01)
    node = Node("alone", free_port())
    assert node.ended.learn is not None
    with pytest.raises(EngineUnavailable, match="which logins have ended"):
        await node.ended.learn()
