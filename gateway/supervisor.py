"""Keeps background tasks alive: each is started again after a fault, with growing pauses. None dies in silence."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from gateway.core.clock import Clock

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

SETTLED_SECONDS = 60.0
"""A task that ran so long is taken to be well: the next pause after a fault is a short one again."""


class Supervisor:
    """The background tasks of one process."""

    def __init__(self, clock: Clock, random: Random, *, min_seconds: float = 0.5, max_seconds: float = 30.0) -> None:
        self._clock = clock
        self._random = random
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self.restarts: Counter[str] = Counter()
        """How often each task was started again, by its name."""

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run `run` for as long as the supervisor does. It is meant never to return."""
        task = asyncio.create_task(self._keep(name, run), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        faults = 0
        while True:
            started = self._clock.monotonic()
            try:
                await run()
                logger.error("task %s ended by itself; it is started again", name)
            except Exception:
                logger.exception("task %s failed; it is started again", name)
            faults = 0 if self._clock.monotonic() - started > SETTLED_SECONDS else faults + 1
            self.restarts[name] += 1
            ceiling = min(self._max_seconds, self._min_seconds * 2 ** min(faults, 16))
            await asyncio.sleep(self._random.uniform(self._min_seconds, ceiling))

    async def stop(self, timeout_seconds: float) -> None:
        """Cancel all tasks and wait for them, but no longer than this."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_seconds)
            for task in late:
                logger.warning("task %s did not end in %g s", task.get_name(), timeout_seconds)
