"""Nodes that share limits, with nothing between them: each tells when the test says so."""

from collections.abc import Iterable

import orjson

from gateway.core.shared_limits import Report, SharedLimits
from tests.unit.conftest import HandClock

SILENCE_SECONDS = 5.0


class Nodes:
    """So many of them, with one clock."""

    def __init__(self, number: int = 3) -> None:
        self.clock = HandClock()
        self.all = [SharedLimits(f"node-{each}", SILENCE_SECONDS, self.clock) for each in range(number)]
        for node in self.all:
            self.send(node.begin())

    def send(self, report: Report, to: Iterable[SharedLimits] | None = None) -> None:
        """Hand on what a node tells as JSON, to itself, too."""
        carried = orjson.dumps(report)
        for node in self.all if to is None else to:
            node.hear(orjson.loads(carried))

    def tell(self, *which: int) -> None:
        """Let these tell what there is, or all of them."""
        for node in [self.all[each] for each in which] if which else self.all:
            self.send(node.report())
