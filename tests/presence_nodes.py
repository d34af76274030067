"""Several nodes' presence in one event loop, over a real Redis, with a clock that a test moves for all of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from random import Random
from typing import Any, TypeAlias, cast

from bridges.redis_link import RedisLink
from bridges.redis_nodes import Node, RedisNodes
from bridges.redis_options import RedisOptions, RedisUnavailable
from bridges.redis_presence import RedisPresence
from gateway.core.clock import SystemClock
from gateway.core.counters import Counters
from gateway.core.presence import Attendees, Change, Member, PresenceBounds, Who
from tests.real import DEADLINE_SECONDS
from tests.redis import RedisServer
from tests.unit.conftest import HandClock

LEASE_SECONDS = 5.0


class RunningClock(HandClock):
    """A clock that goes on by itself too, as that of Redis does, but by which nothing is due before it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self._start = time.monotonic()

    def monotonic(self) -> float:
        return self.now + time.monotonic() - self._start


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
        self._loop = world.loop
        self._tasks = [self._loop.create_task(run()) for run in (self.presence.run, self.link.run)]

    def take(self) -> list[Change]:
        """What was told since the last time."""
        taken, self.told[:] = list(self.told), []
        return taken

    async def settle(self) -> None:
        """Until all is answered that was sent; what others have sent before has come by then."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await self._has_settled():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def _has_settled(self) -> bool:
        if not self.presence._is_loaded or self.presence._answered < self.presence._sent:
            return False
        try:
            await self.link.call("PING")
        except RedisUnavailable:  # so the connection is lost, which wasn't known yet
            return False
        return self.presence._is_loaded

    @property
    def is_away(self) -> bool:
        """Whether it is cut off from Redis."""
        return len(self._tasks) == 1

    async def go_away(self) -> None:
        """Be cut off from Redis."""
        link = self._tasks.pop()
        link.cancel()
        await asyncio.wait([link])

    def come_back(self) -> None:
        """Reach Redis again."""
        self._tasks.append(self._loop.create_task(self.link.run()))

    async def die(self) -> None:
        """As a process that is killed: nothing more is sent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


class PresenceWorld:
    """Nodes that share a Redis, and its namespace of their own."""

    prefixes = count()

    def __init__(
        self, server: RedisServer, loop: asyncio.AbstractEventLoop, bounds: PresenceBounds | None = None
    ) -> None:
        self.server = server
        self.loop = loop
        self.clock = RunningClock()
        self.bounds = bounds or PresenceBounds()
        self.prefix = f"test-{next(self.prefixes)}"
        self.lives: dict[str, Node] = {}
        self.nodes: list[PresenceNode] = []
        self._numbers = count()
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
            await asyncio.gather(*(node.settle() for node in self.nodes if not node.is_away))

    def key(self, name: str) -> str:
        """A key of the namespace."""
        return f"{self.prefix}:{{ns:default}}:{name}"

    def join(self) -> PresenceNode:
        """Another node."""
        life = f"life{next(self._numbers)}"
        self.lives[life] = Node(life, life, 0.0, "1", "here", 1)

        def start() -> PresenceNode:
            node = PresenceNode(self, life)
            self.nodes.append(node)
            for each in self.nodes:
                each.list.hear()
            return node

        started: PresenceNode = self.do(start)
        return started

    def hear(self) -> None:
        """Let all nodes be told twice which there are."""
        for _ in range(2):
            for node in self.nodes:
                node.list.hear()

    def kill(self, node: PresenceNode) -> None:
        """Let a node die, and the others hear of it, after the lease, by the list that comes twice."""
        self.nodes.remove(node)

        async def kill() -> None:
            await node.die()
            del self.lives[node.life]
            self.hear()

        self.do(kill)

    def advance(self, seconds: float) -> None:
        """Let time pass, for the nodes and in Redis."""
        self.shift(seconds)
        self.do(lambda: self.clock.advance(seconds))

    def shift(self, seconds: float) -> None:
        """Let time pass in Redis."""
        for name, unit in (("presence:leaving", 1000), ("presence:words", 1_000_000)):
            times: Any = self._redis.zrange(self.key(name), 0, -1, withscores=True)
            if times:
                self._redis.zadd(self.key(name), {member: at - seconds * unit for member, at in times})

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


Make: TypeAlias = Callable[..., tuple[PresenceWorld, list[PresenceNode]]]


@contextmanager
def worlds() -> Iterator[Make]:
    """Makes worlds, each with some nodes."""
    with ExitStack() as made:

        def make(
            server: RedisServer, count: int = 3, bounds: PresenceBounds | None = None
        ) -> tuple[PresenceWorld, list[PresenceNode]]:
            world = made.enter_context(presence_world(server, bounds))
            return world, [world.join() for _ in range(count)]

        yield make


ANN, BOB, EVE = Who("user", "ann"), Who("user", "bob"), Who("session", "eve")
FAN, LAMP = Who("device", "fan"), Who("device", "lamp")
THERE = (Member(ANN), Member(BOB, b'"busy"'), Member(EVE), Member(FAN))
"""Who a crowd is."""


def crowd(world: PresenceWorld, nodes: list[PresenceNode]) -> None:
    """One session at each of three nodes, a state, and a device."""
    for node, who in zip(nodes, (ANN, BOB, EVE), strict=True):
        world.do(lambda node=node, who=who: node.presence.enter("hall", who, who.name))  # type: ignore[misc]
    world.do(lambda: nodes[1].presence.set_state("hall", BOB, b'"busy"'))
    world.do(lambda: nodes[2].presence.enter("hall", FAN, "plant status/fan"))
    for node in nodes:
        node.take()
