"""How many nodes and Redis servers carry a load: by what each step costs, with room for the death of one machine.

`Layout.GROUPED` is many small clusters, each with a Redis and nodes of its own, which serve some of the namespaces;
`Layout.COMMON` is one cluster, whose nodes serve all namespaces, which are spread over the servers of a Redis Cluster.
Nothing is random here; what waiting comes of it, `queues` simulates.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from benchmarks.scale.costs import Costs
from benchmarks.scale.load import Load, share_with_subscriber

__all__ = ["Demand", "Hardware", "Layout", "Plan", "Unreachable", "best_plan", "demand_of", "plan_with"]

MOST_SHARDS: Final = 512
MOST_NODES: Final = 100_000


class Unreachable(Exception):
    """No number of nodes carries this load, and why not."""


class Layout(Enum):
    """Which nodes serve a namespace."""

    GROUPED = "grouped"
    COMMON = "common"


@dataclass(frozen=True)
class Hardware:
    """What there is of each machine, and how much of it is used."""

    cores: int = 16
    processes: int = 14
    """Gateways on one machine; the other cores are left to its system."""
    memory_gib: float = 64.0
    network_gbit: float = 10.0
    connections: int = 20_000
    """Of one node: `limits.connections`."""
    target: float = 0.6
    """How much of a core, or of a network, is used at most, with one machine missing."""


@dataclass(frozen=True)
class Demand:
    """What one node of a group has to do, by what it is for: shares of its core; and what it holds and sends."""

    connections: float
    writes: float
    pushes: float
    heartbeats: float
    deliveries_per_second: float
    pushes_per_second: float
    memory_mib: float
    network_gbit: float

    @property
    def utilisation(self) -> float:
        """Of its core."""
        return self.writes + self.pushes + self.heartbeats


@dataclass(frozen=True)
class Plan:
    """So many of each, and how busy they are."""

    layout: Layout
    shards: int
    nodes: int
    """Gateways that serve browsers, in all groups, spare ones included."""
    spare: int
    readers: int
    """Gateways that read brokers, in all."""
    machines: int
    redis_utilisation: float
    """Of the core of each Redis server."""
    redis_network_gbit: float
    redis_memory_mib: float
    """For last values and subscriptions; history comes on top."""
    reader_utilisation: float
    usual: Demand
    """Of each node while all are there."""
    failed: Demand
    """Of each node while one machine is missing."""
    pushes_per_message: float

    @property
    def redis_servers(self) -> int:
        """Each shard has a replica."""
        return 2 * self.shards

    @property
    def cores(self) -> int:
        """Of all processes, one each."""
        return self.nodes + self.readers + self.redis_servers


def demand_of(load: Load, nodes: float, costs: Costs) -> Demand:
    """What one of so many nodes has to do that share a load."""
    connections = load.browsers / nodes
    pushes = load.messages_per_second * load.pushes_per_message(nodes) / nodes
    deliveries = load.deliveries_per_second / nodes
    rooms = sum(group.rooms * min(1.0, group.subscribers / nodes) for group in load.groups)
    memory_kib = connections * (costs.connection_kib + costs.kernel_connection_kib) + rooms * costs.room_kib
    frame_bytes = costs.frame_bytes + load.payload_bytes - 100 + costs.packet_bytes
    sent_bytes = deliveries * frame_bytes + pushes * costs.push_bytes
    return Demand(
        connections,
        deliveries * costs.write(connections) / 1e6,
        pushes * costs.push_microseconds / 1e6,
        connections * costs.heartbeat_microseconds_per_second / 1e6,
        deliveries,
        pushes,
        costs.process_mib + memory_kib / 1024,
        sent_bytes * 8 / 1e9,
    )


def _carries(demand: Demand, hardware: Hardware) -> bool:
    per_machine = hardware.processes
    return (
        demand.utilisation <= hardware.target
        and demand.connections <= hardware.connections
        and demand.memory_mib * per_machine <= hardware.memory_gib * 1024 * hardware.target
        and demand.network_gbit * per_machine <= hardware.network_gbit * hardware.target
    )


def _fewest_nodes(load: Load, costs: Costs, hardware: Hardware) -> int:
    """The smallest number of nodes that carries a load: more of them have less to do each."""
    high = 1
    while not _carries(demand_of(load, high, costs), hardware):
        high *= 2
        if high > MOST_NODES:
            raise Unreachable("each gateway is told more than it carries")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _carries(demand_of(load, middle, costs), hardware) else (middle, high)
    return high


def plan_with(load: Load, shards: int, layout: Layout, costs: Costs, hardware: Hardware) -> Plan:
    """The smallest cluster with so many shards that carries a load.

    Raises:
        Unreachable: there is none.
    """
    groups = shards if layout is Layout.GROUPED else 1
    part = load.part(groups)
    fewest = _fewest_nodes(part, costs, hardware)
    spare = 1 if layout is Layout.GROUPED else hardware.processes
    failed, usual = demand_of(part, fewest, costs), demand_of(part, fewest + spare, costs)
    pushes = part.pushes_per_message(fewest + spare)
    per_shard = load.messages_per_second / shards
    redis = per_shard * (costs.script_microseconds + pushes * costs.redis_push_microseconds) / 1e6
    redis_gbit = per_shard * (1 + pushes) * costs.push_bytes * 8 / 1e9
    if redis > hardware.target:
        raise Unreachable("Redis' processor is full")
    if redis_gbit > hardware.network_gbit * hardware.target:
        raise Unreachable("Redis' network is full")
    ingest = part.messages_per_second * costs.ingest_microseconds / 1e6
    beside = failed.utilisation + ingest <= hardware.target
    readers = 0 if beside else math.ceil(ingest / hardware.target)
    processes = groups * (fewest + spare + readers)
    apart = (
        fewest + spare if layout is Layout.GROUPED else 2
    )  # what a machine's death may cost a group is its spare node
    return Plan(
        layout,
        shards,
        groups * (fewest + spare),
        groups * spare,
        groups * readers,
        max(apart, math.ceil(processes / hardware.processes)),
        redis,
        redis_gbit,
        _redis_memory_mib(load, part, fewest + spare, shards, costs),
        failed.utilisation + ingest if beside else ingest / readers,
        usual,
        failed,
        pushes,
    )


def _redis_memory_mib(load: Load, part: Load, nodes: int, shards: int, costs: Costs) -> float:
    watched = sum(group.rooms * nodes * share_with_subscriber(group.subscribers / nodes) for group in part.groups)
    watched *= load.rooms / part.rooms  # the same in each group
    return (load.rooms * costs.redis_room_kib + watched * costs.redis_watch_kib) / shards / 1024


def _candidates(most: int) -> Iterator[int]:
    """Numbers of shards to try, all small ones and ever fewer large ones."""
    shards = 1
    while shards <= most:
        yield shards
        shards = max(shards + 1, math.floor(shards * 1.1))


def best_plan(load: Load, layout: Layout, costs: Costs, hardware: Hardware, most_shards: int = MOST_SHARDS) -> Plan:
    """Of all clusters that carry a load, the one with the fewest cores; of those, the one with the fewest shards.

    Raises:
        Unreachable: there is none with so many shards at most: there can't be more than namespaces.
    """
    found: list[Plan] = []
    why: Unreachable | None = None
    for shards in _candidates(most_shards):
        try:
            found.append(plan_with(load, shards, layout, costs, hardware))
        except Unreachable as error:
            why = error
    if not found:
        raise why or Unreachable("no shards")
    return min(found, key=lambda plan: (plan.cores, plan.shards))
