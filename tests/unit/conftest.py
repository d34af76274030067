from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
import pytest

from gateway.core.conversation import Conversation
from gateway.core.counters import Counters
from gateway.core.delivery import Delivery, Receipt
from gateway.core.engine_memory import MemoryEngine
from gateway.core.errors import TidegateError
from gateway.core.limits import Limits
from gateway.core.log import Log, LogBounds
from gateway.core.message import Cursor, Message
from gateway.core.namespace import Done, Namespace
from gateway.core.presence import PresenceBounds, Roster
from gateway.core.presence_memory import MemoryPresence
from gateway.core.role_limits import RoleLimits
from gateway.core.room_rules import RoomRule, RoomRules
from gateway.core.routing import Direction, PayloadKind, RouteSpec, RoutingTable
from gateway.core.session import Session
from gateway.core.sink import Framing
from gateway.core.upstream import ReplyTo
from gateway.core.wire_requests import Subscribe


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
    paused: bool = False
    full_after: int = 10**9
    """How many objects the client takes."""
    session: Session | None = None
    """Who is told that it takes no more."""

    frame: Framing = plain
    joins: bool = False

    @property
    def framing(self) -> Framing:
        return self.frame

    @property
    def fan_out(self) -> Callable[[bytes], None]:
        return self.write

    def write(self, data: bytes) -> None:
        self.written.append(orjson.loads(data))
        if self.session is not None and len(self.written) >= self.full_after and not self.paused:
            self.paused = True
            self.session.pause()

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

    answer_at_once: bool = True
    waiting: list[Done] = field(default_factory=list)
    reply_topic: str | None = None
    replies_to: list[ReplyTo | None] = field(default_factory=list)

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool, done: Done, *, reply_to: ReplyTo | None = None
    ) -> None:
        self.replies_to.append(reply_to)
        self.published.append((topic, payload, qos, retain))
        if self.answer_at_once:
            done(self.error)
        else:
            self.waiting.append(done)


@dataclass
class World:
    """A namespace with everything around it in reach."""

    clock: HandClock
    counters: Counters
    namespace: Namespace
    upstream: ListUpstream
    log: Log

    def join(self) -> tuple[Session, ListSink, Conversation]:
        sink = ListSink()
        session = self.namespace.open("websocket", sink)
        return session, sink, Conversation(session, self.namespace, self.counters)

    def subscribe(self, session: Session, room: str, since: str | None = None) -> None:
        self.namespace.subscribe(session, Subscribe(None, (room,), None if since is None else Cursor.parse(since)))

    def last(self, room: str) -> list[Message]:
        return last_values(self.namespace, room)

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


def last_values(namespace: Namespace, room: str) -> list[Message]:
    """The last values of a room or pattern, asked of an engine that answers at once."""
    found: list[Message] = []
    namespace.last(room, lambda _, values: found.extend(values))
    return found


ROOMY = Limits(idle_seconds=None, publishes_per_room_burst=100_000)
"""For tests of other things, which count timers and publish much."""


def make_namespace(
    name: str,
    routes: list[RouteSpec],
    limits: Limits | None = None,
    rules: list[RoomRule] | None = None,
    by_role: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Namespace, HandClock, Log]:
    """A namespace with an engine in memory; its cursors begin with its name."""
    clock, counters, limits = (
        HandClock(),
        Counters(),
        limits or ROOMY,
    )
    log = Log(LogBounds(limits.last_values, limits.log_bytes), clock, counters)
    engine = MemoryEngine(name, log, clock, counters)
    routing = RoutingTable(routes, ["embedded"])
    bounds = PresenceBounds(5, limits.presence_members_told, limits.presence_members)
    presence = MemoryPresence(Roster(bounds, clock, counters), clock)
    role_limits = RoleLimits(limits, by_role)
    namespace = Namespace(
        name, routing, RoomRules(rules or []), engine, role_limits, clock, Random(7), counters, presence
    )
    return namespace, clock, log


def make_world(
    limits: Limits | None = None,
    routes: list[RouteSpec] | None = None,
    rules: list[RoomRule] | None = None,
    by_role: Mapping[str, Mapping[str, Any]] | None = None,
) -> World:
    namespace, clock, log = make_namespace("epoch", ROUTES[:4] if routes is None else routes, limits, rules, by_role)
    upstream = ListUpstream()
    namespace.connect({"embedded": upstream})
    return World(clock, namespace.counters, namespace, upstream, log)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def world() -> World:
    return make_world()
