"""The gateways that share a Redis: each gives a sign of life once a second or so, and learns who else does.

A name belongs to one process at a time, which is told from others by its `life`. One that is silent for
`lease_seconds` is out of the list and its name free; it comes back by itself if it was only cut off. All that is
compared is Redis' own clock, and when nobody was heard for a while, it was Redis that was away: then nobody is out.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from bridges.redis_link import RedisLink, RedisRefused
from bridges.redis_options import RedisOptions, RedisUnavailable
from bridges.redis_scripts import load
from bridges.redis_servers import connect

__all__ = ["Node", "NodeNameTaken", "RedisNodes", "read_list"]

logger = logging.getLogger(__name__)

BEATS_A_LEASE: Final = 5
LONGEST_BEAT_SECONDS: Final = 1.0
SAID: Final = ("since", "version", "host", "pid")
"""What is taken of what a node says of itself: one of a later version may say more."""
FAREWELL_SECONDS: Final = 0.5
"""How long Redis may take to hear that this gateway goes."""


class NodeNameTaken(Exception):
    """Another running gateway has this one's name; the text says which."""


@dataclass(frozen=True, slots=True)
class Node:
    """A gateway in the list."""

    name: str
    life: str
    """Which process it is: no other has the same."""
    since: float
    """When it came, in seconds since the epoch by Redis' clock."""
    version: str
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who has the name."""

    about: Mapping[str, Any]
    beats: int

    def problem(self, name: str) -> str:
        """What is wrong, and what was expected."""
        return (
            f"another gateway is called {name!r}, process {self.about['pid']} on {self.about['host']}: "
            "expected a name of its own in `cluster.node`, or none"
        )


class RedisNodes:
    """One gateway among the others; `run` keeps it in the list."""

    def __init__(self, link: RedisLink, lease_seconds: float, version: str, random: Random) -> None:
        self.name = link.options.node
        self.life = f"{random.getrandbits(64):016x}"
        """Which process this is."""
        self.lease_seconds = lease_seconds
        self.lives: Mapping[str, Node] = {}
        """All that are in the list, this one too, as it was told last; by their lives."""
        self.is_listed = False
        """Whether this one is, by an answer that came over the connection there is."""
        self.is_settled = False
        """Whether all who are there have had the time to be in it: Redis, and what it knows, is older than a lease."""
        self.problem: str | None = None
        """Why it can't be in the list, if not for want of a connection."""
        self.came: list[Callable[[Node], None]] = []
        """Told of each node that comes; of this one too."""
        self.gone: list[Callable[[Node], None]] = []
        """Told of each that is gone."""
        self.heard: list[Callable[[], None]] = []
        """Told each time after the list was; what was asked for then was asked after all that was told before."""
        self._link = link
        self._about = orjson.dumps({"version": version, "host": socket.gethostname(), "pid": os.getpid()})
        self._wake = asyncio.Event()
        self._has_left = False
        self._scripts = {name: load("nodes", f"nodes_{name}") for name in ("beat", "leave")}
        for script in self._scripts.values():
            link.add_script(script)
        link.connected.append(self._wake.set)
        link.lost.append(self._lost)
        link.subscribe(link.key("nodes"), lambda _: self._wake.set())

    @property
    def names(self) -> list[str]:
        """The names of all in the list."""
        return sorted(node.name for node in self.lives.values())

    async def join(self) -> None:
        """Be in the list; the link runs, `run` doesn't yet. Waits for a Redis that is away.

        Who had the name and died loses it after a lease.

        Raises:
            NodeNameTaken: another process has the name, and gives signs of life.
        """
        holder: _Holder | None = None
        while True:
            before, holder = holder, await self._beat() if self._link.is_up else None
            if self.is_listed:
                return
            if before is not None and holder is not None and holder != before:
                raise NodeNameTaken(holder.problem(self.name))
            await self._pause()

    async def run(self) -> None:
        """Give signs of life; returns only by cancellation."""
        while True:
            if self._link.is_up and not self._has_left:
                await self._beat()
            await self._pause()

    async def leave(self) -> None:
        """Say that this gateway goes, so that nobody waits for it."""
        self._has_left, self.is_listed, self.lives = True, False, {}
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._link.call(
                    "EVALSHA", self._scripts["leave"].sha, 1, self._link.key("meta"), self.name, self.life
                )
        except (RedisUnavailable, RedisRefused, TimeoutError) as error:
            logger.info("node %s goes without a word, as Redis doesn't listen: %s", self.name, error)

    async def _pause(self) -> None:
        """Until the next sign of life is due, or something has changed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(LONGEST_BEAT_SECONDS, self.lease_seconds / BEATS_A_LEASE)):
                await self._wake.wait()
        self._wake.clear()

    def _lost(self) -> None:
        self.is_listed = False

    async def _beat(self) -> "_Holder | None":
        """A sign of life; if another has the name, who."""
        answer: asyncio.Future[_Holder | None] = asyncio.get_running_loop().create_future()

        def hear(reply: Any) -> None:
            found = self._hear(reply)  # now, and not once the connection is another one
            if not answer.done():
                answer.set_result(found)

        lease = round(self.lease_seconds * 1000)
        self._link.evaluate(self._scripts["beat"], (self.name, self.life, lease, self._about), hear)
        return await answer

    def _hear(self, reply: Any) -> "_Holder | None":
        self.is_listed = False
        if isinstance(reply, RedisUnavailable) or self._has_left:
            return None
        if isinstance(reply, RedisRefused):
            self._complain(f"Redis refuses to list node {self.name}: {reply}")
            return None
        if reply[0] == b"taken":
            holder = _Holder(orjson.loads(reply[1]), int(reply[2]))
            self._complain(holder.problem(self.name))
            return holder
        self.problem = None
        self.is_listed, self.is_settled = True, bool(reply[1])
        self._take(_nodes(reply[2], reply[3]))
        return None

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem

    def _take(self, nodes: list[Node]) -> None:
        before, self.lives = self.lives, {node.life: node for node in nodes}
        for life, node in before.items():
            if life not in self.lives:
                logger.warning("node %s is gone", node.name)
                for tell in self.gone:
                    tell(node)
        for life, node in self.lives.items():
            if life not in before:
                logger.info("node %s is there", node.name)
                for tell in self.came:
                    tell(node)
        for update in self.heard:
            update()


def _nodes(lives: list[bytes], about: list[bytes]) -> list[Node]:
    """What two hashes of Redis say, as flat lists of names and values."""
    said = {name: orjson.loads(text) for name, text in zip(about[::2], about[1::2], strict=True)}
    return [
        Node(name.decode(), life.decode(), **{field: said[name][field] for field in SAID})
        for name, life in zip(lives[::2], lives[1::2], strict=True)
    ]


async def read_list(options: RedisOptions, tag: str) -> list[tuple[Node, float]]:
    """The nodes in the list, by name, and for how many seconds each was silent; this process gives no sign of life.

    Raises:
        RedisUnavailable: Redis can't be asked.
    """
    connection = await connect(options, tag)
    try:
        script = load("nodes", "nodes_list").source
        await connection.send_command("EVAL", script, 1, options.key(tag, "meta"), "", "")
        lives, about, seen, now = await connection.read_response(disable_decoding=True)
    except (RedisError, OSError) as error:
        raise RedisUnavailable(str(error)) from None
    finally:
        await connection.disconnect()
    times = dict(zip(seen[::2], seen[1::2], strict=True))
    found = [(node, (int(now) - float(times[node.name.encode()])) / 1000) for node in _nodes(lives, about)]
    return sorted(found, key=lambda each: each[0].name)
