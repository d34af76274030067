"""The configuration, read anew while the gateway runs: on SIGHUP, and when its files have changed.

The whole of it is checked first; a bad one changes nothing and is told of once. What a good one changes takes effect as
far as `gateway.config.changes` says that it can, and the rest is named: it needs a restart.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.config import ConfigurationError, Problem, Settings
from gateway.config.changes import changed_keys, opens, with_rules_of
from gateway.config.load import named_files
from gateway.config.problems import Keys, dotted
from gateway.core.clock import Clock
from gateway.file_watch import CHECK_SECONDS, FileWatch

__all__ = ["Reload", "Reloads"]

TOLD: Final = 20
"""How many problems, or keys, are told of; `tidegate check` tells all."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Reloads:
    """What became of the configurations that were read, for metrics."""

    last_good: float
    """When the configuration was last found good, in seconds since the Unix epoch."""
    outcomes: Counter[str] = field(default_factory=lambda: Counter({"taken": 0, "unchanged": 0, "refused": 0}))


class Reload:
    """Reads the configuration of a running gateway anew.

    Args:
        path: The file; those that it names are watched too.
        load: Reads it, with all that overrides it, as at the start.
        settings: What runs.
        apply: Lets other rules take effect: called with what runs from then on.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[], Settings],
        settings: Settings,
        apply: Callable[[Settings], None],
        reloads: Reloads,
        clock: Clock,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._path = path
        self._load = load
        self._settings = settings
        self._apply = apply
        self._reloads = reloads
        self._clock = clock
        self._lacking: tuple[Path, ...] = ()
        """What a refused configuration names: it may be that one of these is yet to come."""
        self._watch = FileWatch(lambda: (path, *self._settings.identity.files, *self._lacking), check_seconds)

    def ask(self) -> None:
        """Read it now, and say what came of it even if that is nothing."""
        self._watch.ask()

    async def run(self) -> None:
        """Take what changes; never returns."""
        await self.reload(asked=False)  # it may have changed since it was read for the start
        while True:
            await self.reload(asked=await self._watch.changed())

    async def reload(self, *, asked: bool) -> None:
        """Read it once."""
        newer: Settings | ConfigurationError
        try:
            newer = await asyncio.to_thread(self._read)
        except ConfigurationError as error:
            newer = error
        if not await asyncio.to_thread(self._watch.is_unchanged):
            if asked:
                logger.info("%s is being written: it is read again once that is over", self._path)
        elif isinstance(newer, ConfigurationError):
            self._refuse(newer.problems)
            self._lacking = await asyncio.to_thread(named_files, self._path)
            await asyncio.to_thread(self._watch.reconsider)
        else:
            self._take(newer, asked=asked)
            self._lacking = ()
            await asyncio.to_thread(self._watch.reconsider)

    def _read(self) -> Settings:
        newer = self._load()
        reason = opens(self._settings, with_rules_of(self._settings, newer))
        if reason is not None:
            raise ConfigurationError([Problem(str(self._path), None, None, "", reason)])
        return newer

    def _refuse(self, problems: Sequence[Problem]) -> None:
        self._reloads.outcomes["refused"] += 1
        for problem in problems[:TOLD]:
            logger.error("the changed configuration is not taken, the old one stays in use: %s", problem)
        if len(problems) > TOLD:
            logger.error("%d more problems: `tidegate check` tells all", len(problems) - TOLD)

    def _take(self, newer: Settings, *, asked: bool) -> None:
        self._reloads.last_good = self._clock.time()
        running = with_rules_of(self._settings, newer)
        now, later = changed_keys(self._settings, running), changed_keys(running, newer)
        if now:
            self._apply(running)
            self._settings = running
            logger.info("the changed configuration is in effect, also for who is connected: %s", _listed(now))
        if later:
            logger.warning("changed, but in effect only once the gateway is restarted: %s", _listed(later))
        if now or later:
            self._reloads.outcomes["taken"] += 1
        elif asked:
            self._reloads.outcomes["unchanged"] += 1
            logger.info("nothing has changed in the configuration %s", self._path)


def _listed(changed: Sequence[Keys]) -> str:
    told = ", ".join(map(dotted, changed[:TOLD]))
    return told if len(changed) <= TOLD else f"{told} and {len(changed) - TOLD} more"
