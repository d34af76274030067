"""What one Redis carries: the engine's script as fast as Redis runs it, with so many nodes that are told.

The batches are those that a gateway sends, made beforehand; one thread writes them to one connection, and reads what
comes by the others, which stand for nodes: it looks at nothing, so Redis is what is measured. A bare SPUBLISH of as
many bytes, which keeps nothing and gives no order, stands beside it. At a rate below the highest a message costs more:
Redis has fewer of them at a time, and writes to each node for fewer.
"""

import asyncio
import math
import selectors
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import hiredis

from benchmarks.bench import Result, Size
from benchmarks.cluster_bench import waiting_seconds
from benchmarks.peers.speech import json_payload
from benchmarks.workloads import Workload, topics
from bridges.redis import RedisEngine
from bridges.redis_link import RedisLink, Replied, Script, Word
from bridges.redis_options import RedisOptions
from gateway.core.clock import SystemClock
from gateway.core.counters import Counters
from gateway.core.engine import Publication
from gateway.core.log import LogBounds
from gateway.core.payload import Payload
from gateway.core.retention import Retention
from tests.redis import RedisServer, redis_server

__all__ = ["REDIS", "SATURATIONS", "Saturation", "row_of"]

LAST: Final = Retention()
HISTORY: Final = Retention(messages=100)
DURABLE: Final = ("appendonly yes",)
CHANNELS: Final = f"{RedisOptions(()).key('default', 'room')}:"
END: Final = b"@end@\r\n"
"""What nodes are told last, as it ends on the wire."""
WINDOW: Final = 32
"""Batches that are written and not answered yet: enough that Redis never waits."""
READ_BYTES: Final = 1 << 20
PACED: Final = 5000.0
PUBLICATIONS_PER_SECOND: Final = 20_000
"""How many are made for each second of measuring; each is some 300 bytes of memory."""


@dataclass(frozen=True)
class Saturation:
    """One way to load a Redis, with so many nodes that are told all."""

    nodes: int
    batch: int = 16
    """Publications in one run of the script: what one turn of a gateway's loop brings."""
    retention: Retention = LAST
    options: tuple[str, ...] = ()
    rate: float = 0
    """Publications a second; 0 for as many as Redis takes."""
    bare: bool = False


SATURATIONS: Final = {
    "0 nodes": Saturation(0),
    "1 node": Saturation(1),
    "2 nodes": Saturation(2),
    "3 nodes": Saturation(3),
    "8 nodes": Saturation(8),
    "2 nodes, 1 publication a run": Saturation(2, batch=1),
    "2 nodes, history of 100": Saturation(2, retention=HISTORY),
    "2 nodes, history, append-only file": Saturation(2, retention=HISTORY, options=DURABLE),
    "2 nodes, bare SPUBLISH": Saturation(2, bare=True),
    "0 nodes, 5,000/s": Saturation(0, rate=PACED),
    "2 nodes, 5,000/s": Saturation(2, rate=PACED),
    "8 nodes, 5,000/s": Saturation(8, rate=PACED),
}


def row_of(name: str) -> str:
    """What it is called in tables."""
    return f"Redis, {name}"


def saturate(case: Saturation, size: Size) -> Result:
    """Measure it."""
    count = max(case.batch * 20, round((case.rate or PUBLICATIONS_PER_SECOND) * size.seconds * size.share))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(redis_server(folder, *case.options))
        greeting, *commands = asyncio.run(_record(case, count, server.port))
        if case.bare:
            commands = _bare(case, count)
        with server.client() as client:
            client.flushall()  # the scripts stay
        traffic = stack.enter_context(_Traffic(server.port, case.nodes))
        traffic.run([greeting], 0)
        warm = len(commands) // 10
        between_seconds = case.batch / case.rate if case.rate else 0.0
        traffic.run(commands[:warm], between_seconds)
        own, waited = time.process_time(), waiting_seconds()
        cpu, told, begun = _cpu_seconds(server), traffic.told_bytes, time.monotonic()
        traffic.run(commands[warm:], between_seconds)
        seconds, used, own = time.monotonic() - begun, _cpu_seconds(server) - cpu, time.process_time() - own
    published = (len(commands) - warm) * case.batch
    return {
        "publications_per_second": published / seconds,
        "redis_microseconds_per_message": used / published * 1e6,
        "redis_cpu_share": used / seconds,
        "generator_cpu_share": own / seconds,
        "waiting_share": (waiting_seconds() - waited) / seconds,
        "asked_bytes_per_message": sum(map(len, commands[warm:])) / published,
        "told_bytes_per_message": (traffic.told_bytes - told) / published,
    }


def _cpu_seconds(server: RedisServer) -> float:
    with server.client() as client:
        said = client.info("cpu")
    return float(said["used_cpu_user"]) + float(said["used_cpu_sys"])


class _Recording(RedisLink):
    """A gateway's link, which keeps what it asks."""

    def __init__(self, port: int) -> None:
        super().__init__(RedisOptions((("127.0.0.1", port),)), "default", SystemClock(), Random(0))
        self.commands: list[bytes] = []

    def evaluate(self, script: Script, arguments: Sequence[Word], done: Replied) -> None:
        """Keep it, and ask."""
        self.commands.append(_packed("EVALSHA", script.sha, 1, self.key("meta"), *arguments))
        super().evaluate(script, arguments, done)


def _rooms() -> list[str]:
    return [topic.replace("sensors/", "sites/", 1) for topic in topics(1000)]


async def _record(case: Saturation, count: int, port: int) -> list[bytes]:
    """What a gateway asks for so many messages of 100 bytes, each of another device's value; a greeting comes first."""
    link, rooms, payload = _Recording(port), _rooms(), Payload(json_payload())
    engine = RedisEngine(link, LogBounds(), SystemClock(), Random(0), Counters())
    engine.attach(lambda _: None)
    running = asyncio.ensure_future(link.run())
    await engine.ready.wait()
    stored = asyncio.Event()
    for number in range(count // case.batch):
        stored.clear()
        for at in range(number * case.batch, (number + 1) * case.batch):
            room = rooms[at % len(rooms)]
            engine.publish([Publication(room, payload, case.retention, topic=room)], lambda _: stored.set())
        await stored.wait()
    running.cancel()
    return link.commands


def _bare(case: Saturation, count: int) -> list[bytes]:
    told = b"e1 1234567 1234467 1234567 k 100 " + b"x" * 100 + json_payload()
    rooms = _rooms()
    each = [_packed("SPUBLISH", f"{CHANNELS}{rooms[at % len(rooms)]}", told) for at in range(count)]
    return [b"".join(each[at : at + case.batch]) for at in range(0, count, case.batch)]


def _packed(*command: Word) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub means one word
    return packed


class _Traffic:
    """One connection that publishes, and those of nodes, all served by this thread."""

    def __init__(self, port: int, nodes: int) -> None:
        self.told_bytes = 0
        self._selector = selectors.DefaultSelector()
        self._replies = hiredis.Reader()
        self._tails: dict[object, bytes] = {}
        """The last bytes that came to each node."""
        self._publisher = self._connect(port)
        for _ in range(nodes):
            node = self._connect(port)
            _subscribe(node)
            self._tails[node] = b""

    def __enter__(self) -> "_Traffic":
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _connect(self, port: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ)
        return connection

    def _receive(self, wanted: float, until: float | None = None) -> int:
        """Read from all until so many replies have come to who publishes, or until a time; how many did."""
        found = 0
        while found < wanted and (until is None or time.monotonic() < until):
            found += self._receive_once(None if until is None else max(0.0, until - time.monotonic()))
        return found

    def _receive_once(self, timeout_seconds: float | None = None) -> int:
        found = 0
        for key, _ in self._selector.select(timeout_seconds):
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(READ_BYTES)
            if not data:
                raise RuntimeError("Redis has closed a connection")
            if key.fileobj is self._publisher:
                self._replies.feed(data)
                found += sum(1 for _ in self._answers())
            else:
                self.told_bytes += len(data)
                self._tails[key.fileobj] = (self._tails[key.fileobj] + data[-len(END) :])[-len(END) :]
        return found

    def _answers(self) -> Iterator[Any]:
        while (reply := self._replies.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
            yield reply

    def run(self, commands: Sequence[bytes], between_seconds: float) -> None:
        """Publish all, with a few under way at a time; or one after the other, so far apart. All nodes are told all."""
        under_way: deque[int] = deque()
        answered, due = 0, time.monotonic()
        for command in commands:
            replies = command.count(b"SPUBLISH") or 1
            under_way.append(replies)
            self._publisher.sendall(command)
            if between_seconds:
                due += between_seconds
                answered += self._receive(math.inf, due)
            elif len(under_way) >= WINDOW:
                answered += self._receive(1)
            while under_way and answered >= under_way[0]:
                answered -= under_way.popleft()
        self._receive(sum(under_way) - answered)
        self._publisher.sendall(_packed("SPUBLISH", f"{CHANNELS}{_rooms()[0]}", END.strip()))
        answered = 0
        while not answered or any(tail != END for tail in self._tails.values()):
            answered += self._receive_once()
        self._tails = dict.fromkeys(self._tails, b"")


def _subscribe(connection: socket.socket) -> None:
    """To all rooms; returns once Redis has confirmed that."""
    rooms = _rooms()
    connection.sendall(b"".join(_packed("SSUBSCRIBE", f"{CHANNELS}{room}") for room in rooms))
    reader, confirmed = hiredis.Reader(), 0
    while confirmed < len(rooms):
        reader.feed(connection.recv(READ_BYTES))
        while reader.gets() is not False:
            confirmed += 1


REDIS: Final = Workload[tuple[Saturation, Size]](
    "redis",
    "One Redis, with all that a gateway asks of it as fast as it answers; each message goes to all nodes",
    lambda on: saturate(*on),
    "redis_microseconds_per_message",
    (
        "publications_per_second",
        "redis_cpu_share",
        "generator_cpu_share",
        "asked_bytes_per_message",
        "told_bytes_per_message",
    ),
    less_is_better=True,
)
