"""Where a cluster ends: what one of each part carries, how far one Redis reaches, and what is full first."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.scale.costs import Costs
from benchmarks.scale.load import Load
from benchmarks.scale.plan import Demand, Hardware, Layout, Plan, Unreachable, plan_with

__all__ = ["Reach", "fullness", "reach_of"]

STEPS = 40


@dataclass(frozen=True)
class Reach:
    """How much of a load one Redis carries, with as many nodes as that takes."""

    share: float
    plan: Plan
    stopped_by: str


def fullness(plan: Plan, hardware: Hardware) -> Mapping[str, float]:
    """How much of what may be used of each part is, with one machine missing; at 1 there is no more."""
    failed, target = plan.failed, hardware.target
    on_machine = hardware.processes
    return {
        "nodes' processors": failed.utilisation / target,
        "nodes' connections": failed.connections / hardware.connections,
        "machines' memory": failed.memory_mib * on_machine / (hardware.memory_gib * 1024 * target),
        "machines' network": failed.network_gbit * on_machine / (hardware.network_gbit * target),
        "Redis' processors": plan.redis_utilisation / target,
        "Redis' network": plan.redis_network_gbit / (hardware.network_gbit * target),
        "readers' processors": plan.reader_utilisation / target,
    }


def largest_part(demand: Demand) -> str:
    """What a node's processor mostly does."""
    parts = {"writes": demand.writes, "pushes": demand.pushes, "heartbeats": demand.heartbeats}
    return max(parts, key=lambda name: parts[name])


def reach_of(load: Load, costs: Costs, hardware: Hardware) -> Reach | None:
    """Let everything grow together, rooms too, with one Redis; None if it carries nothing of it."""

    def attempt(share: float) -> Plan | str:
        grown = replace(
            load,
            browsers=load.browsers * share,
            messages_per_second=load.messages_per_second * share,
            rooms=max(1.0, load.rooms * share),
        )
        try:
            return plan_with(grown, 1, Layout.COMMON, costs, hardware)
        except Unreachable as why:
            return str(why)

    low, high = 1e-6, 1e4
    best, stopped_by = attempt(low), "nothing"
    if isinstance(best, str):
        return None
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        found = attempt(middle)
        if isinstance(found, str):
            high, stopped_by = middle, found
        else:
            low, best = middle, found
    return Reach(low, best, stopped_by)
