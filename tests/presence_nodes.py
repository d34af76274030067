"""Several nodes' presence in one event loop, over a real Redis, with a clock that a test moves for all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any, cast

from bridges.redis_link import RedisLink
from bridges.redis_nodes import Node, RedisNodes
from bridges.redis_options import RedisOptions
from bridges.redis_presence import RedisPresence
from gateway.core.clock import SystemClock
from gateway.core.counters import Counters
from gateway.core.presence import Attendees, Change, PresenceBounds
from tests.real import DEADLINE_SECONDS
from tests.redis import RedisServer
from tests.unit.conftest import HandClock

LEASE_SECONDS = 5.0


class List:
    """What a node is told of the list of nodes, by the test."""

    def __init__(self, world: "PresenceWorld", life: str) -> None:
        self.life = life
        self.lease_seconds = LEASE_SECONDS
        self.lives: dict[str, Node] = {}
        self.is_listed = self.is_settled = True
        self.heard: list[Callable[[], None]] = []
        self._world = world

    def hear(self) -> None:
        """The list comes again."""
        self.lives = dict(self._world.lives)
        for tell in self.heard:
            tell()


class PresenceNode:
    """One node: its link to Redis, its presence, and all that was told there."""

    def __init__(self, world: "PresenceWorld", life: str) -> None:
        self.life = life
        self.counters = Counters()
        self.told: list[Change] = []
        self.refused: list[tuple[str, str]] = []
        self.list = List(world, life)
        options = RedisOptions(
            (("127.0.0.1", world.server.port),),
            prefix=world.prefix,
            node=life,
            reconnect_min_seconds=0.01,
            reconnect_max_seconds=0.05,
        )
        self.link = RedisLink(options, "ns:default", SystemClock(), Random())
        self.presence = RedisPresence(
            self.link, cast(RedisNodes, self.list), world.bounds, world.clock, Random(), self.counters
        )
        self.presence.attach(self.told.append, lambda room, source, _: self.refused.append((room, source)))
        self._tasks = [asyncio.ensure_future(run()) for run in (self.link.run, self.presence.run)]

    def take(self) -> list[Change]:
        """What was told since the last time."""
        taken, self.told[:] = list(self.told), []
        return taken

    async def settle(self) -> None:
        """Until all is answered that was sent; what others have sent before has come by then."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self.presence._is_loaded or self.presence._answered < self.presence._sent:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await self.link.call("PING")

    async def die(self) -> None:
        """As a process that is killed: nothing more is sent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


class PresenceWorld:
    """Nodes that share a Redis, and its namespace of their own."""

    numbers = count()

    def __init__(
        self, server: RedisServer, loop: asyncio.AbstractEventLoop, bounds: PresenceBounds | None = None
    ) -> None:
        self.server = server
        self.loop = loop
        self.clock = HandClock()
        self.bounds = bounds or PresenceBounds()
        self.prefix = f"test-{next(self.numbers)}"
        self.lives: dict[str, Node] = {}
        self.nodes: list[PresenceNode] = []
        self._redis = server.client()

    def do(self, act: Callable[[], Any]) -> Any:
        """Do something in the event loop, and let all nodes hear what it leads to."""

        async def done() -> Any:
            found = act()
            if isinstance(found, Awaitable):
                await found
            await self._settle()
            return found

        return self.loop.run_until_complete(done())

    async def _settle(self) -> None:
        for _ in range(3):  # what is told may lead to something again
            for node in self.nodes:
                await node.settle()

    def key(self, name: str) -> str:
        """A key of the namespace."""
        return f"{self.prefix}:{{ns:default}}:{name}"

    def join(self) -> PresenceNode:
        """Another node."""
        life = f"life{len(self.lives)}"
        self.lives[life] = Node(life, life, 0.0, "1", "here", 1)

        def start() -> PresenceNode:
            node = PresenceNode(self, life)
            self.nodes.append(node)
            for each in self.nodes:
                each.list.hear()
            return node

        started: PresenceNode = self.do(start)
        return started

    def kill(self, node: PresenceNode) -> None:
        """Let a node die, and the others hear of it, after the lease, by the list that comes twice."""
        self.nodes.remove(node)

        async def kill() -> None:
            await node.die()
            del self.lives[node.life]
            for _ in range(2):
                for each in self.nodes:
                    each.list.hear()

        self.do(kill)

    def advance(self, seconds: float) -> None:
        """Let time pass, for the nodes and in Redis."""
        for name in ("presence:leaving", "presence:words"):
            ends: Any = self._redis.zrange(self.key(name), 0, -1, withscores=True)
            if ends:
                self._redis.zadd(self.key(name), {member: end - seconds * 1000 for member, end in ends})
        self.do(lambda: self.clock.advance(seconds))

    def attendees(self, node: PresenceNode, room: str) -> Attendees:
        """Who is in a room, as a node answers."""
        found: list[Attendees] = []
        self.do(lambda: node.presence.ask(room, found.append))
        return found[0]

    def close(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            self.loop.run_until_complete(node.die())
        self._redis.close()


@contextmanager
def presence_world(server: RedisServer, bounds: PresenceBounds | None = None) -> Iterator[PresenceWorld]:
    """A world, which is ended."""
    loop = asyncio.new_event_loop()
    world = PresenceWorld(server, loop, bounds)
    try:
        yield world
    finally:
        world.close()
        loop.close()
