"""A node's part of the engine in Redis, with all that it says, for tests that are coroutines."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from bridges.redis import RedisEngine
from bridges.redis_link import RedisLink
from bridges.redis_options import RedisOptions
from gateway.core.clock import SystemClock
from gateway.core.counters import Counters
from gateway.core.engine import Publication, Reading, Span, Wanted
from gateway.core.errors import TidegateError
from gateway.core.log import LogBounds
from gateway.core.message import Message
from gateway.core.payload import Payload
from gateway.core.receipts import Entry
from gateway.core.retention import Retention
from tests.real import DEADLINE_SECONDS


@dataclass
class Node:
    """One engine, and what it has delivered and said."""

    engine: RedisEngine
    link: RedisLink
    counters: Counters
    running: asyncio.Task[None]
    delivered: list[Message] = field(default_factory=list)
    said: list[TidegateError | None] = field(default_factory=list)
    interrupted: list[tuple[set[str] | None, int | None]] = field(default_factory=list)

    def publish(self, room: str, data: bytes = b"1", receipt: Entry | None = None, **more: Any) -> None:
        """Publish one message; `said` has what comes of it."""
        publication = Publication(room, Payload(data), **{"retention": Retention(messages=1000), **more})
        self.engine.publish([publication], self.said.append, receipt)

    async def read(self, limit: int = 1000, **wanted: int | None) -> Reading:
        """What these rooms have after these places."""
        asked = {room: Wanted(0, place) for room, place in wanted.items()}
        return await self.read_all(asked, limit)

    async def read_all(self, asked: dict[str, Wanted], limit: int = 1000) -> Reading:
        """What is lacking."""
        found: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        self.engine.read(asked, limit, found.set_result)
        return await asyncio.wait_for(found, DEADLINE_SECONDS)

    async def history(self, span: Span) -> tuple[tuple[Message, ...], bool]:
        """What is kept."""
        found: asyncio.Future[tuple[tuple[Message, ...], bool]] = asyncio.get_running_loop().create_future()
        self.engine.history(span, lambda messages, complete: found.set_result((messages, complete)))
        return await asyncio.wait_for(found, DEADLINE_SECONDS)

    @property
    def numbers(self) -> list[int]:
        """The data of what was delivered, as numbers."""
        return [int(message.data) for message in self.delivered]


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Let the event loop turn until that is so."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert condition(), what


@asynccontextmanager
async def node(
    port: int | tuple[tuple[str, int], ...],
    *watched: str,
    tag: str = "default",
    bounds: LogBounds | None = None,
    silence_seconds: float = 5,
    **options: Any,
) -> AsyncIterator[Node]:
    """A node that is connected and watches these rooms."""
    clock, counters = SystemClock(), Counters()
    addresses = (("127.0.0.1", port),) if isinstance(port, int) else port
    given = RedisOptions(addresses, silence_seconds=silence_seconds, reconnect_max_seconds=0.2, **options)
    link = RedisLink(given, tag, clock, Random())
    engine = RedisEngine(link, bounds or LogBounds(), clock, Random(), counters)
    running = asyncio.ensure_future(link.run())
    made = Node(engine, link, counters, running)
    engine.attach(
        made.delivered.append,
        lambda filters, place: made.interrupted.append((None if filters is None else set(filters), place)),
    )
    engine.start()
    for room_filter in watched:
        engine.watch(room_filter)
    try:
        await asyncio.wait_for(engine.ready.wait(), DEADLINE_SECONDS)
        yield made
    finally:
        running.cancel()
        await asyncio.wait((running,))
