"""Carries what nodes tell each other of their limits: one channel, on which each says something every second."""

import asyncio
import logging
from typing import Final

import orjson

from bridges.redis_link import RedisLink
from gateway.core.shared_limits import Report, SharedLimits

__all__ = ["RedisLimits"]

logger = logging.getLogger(__name__)

REPORT_SECONDS: Final = 1.0


class RedisLimits:
    """One node's part of it. While Redis is away nothing is told or heard, and nothing waits: it would be of then.

    Args:
        link: That of what belongs to no namespace.
    """

    def __init__(self, link: RedisLink, shared: SharedLimits, report_seconds: float = REPORT_SECONDS) -> None:
        self._link = link
        self._shared = shared
        self._report_seconds = report_seconds
        self._channel = link.key("limits")
        self._complained = False
        link.subscribe(self._channel, self._hear)
        link.connected.append(lambda: self._publish(shared.begin()))

    async def run(self) -> None:
        """Report; never returns."""
        while True:
            await asyncio.sleep(self._report_seconds)
            self._publish(self._shared.report())

    def leave(self) -> None:
        """Tell others to count nothing of this node any more."""
        self._publish(self._shared.leave())
        self._link.flush()

    def _publish(self, report: Report) -> None:
        self._link.send(lambda _: None, "SPUBLISH", self._channel, orjson.dumps(report))

    def _hear(self, told: bytes) -> None:
        try:
            self._shared.hear(orjson.loads(told))
        except (AttributeError, KeyError, TypeError, ValueError):
            if not self._complained:
                self._complained = True
                logger.warning("what another node tells of its limits can't be read: is it of another version?")
