"""What clusters are compared by: each workload is a plan for the load generator, and which figures tell most.

Messages of clients are published at node 0; devices' come in at the broker, and node 0 is who reads it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from benchmarks.bench import TOPIC, Result
from benchmarks.cluster_bench import ClusterBench, ClusterStage
from benchmarks.workloads import Workload, topics

__all__ = ["CLUSTER_WORKLOADS", "ClusterWorkload"]

ROOM: Final = "bench/hall"
"""Of clients alone: no route leads to it."""
FASTEST_RATE: Final = 5000.0
"""Messages a second at which the search for the highest rate ends."""
SUBSCRIBERS: Final = 10
"""Of what is measured for its latency."""
POPULATIONS: Final = (100, 1000, 10_000)
"""Subscribers of one node."""
MISSED: Final = 2
"""Messages in each room that those who come back have missed."""


@dataclass(frozen=True)
class ClusterWorkload(Workload[ClusterStage]):
    """One way to load nodes."""

    nodes: tuple[int, ...] = (1, 2, 3)
    """How many of them; 0 stands for one without Redis."""


def fan_out(stage: ClusterStage, count: int, rate: float) -> Result:
    """One room for all, who are spread over the nodes."""
    with stage.bench() as bench:
        total = _spread(bench, stage, count)
        bench.publish(0, rate, [ROOM])
        return bench.measure(total)


def _spread(bench: ClusterBench, stage: ClusterStage, count: int) -> int:
    nodes = max(1, stage.nodes)
    each = max(1, count // nodes)
    for node in range(nodes):
        bench.subscribe(node, each, [ROOM])
    return each * nodes


def highest_rate(stage: ClusterStage, count: int) -> Result:
    """One rate after the other until deliveries are late or lost, twice."""
    rate, reached = 100.0, {"sustained_deliveries_per_second": 0.0}
    with stage.bench() as bench:
        total = _spread(bench, stage, count)
        bench.publish(0, 1.0, [ROOM])
        while rate < FASTEST_RATE:
            found = _sustained(bench, total, rate) or _sustained(bench, total, rate)
            if found is None:
                break
            reached = {"sustained_deliveries_per_second": found["deliveries_per_second"], **found}
            rate *= stage.size.step
    return reached


def _sustained(bench: ClusterBench, receivers: int, rate: float) -> Result | None:
    size = bench.size
    found = bench.measure(receivers, seconds=size.seconds / 2, pace=rate)
    return found if found["p99_ms"] < size.slowest_p99_ms and found["lost_share"] <= 0 else None


def dashboard(stage: ClusterStage, count: int) -> Result:
    """As many topics as subscribers; ten topics for each, ten subscribers for each, wherever they are."""
    all_topics, nodes = topics(count), max(1, stage.nodes)
    groups = [all_topics[at : at + 10] for at in range(0, count, 10)]
    with stage.bench() as bench:
        for node in range(nodes):
            for tenth in range(node, 10, nodes):
                bench.subscribe(node, len(groups), *(groups[tenth:] + groups[:tenth]))
        bench.publish_at_broker(2000, all_topics)
        return bench.measure(10)


def browsers(stage: ClusterStage) -> Result:
    """What a message costs the node that it is for, which reads no broker: by how many it has, and how many get it.

    With as many topics as subscribers, who have ten each or one, a message has ten receivers or one; the difference is
    nine writes, the rest what a message costs before it is written.
    """
    found = {full: _to_last_node(stage, stage.size.count(full), 10) for full in POPULATIONS}
    single = _to_last_node(stage, stage.size.count(POPULATIONS[1]), 1)
    cost = f"node_{stage.nodes - 1}_microseconds_per_message"
    write = (found[POPULATIONS[1]][cost] - single[cost]) / 9
    push = max(0.0, single[cost] - write)
    return {
        **found[POPULATIONS[-1]],
        "push_microseconds": push,
        **{f"write_microseconds_at_{full}": (each[cost] - push) / 10 for full, each in found.items()},
        "lost_share": max(each["lost_share"] for each in (single, *found.values())),
    }


def _to_last_node(stage: ClusterStage, count: int, receivers: int) -> Result:
    all_topics = topics(count)
    audiences = [all_topics[at : at + receivers] for at in range(0, count, receivers)]
    with stage.bench() as bench:
        connected = bench.subscribe(stage.nodes - 1, count, *audiences)
        shuffled = Random(1).sample(all_topics, count)  # else what comes together would be for the same browsers
        bench.publish_at_broker(2000, shuffled)
        return {**connected, **bench.measure(receivers)}


def ingest(stage: ClusterStage, count: int) -> Result:
    """Many topics, each heard by one of ten subscribers, who are all at the last node."""
    all_topics = topics(count)
    with stage.bench() as bench:
        parts = [all_topics[at : at + count // 10] for at in range(0, count, count // 10)]
        bench.subscribe(max(1, stage.nodes) - 1, 10, *parts)
        bench.publish_at_broker(5000, all_topics)
        found = bench.measure(1)
    last = max(1, stage.nodes) - 1
    return {**found, "last_node_microseconds_per_message": found[f"node_{last}_microseconds_per_message"]}


def latency(stage: ClusterStage, *, at_broker: bool) -> Result:
    """Ten subscribers at the last node, few messages; and what the same takes a node that is alone."""
    found = {}
    for name, nodes in (("alone", 0), ("joined", stage.nodes)):
        with stage.bench(nodes) as bench:
            bench.subscribe(max(1, nodes) - 1, SUBSCRIBERS, [TOPIC if at_broker else ROOM])
            if at_broker:
                bench.publish_at_broker(50, [TOPIC])
            else:
                bench.publish(0, 50, [ROOM])
            found[name] = bench.measure(SUBSCRIBERS)
    alone, joined = found["alone"], found["joined"]
    added = {f"added_{figure}": joined[figure] - alone[figure] for figure in ("p50_ms", "p99_ms")}
    return {**joined, **added, **{f"alone_{figure}": alone[figure] for figure in ("p50_ms", "p99_ms")}}


def return_of_many(stage: ClusterStage, count: int) -> Result:
    """Subscribers of five rooms each connect; as many again come back who have missed ten messages each."""
    rooms = [f"kept/room-{number}" for number in range(count // 2)]
    groups = [rooms[at : at + 5] for at in range(0, len(rooms), 5)]
    with stage.bench() as bench:
        last = stage.nodes - 1
        scripts = [bench.come_back(last, group) for group in groups]
        found = bench.subscribe(last, count, *groups)
        bench.publish_at_broker(len(rooms) * MISSED, rooms)
        heard = bench.measure(10, seconds=1)
        returned = bench.connect(last, count, scripts, stage.size.warm_up_seconds)
    return {**found, **{f"return_{key}": value for key, value in returned.items()}, "lost_share": heard["lost_share"]}


PER_CPU: Final = "deliveries_per_cpu_second"
SHARES: Final = ("busiest_node_cpu_share", "redis_cpu_share", "generator_cpu_share", "machine_cpu_share")
COSTS: Final = ("cpu_microseconds_per_delivery", "redis_microseconds_per_message")
LATENCIES: Final = ("p50_ms", "p99_ms")
ADDED: Final = ("p50_ms", "alone_p50_ms", "added_p99_ms", "p99_ms", "alone_p99_ms", "lost_share")
RETURN: Final = ("connect_redis_microseconds", "return_connect_redis_microseconds", "connection_kib")


def scaled(run: Callable[..., Result], full: int, **options: float) -> Callable[[ClusterStage], Result]:
    """A workload with so many clients, or as many of them as the stage's size takes."""
    return lambda stage: run(stage, stage.size.count(full), **options)


CLUSTER_WORKLOADS: Final = (
    ClusterWorkload(
        "fan-out",
        "1 room, 900 subscribers over all nodes, 100 messages/s at one node",
        scaled(fan_out, 900, rate=100),
        PER_CPU,
        (*COSTS, *LATENCIES, *SHARES, "lost_share"),
        nodes=(0, 1, 2, 3),
    ),
    ClusterWorkload(
        "highest-rate",
        "The same, as fast as p99 stays below 50 ms and nothing is lost",
        scaled(highest_rate, 900),
        "sustained_deliveries_per_second",
        (PER_CPU, *COSTS, *LATENCIES, *SHARES),
        nodes=(0, 1, 2, 3),
    ),
    ClusterWorkload(
        "dashboard",
        "1,000 topics at 2,000 messages/s in all at the broker, 1,000 subscribers of 10 topics each over all nodes",
        scaled(dashboard, 1000),
        PER_CPU,
        (*COSTS, *LATENCIES, *SHARES, "lost_share"),
    ),
    ClusterWorkload(
        "ingest",
        "1,000 topics at 5,000 messages/s in all at the broker, each for one of 10 subscribers, all at the last node",
        scaled(ingest, 1000),
        "redis_microseconds_per_message",
        ("node_0_microseconds_per_message", "last_node_microseconds_per_message", *LATENCIES, *SHARES, "lost_share"),
        less_is_better=True,
    ),
    ClusterWorkload(
        "browsers",
        "100 to 10,000 subscribers at the last node, 2,000 messages/s at the broker; of ten topics each, or of one",
        browsers,
        "push_microseconds",
        (
            *(f"write_microseconds_at_{full}" for full in POPULATIONS),
            "connection_kib",
            "bytes_per_delivery",
            *LATENCIES,
        ),
        less_is_better=True,
        nodes=(2,),
    ),
    ClusterWorkload(
        "latency",
        "50 messages/s at one node, 10 subscribers at the other, compared with a node alone",
        partial(latency, at_broker=False),
        "added_p50_ms",
        ADDED,
        less_is_better=True,
        nodes=(2,),
    ),
    ClusterWorkload(
        "latency-broker",
        "50 messages/s at the broker, which one node reads; 10 subscribers at the other, compared with a node alone",
        partial(latency, at_broker=True),
        "added_p50_ms",
        ADDED,
        less_is_better=True,
        nodes=(2,),
    ),
    ClusterWorkload(
        "return",
        "1,000 subscribers of 5 rooms connect; 1,000 come back who have missed 2 messages in each",
        scaled(return_of_many, 1000),
        "return_connect_cpu_microseconds",
        ("connect_cpu_microseconds", *RETURN, "lost_share"),
        less_is_better=True,
        nodes=(2,),
    ),
)
