"""A second of a cluster's life, message by message: how long each waits for a reader, for Redis, for a node's turn.

Messages come at random (Poisson). A reader gathers what comes fast; a Redis serves one publication after the other; a
node takes in one turn of its loop all that came during the one before, and writes once to each connection that any of
it is for. One node is watched, and those that lead to it. The same seed gives the same second.
"""

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Final

from benchmarks.scale.costs import Costs
from benchmarks.scale.load import Load
from benchmarks.scale.plan import Layout, Plan

__all__ = ["Lived", "live"]

GATHER_SECONDS: Final = 0.005
GATHERED: Final = 16
"""How long a message waits at most for others, and how many are enough: `upstreams.*.gather_seconds`, mqtt_pace.py."""
HOP_SECONDS: Final = 0.0001
"""From one machine to the next."""


@dataclass(frozen=True)
class Lived:
    """What was seen."""

    reader_utilisation: float
    redis_utilisation: float
    node_utilisation: float
    pushes_a_turn: float
    """Of the node's."""
    p50_ms: float
    p99_ms: float
    """From the broker to the client, of all deliveries of the watched node."""


@dataclass(slots=True)
class _Message:
    due: float
    at: float
    """Where it is by now."""
    shard: int
    pushes: int
    local: int
    """Subscribers at the watched node."""


def live(load: Load, plan: Plan, costs: Costs, *, seed: int = 1, messages: int = 30_000) -> Lived:
    """Simulate so many messages of one group."""
    random = Random(seed)
    groups = plan.shards if plan.layout is Layout.GROUPED else 1
    part, nodes, shards = load.part(groups), plan.nodes // groups, plan.shards // groups
    readers = max(1, plan.readers // groups)
    seconds = messages / part.messages_per_second
    stream = list(_arrivals(part, nodes, shards, messages, random))
    reading = _read(stream, readers, part.messages_per_second / readers, costs, random)
    stream.sort(key=lambda message: message.at)
    redis = _publish(stream, shards, costs)
    mine = sorted((message for message in stream if message.local), key=lambda message: message.at)
    busy, turns, latencies = _deliver(mine, round(part.browsers / nodes), costs)
    if plan.readers == 0:
        busy += reading  # one of the nodes reads beside
    p50, p99 = _quantiles(latencies, (0.5, 0.99))
    heartbeats = part.browsers / nodes * costs.heartbeat_microseconds_per_second / 1e6
    shares = (reading / readers / seconds, redis / shards / seconds, busy / seconds + heartbeats)
    return Lived(*shares, len(mine) / max(1, turns), p50 * 1000, p99 * 1000)


def _arrivals(part: Load, nodes: int, shards: int, count: int, random: Random) -> "Sequence[_Message]":
    groups = part.groups
    ends = list(accumulate(group.rooms * group.messages_per_second for group in groups))
    found, now = [], 0.0
    for _ in range(count):
        now += random.expovariate(part.messages_per_second)
        group = groups[min(bisect(ends, random.random() * ends[-1]), len(groups) - 1)]
        local = _poisson(group.subscribers / nodes, random)
        others = _binomial(nodes - 1, -math.expm1(-group.subscribers / nodes), random)
        found.append(_Message(now, now, random.randrange(shards), others + (local > 0), local))
    return found


def _read(stream: Sequence[_Message], readers: int, rate: float, costs: Costs, random: Random) -> float:
    """Each reader's turns; the time that they all have worked."""
    window = min(GATHER_SECONDS, GATHERED / rate) if GATHER_SECONDS * rate >= 2 else 0.0
    own: list[list[_Message]] = [[] for _ in range(readers)]
    for message in stream:
        own[random.randrange(readers)].append(message)
    service, worked = costs.ingest_microseconds / 1e6, 0.0
    for queue in own:
        free, at = 0.0, 0
        while at < len(queue):
            begin = max(free, queue[at].due + window)
            end = at
            while end < len(queue) and queue[end].due <= begin:
                end += 1
            free = begin + (end - at) * service
            for message in queue[at:end]:
                message.at = free + HOP_SECONDS
            worked += (end - at) * service
            at = end
    return worked


def _publish(stream: Sequence[_Message], shards: int, costs: Costs) -> float:
    """One after the other at each shard; the time that they all have worked."""
    free, worked = [0.0] * shards, 0.0
    for message in stream:
        service = (costs.script_microseconds + message.pushes * costs.redis_push_microseconds) / 1e6
        free[message.shard] = max(free[message.shard], message.at) + service
        worked += service
        message.at = free[message.shard] + HOP_SECONDS
    return worked


def _deliver(mine: Sequence[_Message], connections: int, costs: Costs) -> tuple[float, int, list[tuple[float, int]]]:
    """The node's turns: how long it worked, how many turns, and latencies with how many browsers had them."""
    worked, free, turns, at = 0.0, 0.0, 0, 0
    write, push = costs.write(connections) / 1e6, costs.push_microseconds / 1e6
    latencies: list[tuple[float, int]] = []
    while at < len(mine):
        begin, end, missed, told = max(free, mine[at].at), at, 1.0, 0
        while end < len(mine) and mine[end].at <= begin:
            told += mine[end].local
            missed *= 1 - min(1.0, mine[end].local / max(1, connections))
            end += 1
        writes = min(float(told), connections * (1 - missed))
        spent = (end - at) * push + writes * write + (told - writes) * costs.appended_microseconds / 1e6
        free = begin + spent
        latencies += [(free - message.due, message.local) for message in mine[at:end]]
        worked, turns, at = worked + spent, turns + 1, end
    return worked, turns, latencies


def _quantiles(latencies: list[tuple[float, int]], shares: Sequence[float]) -> list[float]:
    latencies.sort()
    ends = list(accumulate(weight for _, weight in latencies))
    if not ends:
        return [0.0] * len(shares)
    return [latencies[min(bisect(ends, share * ends[-1]), len(ends) - 1)][0] for share in shares]


def _poisson(mean: float, random: Random) -> int:
    if mean > 50:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, random.random()
    while product > limit:
        count, product = count + 1, product * random.random()
    return count


def _binomial(count: int, share: float, random: Random) -> int:
    if count > 50:
        spread = math.sqrt(count * share * (1 - share))
        return min(count, max(0, round(random.gauss(count * share, spread))))
    return sum(random.random() < share for _ in range(count))
