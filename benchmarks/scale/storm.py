"""What follows a machine's death: its browsers come back to the nodes that are left, which serve the others meanwhile.

A browser waits a random while, then connects; it gives up after ten seconds and tries again after twice the while, as
clients/js does. A node has the rest of its core for those who come, one after the other, and does the work for one who
has given up, too. The same seed gives the same return.
"""

import heapq
from dataclasses import dataclass
from random import Random
from typing import Final

from benchmarks.scale.costs import Costs
from benchmarks.scale.plan import Layout, Plan

__all__ = ["Returned", "come_back"]

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 10.0
"""Those of clients/js/tidegate.js; a pause is 0.2 to 1 times that."""
MOST_ATTEMPTS: Final = 100


@dataclass(frozen=True)
class Returned:
    """How it went, in seconds after the connections broke."""

    browsers: float
    """In all."""
    each_node: int
    """How many come to each node that is left."""
    half_seconds: float
    all_seconds: float
    attempts: float
    """Of each browser."""
    redis_share: float
    """Of each Redis' core, for what those who come back have missed, while they do."""


def come_back(plan: Plan, processes: int, costs: Costs, *, seed: int = 1) -> Returned:
    """Simulate one of the nodes that are left after a machine with so many of them is gone."""
    grouped = plan.layout is Layout.GROUPED
    groups = plan.shards if grouped else 1
    hit = min(processes, groups) if grouped else 1
    lost = 1 if grouped else processes
    left = max(1, plan.nodes // groups - lost)
    each = round(plan.usual.connections * lost / left)
    free = max(0.01, 1 - plan.failed.utilisation)
    service = costs.return_microseconds / 1e6 / free
    done, attempts = _serve(each, service, Random(seed))
    end = done[-1] if done else 0.0
    reads = each * left * costs.redis_return_microseconds / 1e6 / max(end, 1e-9)
    shards = 1 if grouped else plan.shards
    half = done[len(done) // 2] if done else 0.0
    return Returned(each * left * hit, each, half, end, attempts / max(1, each), reads / shards)


def _serve(count: int, service: float, random: Random) -> tuple[list[float], int]:
    """When each is back, and how many attempts that took."""

    def pause(attempt: int) -> float:
        longest: float = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt)
        return (0.2 + 0.8 * random.random()) * longest

    coming = [(pause(0), number, 0) for number in range(count)]
    heapq.heapify(coming)
    free, attempts, done = 0.0, 0, []
    while coming:
        at, number, attempt = heapq.heappop(coming)
        attempts += 1
        free = max(free, at) + service
        if free - at <= PATIENCE_SECONDS or attempt >= MOST_ATTEMPTS:
            done.append(free)
        else:
            again = at + PATIENCE_SECONDS + pause(attempt + 1)
            heapq.heappush(coming, (again, number, attempt + 1))
    return sorted(done), attempts
