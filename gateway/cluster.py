"""What joins this gateway to others that have the same Redis."""

import asyncio
import logging
from collections.abc import Sequence
from random import Random
from typing import Final, Self

from bridges.redis import RedisEngine
from bridges.redis_link import RedisLink
from bridges.redis_options import RedisOptions
from gateway.config import Settings
from gateway.core.clock import Clock
from gateway.core.engine import Engine
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

    def __init__(self, options: RedisOptions, clock: Clock, random: Random) -> None:
        self.options = options
        self._clock, self._random = clock, random
        self._links: dict[str, RedisLink] = {}
        self._engines: list[RedisEngine] = []
        self.common = RedisLink(options, CLUSTER_TAG, clock, random)

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
        return cls(options, clock, random)

    @property
    def node(self) -> str:
        """The name of this gateway among them."""
        return self.options.node

    def link(self, namespace: str) -> RedisLink:
        """The link of a namespace, which is asked for once."""
        link = self._links[namespace] = RedisLink(self.options, f"ns:{namespace}", self._clock, self._random)
        return link

    async def start(self, supervisor: Supervisor, engines: Sequence[Engine]) -> None:
        """Connect; returns once each engine knows its log. Without Redis there is nothing to be served."""
        self._engines = [engine for engine in engines if isinstance(engine, RedisEngine)]
        for link in (self.common, *self._links.values()):
            supervisor.start(f"redis {link.tag}", link.run)
        ready = asyncio.gather(*(engine.ready.wait() for engine in self._engines))
        try:
            await asyncio.wait_for(asyncio.shield(ready), PATIENCE_SECONDS)
        except TimeoutError:
            logger.warning("waiting for Redis: %s", self.common.problem or "its answer")
            await ready

    async def finish(self, timeout_seconds: float) -> None:
        """Wait until what was published is confirmed, but no longer than this."""
        end = self._clock.monotonic() + timeout_seconds
        while any(engine.waiting for engine in self._engines) and self._clock.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
