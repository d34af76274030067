from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import orjson
import pytest

from gateway.core.conversation import Conversation
from gateway.core.counters import Counters
from gateway.core.delivery import Delivery, Receipt
from gateway.core.errors import TidegateError
from gateway.core.limits import Limits
from gateway.core.namespace import Done, Namespace
from gateway.core.routing import Direction, PayloadKind, RouteSpec, RoutingTable
from gateway.core.session import Session
from gateway.core.sink import Framing


class HandTimer:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[HandTimer] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_764_000_000 + self.now

    def call_later(self, delay_seconds: float, callback: Callable[[], None]) -> HandTimer:
        timer = HandTimer(self.now + delay_seconds, callback)
        self.timers.append(timer)
        return timer

    @property
    def waiting(self) -> int:
        """How many calls are to come."""
        return sum(timer.callback is not None for timer in self.timers)

    def advance(self, seconds: float) -> None:
        """Let time pass, with all calls that are due on the way, in order."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.at <= end]:
            timer = min(due, key=lambda timer: timer.at)
            self.timers.remove(timer)
            self.now = max(self.now, timer.at)
            if timer.callback is not None:
                timer.callback()
        self.now = end


def plain(kind: str, text: bytes, cursor: str | None) -> bytes:
    return text


@dataclass(eq=False)
class ListSink:
    """Keeps what is written."""

    written: list[dict[str, object]] = field(default_factory=list)
    closed: tuple[int, str] | None = None

    @property
    def framing(self) -> Framing:
        return plain

    def write(self, data: bytes) -> None:
        self.written.append(orjson.loads(data))

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def take(self) -> list[dict[str, object]]:
        taken, self.written[:] = list(self.written), []
        return taken


@dataclass
class ListUpstream:
    """Keeps what is published, and answers what it is told to."""

    published: list[tuple[str, bytes, int, bool]] = field(default_factory=list)
    error: TidegateError | None = None

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, done: Done) -> None:
        self.published.append((topic, payload, qos, retain))
        done(self.error)


@dataclass
class World:
    """A namespace with everything around it in reach."""

    clock: HandClock
    counters: Counters
    namespace: Namespace
    upstream: ListUpstream

    def join(self) -> tuple[Session, ListSink, Conversation]:
        sink = ListSink()
        session = self.namespace.open("websocket", sink)
        return session, sink, Conversation(session, self.namespace, self.counters)

    def device(self, topic: str, payload: bytes, *, retained: bool = False, receipt: Receipt | None = None) -> int:
        """Let a device say something; how often the broker would be told that it is handled."""
        stored: list[None] = []
        self.namespace.receive(Delivery("embedded", topic, payload, retained, receipt), lambda: stored.append(None))
        return len(stored)


ROUTES = [
    RouteSpec("sensors/{site}/{device}/{metric}", "sites/{site}/{device}/{metric}", payload=PayloadKind.JSON),
    RouteSpec("lamps/{name}", "lamps/all", payload=PayloadKind.AUTO),
    RouteSpec("fleeting/{name}", "fleeting/{name}", last=False),
    RouteSpec(
        "commands/{device}", "devices/{device}/commands", Direction.TO_DEVICE, PayloadKind.JSON, qos=1, retain=True
    ),
    RouteSpec("copies/{device}", "devices/{device}/commands", Direction.TO_DEVICE, PayloadKind.TEXT),
]


def make_world(limits: Limits | None = None, routes: list[RouteSpec] | None = None) -> World:
    clock, counters, upstream = HandClock(), Counters(), ListUpstream()
    routing = RoutingTable(ROUTES[:4] if routes is None else routes, ["embedded"])
    namespace = Namespace("default", routing, limits or Limits(), clock, Random(7), counters)
    namespace.connect({"embedded": upstream})
    return World(clock, counters, namespace, upstream)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def world() -> World:
    return make_world()
