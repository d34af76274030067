"""The list of gateways in Redis: who is in it, who isn't any more, and who is refused."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from random import Random
from typing import Any

import pytest

from bridges.redis_link import RedisLink
from bridges.redis_nodes import Node, NodeNameTaken, RedisNodes
from bridges.redis_options import RedisOptions
from gateway.core.clock import SystemClock
from tests.real import DEADLINE_SECONDS
from tests.redis import RedisServer, redis_server

SOON_SECONDS = 0.5
"""A lease that ends while a test waits."""
PREFIXES = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("nodes")) as running:
        yield running


class Member:
    """A node, with what it was told."""

    def __init__(self, server: RedisServer, prefix: str, name: str, lease_seconds: float) -> None:
        options = RedisOptions(
            (("127.0.0.1", server.port),),
            prefix=prefix,
            node=name,
            silence_seconds=60,
            reconnect_min_seconds=0.01,
            reconnect_max_seconds=0.05,
        )
        self.link = RedisLink(options, "cluster", SystemClock(), Random())
        self.nodes = RedisNodes(self.link, lease_seconds, "1.2", Random())
        self.told: list[tuple[str, str]] = []
        self.nodes.came.append(lambda node: self.told.append(("came", node.name)))
        self.nodes.gone.append(lambda node: self.told.append(("gone", node.name)))
        self.tasks = [asyncio.ensure_future(self.link.run())]

    async def join(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.nodes.join()
        self.tasks.append(asyncio.ensure_future(self.nodes.run()))

    async def die(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    async def go_away(self) -> None:
        """Be cut off from Redis."""
        link = self.tasks.pop(0)
        link.cancel()
        await asyncio.wait([link])

    def come_back(self) -> None:
        self.tasks.insert(0, asyncio.ensure_future(self.link.run()))


class Company:
    """Nodes with one Redis."""

    def __init__(self, server: RedisServer, ends: AsyncExitStack) -> None:
        self.server, self.prefix, self._ends = server, f"company-{next(PREFIXES)}", ends

    def make(self, name: str, lease_seconds: float = 60) -> Member:
        member = Member(self.server, self.prefix, name, lease_seconds)
        self._ends.push_async_callback(member.die)
        return member

    async def join(self, name: str, lease_seconds: float = 60) -> Member:
        member = self.make(name, lease_seconds)
        await member.join()
        return member


@asynccontextmanager
async def company(server: RedisServer) -> AsyncIterator[Company]:
    async with AsyncExitStack() as ends:
        yield Company(server, ends)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def beats(member: Member, number: int) -> None:
    """Until the list has come so often."""
    heard: list[None] = []
    member.nodes.heard.append(lambda: heard.append(None))
    await until(lambda: len(heard) >= number)
    member.nodes.heard.pop()


async def test_all_are_in_the_list_with_what_they_say_of_themselves(server: RedisServer) -> None:
    async with company(server) as all_:
        a, b = await all_.join("a"), await all_.join("b")
        await until(lambda: a.nodes.names == b.nodes.names == ["a", "b"])
        assert a.nodes.lives == b.nodes.lives
        node = a.nodes.lives[b.nodes.life]
        assert isinstance(node, Node)
        assert (node.name, node.version, node.pid > 0, node.host != "") == ("b", "1.2", True, True)
        assert 0 <= node.since - a.nodes.lives[a.nodes.life].since < DEADLINE_SECONDS
        assert a.told == [("came", "a"), ("came", "b")]


async def test_who_goes_in_good_order_is_out_of_the_list_at_once_and_the_name_free(server: RedisServer) -> None:
    async with company(server) as all_:
        a, b = await all_.join("a"), await all_.join("b")
        await until(lambda: a.nodes.names == ["a", "b"])
        await b.nodes.leave()
        await until(lambda: a.nodes.names == ["a"])
        await beats(a, 2)
        assert a.told[-1] == ("gone", "b")
        assert (await all_.join("b")).nodes.is_listed


async def test_who_dies_is_out_of_the_list_after_the_lease(server: RedisServer) -> None:
    async with company(server) as all_:
        a, b = await all_.join("a", SOON_SECONDS), await all_.join("b", SOON_SECONDS)
        await until(lambda: a.nodes.names == ["a", "b"] and a.nodes.is_settled)
        await b.die()
        await until(lambda: a.nodes.names == ["a"])
        assert a.told.count(("gone", "b")) == 1


async def test_who_gives_signs_of_life_stays(server: RedisServer) -> None:
    async with company(server) as all_:
        a, b = await all_.join("a", SOON_SECONDS), await all_.join("b", SOON_SECONDS)
        await until(lambda: a.nodes.is_settled and b.nodes.is_settled)
        await beats(a, 12)
        assert (a.told, b.told) == ([("came", "a"), ("came", "b")], [("came", "a"), ("came", "b")])


async def test_a_name_that_a_live_process_has_is_refused_and_that_not_disturbed(server: RedisServer) -> None:
    async with company(server) as all_:
        first = await all_.join("a")
        second = all_.make("a")
        with pytest.raises(
            NodeNameTaken, match=r"'a', process \d+ on .*: expected a name of its own in `cluster.node`"
        ):
            await second.join()
        await beats(first, 2)
        assert (first.nodes.names, first.told) == (["a"], [("came", "a")])
        assert not second.nodes.is_listed
        assert "process" in (second.nodes.problem or "")


async def test_a_process_that_died_leaves_its_name_to_the_next_after_the_lease(server: RedisServer) -> None:
    async with company(server) as all_:
        witness, first = await all_.join("w", SOON_SECONDS), await all_.join("a", SOON_SECONDS)
        await until(lambda: witness.nodes.names == ["a", "w"])
        await first.die()
        second = await all_.join("a", SOON_SECONDS)
        await until(lambda: second.nodes.life in witness.nodes.lives)
        assert first.nodes.life not in witness.nodes.lives
        assert witness.told[2:] == [("gone", "a"), ("came", "a")]


async def test_nobody_is_out_of_the_list_because_redis_was_away(server: RedisServer) -> None:
    async with company(server) as all_:
        members = [await all_.join(name, SOON_SECONDS) for name in "abc"]
        await until(lambda: all(member.nodes.names == ["a", "b", "c"] for member in members))
        server.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(3 * SOON_SECONDS)  # what is tested is a time
        finally:
            server.send_signal(signal.SIGCONT)
        for member in members:
            await beats(member, 7)
        assert [word for member in members for word in member.told if word[0] == "gone"] == []


async def test_a_clock_of_redis_that_jumps_takes_nobody_out(server: RedisServer) -> None:
    async with company(server) as all_:
        a, b = await all_.join("a", SOON_SECONDS), await all_.join("b", SOON_SECONDS)
        await until(lambda: a.nodes.is_settled and a.nodes.names == ["a", "b"])
        with server.client() as client:
            key = f"{all_.prefix}:{{cluster}}:nodes"
            for milliseconds in (-3_600_000, 3_600_000):  # as they would be if the clock were set
                client.hincrby(key, "beat", milliseconds)
                for name in "ab":
                    client.zincrby(f"{key}:seen", milliseconds, name)
                await beats(a, 2)
        assert (a.told, b.told) == ([("came", "a"), ("came", "b")], [("came", "a"), ("came", "b")])
        await b.die()
        await until(lambda: a.nodes.names == ["a"])


async def test_who_was_cut_off_comes_back_as_the_same(server: RedisServer) -> None:
    async with company(server) as all_:
        a, b = await all_.join("a", SOON_SECONDS), await all_.join("b", SOON_SECONDS)
        await until(lambda: a.nodes.names == ["a", "b"])
        await b.go_away()
        assert not b.nodes.is_listed
        await until(lambda: a.nodes.names == ["a"])
        b.come_back()
        await until(lambda: b.nodes.is_listed and a.nodes.names == ["a", "b"])
        assert a.told == [("came", "a"), ("came", "b"), ("gone", "b"), ("came", "b")]
        assert b.nodes.life in a.nodes.lives


async def test_two_processes_of_one_name_are_never_taken_for_one(server: RedisServer) -> None:
    async with company(server) as all_:
        witness, first = await all_.join("w", SOON_SECONDS), await all_.join("a", SOON_SECONDS)
        await first.go_away()
        second = await all_.join("a", SOON_SECONDS)
        first.come_back()
        await until(lambda: first.nodes.problem is not None)
        await beats(witness, 3)
        assert (first.nodes.is_listed, second.nodes.is_listed) == (False, True)
        assert set(witness.nodes.lives) == {witness.nodes.life, second.nodes.life}
        await second.nodes.leave()
        await until(lambda: first.nodes.is_listed)
        assert first.nodes.problem is None


async def test_a_redis_without_its_data_hears_of_all_again_and_is_not_believed_before(tmp_path: Any) -> None:
    with redis_server(tmp_path) as server:
        async with company(server) as all_:
            a, b = await all_.join("a"), await all_.join("b")
            await until(lambda: a.nodes.names == ["a", "b"])
            server.kill()
            server.forget()
            server.start()
            await until(lambda: a.nodes.is_listed and b.nodes.is_listed and a.nodes.names == ["a", "b"])
            assert not a.nodes.is_settled


async def test_a_node_of_a_later_version_may_say_more_of_itself(server: RedisServer) -> None:
    async with company(server) as all_:
        a = await all_.join("a")
        later = await all_.join("b")
        later.nodes._about = b'{"version":"2.0","host":"h","pid":1,"zone":"north"}'
        await later.nodes.leave()
        later.nodes._has_left = False
        await until(lambda: later.nodes.is_listed and a.nodes.names == ["a", "b"])
        assert a.nodes.is_listed
        assert {node.version for node in a.nodes.lives.values()} == {"1.2", "2.0"}
