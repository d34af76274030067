"""What the suite of presence's promises acts on: one process, a node, and a node that is seen from another one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias

from gateway.core.counters import Counters
from gateway.core.presence import Attendees, Change, Kind, PresenceBounds, Roster
from gateway.core.presence_memory import MemoryPresence, Presence
from tests.presence_nodes import PresenceNode, PresenceWorld, presence_world
from tests.redis import RedisServer
from tests.unit.conftest import HandClock


class Bench(Protocol):
    """A presence, and what is told of it."""

    counters: Counters

    def act(self, act: Callable[[Presence], None]) -> None: ...

    def advance(self, seconds: float) -> None: ...

    def take(self) -> list[Change]: ...

    def attendees(self, room: str) -> Attendees: ...

    def kinds(self) -> Mapping[Kind, int]: ...


class MemoryBench:
    def __init__(self, bounds: PresenceBounds) -> None:
        self.clock, self.counters, self.told = HandClock(), Counters(), list[Change]()
        self.presence = MemoryPresence(Roster(bounds, self.clock, self.counters), self.clock)
        self.presence.attach(self.told.append)

    def act(self, act: Callable[[Presence], None]) -> None:
        act(self.presence)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def take(self) -> list[Change]:
        told, self.told[:] = list(self.told), []
        return told

    def attendees(self, room: str) -> Attendees:
        found: list[Attendees] = []
        self.presence.ask(room, found.append)
        return found[0]

    def kinds(self) -> Mapping[Kind, int]:
        return self.presence.kinds


class RedisBench:
    """Acts at one node, and listens at another or at the same."""

    def __init__(self, world: PresenceWorld, actor: PresenceNode, listener: PresenceNode) -> None:
        self._world, self._actor, self._listener = world, actor, listener
        self.counters = actor.counters

    def act(self, act: Callable[[Presence], None]) -> None:
        self._world.do(lambda: act(self._actor.presence))

    def advance(self, seconds: float) -> None:
        self._world.advance(seconds)

    def take(self) -> list[Change]:
        return self._listener.take()

    def attendees(self, room: str) -> Attendees:
        return self._world.attendees(self._listener, room)

    def kinds(self) -> Mapping[Kind, int]:
        return self._listener.presence.kinds


Make: TypeAlias = Callable[[PresenceBounds, RedisServer], AbstractContextManager[Bench]]


@contextmanager
def memory(bounds: PresenceBounds, server: RedisServer) -> Iterator[Bench]:
    yield MemoryBench(bounds)


@contextmanager
def redis(bounds: PresenceBounds, server: RedisServer) -> Iterator[Bench]:
    with presence_world(server, bounds) as world:
        node = world.join()
        yield RedisBench(world, node, node)


@contextmanager
def redis_from_another_node(bounds: PresenceBounds, server: RedisServer) -> Iterator[Bench]:
    with presence_world(server, bounds) as world:
        yield RedisBench(world, world.join(), world.join())


PROVIDERS = [memory, redis, redis_from_another_node]
