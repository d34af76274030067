"""The way to Redis: one connection, over which commands are answered in order, and pushes come in between.

That all goes over one connection is what makes answers and pushes one order, Redis' own (RESP3): a push that comes
before an answer was published before the command was run. Commands of one turn of the event loop are one write. A
connection that is lost, or silent for too long, is made again for ever.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha1
from random import Random
from typing import Any, Final, TypeAlias

import hiredis
from redis.asyncio.connection import Connection

from bridges.redis_options import RedisOptions, RedisUnavailable
from bridges.redis_servers import connect
from gateway.core.clock import Clock

__all__ = ["RedisLink", "RedisRefused", "Replied", "Script"]

logger = logging.getLogger(__name__)

BEAT_SECONDS: Final = 1.0
"""How often it is looked whether the server still answers."""
READ_BYTES: Final = 256 * 1024
ELSEWHERE: Final = (
    "MOVED ",
    "ASK ",
    "CLUSTERDOWN ",
    "READONLY ",
    "LOADING ",
    "MASTERDOWN ",
    "NOSCRIPT ",
    "TRYAGAIN ",
    "NOPERM ",
    "BUSY ",
)
"""What a server says that isn't, or isn't any more, the right one, or has forgotten the scripts: look for it anew.

And what subscriptions may be answered with, whose answer is a push: nobody waits for an error in its place.
"""
CHANNELS_A_COMMAND: Final = 500


class RedisRefused(Exception):
    """Redis answered a command with an error."""


class _Incomplete:
    """What the reader says while a reply isn't whole."""


INCOMPLETE: Final = _Incomplete()

Word: TypeAlias = str | bytes | int | float
Reply: TypeAlias = Any
"""What hiredis makes of a reply: bytes, int, float, None, list or dict."""
Replied: TypeAlias = Callable[[Reply | RedisRefused | RedisUnavailable], None]
Pushed: TypeAlias = Callable[[bytes], None]


class Script:
    """A server-side script; a link loads those that it was given."""

    __slots__ = ("sha", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()  # how Redis names scripts


class RedisLink:
    """One connection to the server that has the keys of a hash tag; `run` keeps it."""

    def __init__(
        self, options: RedisOptions, tag: str, clock: Clock, random: Random, scripts: Sequence[Script] = ()
    ) -> None:
        self.options = options
        self.tag = tag
        self.problem: str | None = "not connected yet"
        """Why there is no connection, if so."""
        self.connected: list[Callable[[], None]] = []
        """Called, in order, as soon as there is a connection: channels are subscribed, nothing else was sent."""
        self.lost: list[Callable[[], None]] = []
        """Called once it is lost, after what was under way was answered with `RedisUnavailable`."""
        self.settled: list[Callable[[], None]] = []
        """Called after all that one read has brought."""
        self.burst: AbstractContextManager[None] = nullcontext()
        """Around that; it is entered again and again."""
        self._scripts = list(scripts)
        self._clock = clock
        self._random = random
        self._channels: dict[bytes, Pushed] = {}
        self._leaving: dict[bytes, deque[Pushed]] = {}
        """Who takes what comes by channels that were unsubscribed, until the server says that no more will come."""
        self._connection: Connection | None = None
        self._waiting: deque[tuple[float, Replied]] = deque()
        self._unsent: list[bytes] = []

    def key(self, name: str) -> str:
        """The name of a key with this link's tag."""
        return self.options.key(self.tag, name)

    def add_script(self, script: Script) -> None:
        """Have a script loaded with each connection; before `run`."""
        self._scripts.append(script)

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    def send(self, done: Replied, *command: Word) -> None:
        """Send a command with others of this turn; `done` gets the reply, or why there is none."""
        if self._connection is None:
            done(RedisUnavailable(self.problem or "not connected"))
            return
        self._put(_packed(*command), done)

    def evaluate(self, script: Script, arguments: Sequence[Word], done: Replied) -> None:
        """Run a script, whose one key is `meta` (all others are made from its name)."""
        self.send(done, "EVALSHA", script.sha, 1, self.key("meta"), *arguments)

    async def call(self, *command: Word) -> Reply:
        """Send a command and wait for its reply.

        Raises:
            RedisRefused, RedisUnavailable: there is none.
        """
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answer(found: Reply) -> None:
            if not reply.done():  # who asked may wait no more
                reply.set_result(found)

        self.send(answer, *command)
        found = await reply
        if isinstance(found, (RedisRefused, RedisUnavailable)):
            raise found
        return found

    def subscribe(self, channel: str, handler: Pushed) -> None:
        """Hand on what is published to a sharded channel, from now on and after each reconnection."""
        name = channel.encode()
        self._channels[name] = handler
        if self._connection is not None:
            self._put(_packed("SSUBSCRIBE", name), None)

    def unsubscribe(self, channel: str) -> None:
        """Take that back; what is on its way is handed on still, since nothing else that is wanted may bring it."""
        name = channel.encode()
        handler = self._channels.pop(name, None)
        if handler is not None and self._connection is not None:
            self._leaving.setdefault(name, deque()).append(handler)
            self._put(_packed("SUNSUBSCRIBE", name), None)

    def _put(self, packed: bytes, done: Replied | None) -> None:
        """Subscriptions are answered by a push, so nobody waits for those."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(packed)
        if done is not None:
            self._waiting.append((self._clock.monotonic(), done))

    def _flush(self) -> None:
        if self._connection is not None and self._unsent:
            _writer(self._connection).write(b"".join(self._unsent))
        self._unsent.clear()

    def flush(self) -> None:
        """Send now what waits for the end of this turn."""
        self._flush()

    async def run(self) -> None:
        """Stay connected; returns only by cancellation."""
        failures = 0
        while True:
            try:
                connection = await connect(self.options, self.tag)
                for script in self._scripts:
                    await connection.send_command("SCRIPT", "LOAD", script.source)
                    await connection.read_response()
            except Exception as error:  # whatever redis-py makes of a server that is about to go
                self._complain(error)
                failures += 1
            else:
                failures = 0
                await self._serve(connection)
            ceiling = min(
                self.options.reconnect_max_seconds, self.options.reconnect_min_seconds * 2 ** min(failures, 8)
            )
            await asyncio.sleep(self._random.uniform(self.options.reconnect_min_seconds, ceiling))

    def _complain(self, error: Exception) -> None:
        problem = f"Redis can't be reached: {str(error) or type(error).__name__}"
        if problem != self.problem:
            logger.warning("namespace or tag %s: %s", self.tag, problem)
        self.problem = problem

    async def _serve(self, connection: Connection) -> None:
        """Use a connection until it is lost."""
        self._connection, self.problem = connection, None
        logger.info("Redis for %s: connected to %s:%s", self.tag, connection.host, connection.port)
        watch = asyncio.ensure_future(self._watch(connection))
        try:
            channels = list(self._channels)
            for start in range(0, len(channels), CHANNELS_A_COMMAND):
                for channel in channels[start : start + CHANNELS_A_COMMAND]:
                    self._put(_packed("SSUBSCRIBE", channel), None)
            for tell in self.connected:
                tell()
            await self._read(connection)
        except (OSError, EOFError, RedisUnavailable, hiredis.HiredisError) as error:
            self._complain(error)
        finally:
            watch.cancel()
            await self._drop(connection)

    async def _drop(self, connection: Connection) -> None:
        self._connection = None
        self._unsent.clear()
        self._leaving.clear()
        waiting, self._waiting = self._waiting, deque()
        reason = self.problem = self.problem or "the connection is closed"
        for _, done in waiting:
            done(RedisUnavailable(reason))
        for tell in self.lost:
            tell()
        _writer(connection).transport.abort()  # what it is still sent is nothing to wait for
        await connection.disconnect(nowait=True)

    async def _read(self, connection: Connection) -> None:
        reader = hiredis.Reader(replyError=RedisRefused, notEnoughData=INCOMPLETE)
        stream = connection._reader
        assert stream is not None
        while True:
            data = await stream.read(READ_BYTES)
            if not data:
                raise EOFError("the server closed the connection")
            reader.feed(data)
            with self.burst:
                while (reply := reader.gets()) is not INCOMPLETE:
                    self._take(reply)
            for tell in self.settled:
                tell()

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, hiredis.PushNotification):
            self._take_push(reply)
            return
        if isinstance(reply, RedisRefused) and str(reply).startswith(ELSEWHERE):
            raise RedisUnavailable(str(reply))
        self._waiting.popleft()[1](reply)

    def _take_push(self, push: Reply) -> None:
        kind, name = push[:2]
        leaving = self._leaving.get(name)
        if kind == b"smessage":
            handler = leaving[0] if leaving else self._channels.get(name)
            if handler is not None:
                handler(push[2])
        elif kind == b"sunsubscribe":
            if leaving:
                leaving.popleft()
                if not leaving:
                    del self._leaving[name]
            elif name in self._channels:
                raise RedisUnavailable("a channel has gone to another server")

    async def _watch(self, connection: Connection) -> None:
        """End a connection whose server doesn't answer; each second there is a question."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if not self._waiting:
                self.send(lambda _: None, "PING")
            elif self._clock.monotonic() - self._waiting[0][0] > self.options.silence_seconds:
                self.problem = f"Redis hasn't answered for {self.options.silence_seconds:g} s"
                _writer(connection).transport.abort()
                return


def _packed(*command: Word) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub means one word
    return packed


def _writer(connection: Connection) -> asyncio.StreamWriter:
    assert connection._writer is not None
    return connection._writer
