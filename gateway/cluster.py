"""What joins this gateway to others that have the same Redis."""

import asyncio
import logging
from collections.abc import Sequence
from random import Random
from typing import Final, Self

from bridges.redis import RedisEngine
from bridges.redis_link import RedisLink
from bridges.redis_nodes import RedisNodes
from bridges.redis_options import RedisOptions
from bridges.redis_presence import RedisPresence
from gateway import __version__
from gateway.config import Settings
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.engine import Engine
from gateway.core.presence import PresenceBounds
from gateway.supervisor import Supervisor

__all__ = ["Cluster"]

logger = logging.getLogger(__name__)

CLUSTER_TAG: Final = "cluster"
"""Of keys that belong to no namespace."""
PATIENCE_SECONDS: Final = 1.0
"""After so long without Redis it is said for what the gateway waits."""
POLL_SECONDS: Final = 0.01


class Cluster:
    """The links to Redis: one for each namespace, and one for what belongs to none."""

    def __init__(self, options: RedisOptions, lease_seconds: float, clock: Clock, random: Random) -> None:
        self.options = options
        self._clock, self._random = clock, random
        self._links: dict[str, RedisLink] = {}
        self._engines: list[RedisEngine] = []
        self._presences: dict[str, RedisPresence] = {}
        self.common = RedisLink(options, CLUSTER_TAG, clock, random)
        self.nodes = RedisNodes(self.common, lease_seconds, __version__, random)

    @classmethod
    def of(cls, settings: Settings, clock: Clock, random: Random) -> Self | None:
        """The cluster that the settings name; None if the engine is no Redis."""
        url, engine = settings.engine.redis, settings.engine
        if url is None:
            return None
        options = RedisOptions(
            url.addresses,
            url.tls,
            url.service,
            url.database,
            engine.username,
            engine.password_text(),
            engine.ca_file,
            engine.prefix,
            settings.cluster.node or f"{random.getrandbits(40):010x}",
        )
        return cls(options, settings.cluster.lease_seconds, clock, random)

    @property
    def node(self) -> str:
        """The name of this gateway among them."""
        return self.options.node

    def link(self, namespace: str) -> RedisLink:
        """The link of a namespace, which is asked for once."""
        link = self._links[namespace] = RedisLink(self.options, f"ns:{namespace}", self._clock, self._random)
        return link

    @property
    def links(self) -> list[RedisLink]:
        """All of them."""
        return [self.common, *self._links.values()]

    def presence(self, namespace: str, bounds: PresenceBounds, counters: Counters) -> RedisPresence:
        """The presence of a namespace that has a link."""
        presence = RedisPresence(self._links[namespace], self.nodes, bounds, self._clock, self._random, counters)
        self._presences[namespace] = presence
        return presence

    async def start(self, supervisor: Supervisor, engines: Sequence[Engine]) -> None:
        """Connect; returns once each engine knows its log. Without Redis there is nothing to be served.

        Raises:
            NodeNameTaken: another gateway that runs has this one's name.
        """
        self._engines = [engine for engine in engines if isinstance(engine, RedisEngine)]
        for link in self.links:
            supervisor.start(f"redis {link.tag}", link.run)
        ready = asyncio.gather(*(engine.ready.wait() for engine in self._engines))
        try:
            await asyncio.wait_for(asyncio.shield(ready), PATIENCE_SECONDS)
        except TimeoutError:
            logger.warning("waiting for Redis: %s", self.common.problem or "its answer")
            await ready
        await self.nodes.join()
        supervisor.start("nodes", self.nodes.run)
        for name, presence in self._presences.items():
            supervisor.start(f"presence {name}", presence.run)

    async def finish(self, timeout_seconds: float) -> None:
        """Wait until what was published is confirmed, but no longer than this; then say that this node goes."""
        end = self._clock.monotonic() + timeout_seconds
        while any(engine.waiting for engine in self._engines) and self._clock.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        await self.nodes.leave()
