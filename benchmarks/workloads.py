"""What servers are compared by: each workload is a plan for the load generator, and which figures tell most."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

from benchmarks.bench import TOPIC, Bench, Result, Stage

__all__ = ["WORKLOADS", "On", "Workload"]

FASTEST_RATE: Final = 2500.0
"""Messages a second to 1,000 subscribers at which the search for the highest rate ends."""
GROWTH: Final = (10, 100, 1000, 10_000)
GROWTH_DELIVERIES: Final = 50_000
"""A second, whatever the number of subscribers, as far as `FASTEST_GROWTH_RATE` allows."""
FASTEST_GROWTH_RATE: Final = 2000


On = TypeVar("On")
"""What is loaded: one server, or several that are one."""


@dataclass(frozen=True)
class Workload(Generic[On]):
    """One way to load it."""

    name: str
    title: str
    run: Callable[[On], Result]
    key: str
    """The figure that ratios are made of."""
    columns: tuple[str, ...]
    """What else the table shows."""
    less_is_better: bool = False
    """Of the key."""


def topics(count: int) -> list[str]:
    """So many topics, of devices with ten values each."""
    return [f"sensors/bench/device-{number // 10}/value-{number % 10}" for number in range(count)]


def fan_out(stage: Stage, count: int, rate: float, burst: int = 1) -> Result:
    """W1, W6: one topic for all."""
    with stage.bench() as bench:
        connected = bench.subscribe(count, [TOPIC])
        bench.publish(rate, burst=burst)
        return {**connected, **bench.measure(count)}


def highest_rate(stage: Stage, count: int) -> Result:
    """W1's second half: one rate after the other until deliveries are late or lost, twice."""
    rate, reached = 100.0, {"sustained_deliveries_per_second": 0.0}
    with stage.bench() as bench:
        bench.subscribe(count, [TOPIC])
        bench.publish(1.0)
        while rate < FASTEST_RATE:
            found = _sustained(bench, stage, count, rate) or _sustained(bench, stage, count, rate)
            if found is None:
                break
            reached = {"sustained_deliveries_per_second": found["deliveries_per_second"], **found}
            rate *= stage.size.step
    return reached


def _sustained(bench: Bench, stage: Stage, count: int, rate: float) -> Result | None:
    found = bench.measure(count, seconds=stage.size.seconds / 2, pace=rate)
    return found if found["p99_ms"] < stage.size.slowest_p99_ms and found["lost_share"] <= 0 else None


def dashboard(stage: Stage, count: int) -> Result:
    """W2: as many topics as subscribers, 2,000 messages/s in all; ten topics for each, ten subscribers for each."""
    all_topics = topics(count)
    with stage.bench() as bench:
        connected = bench.subscribe(count, *[all_topics[at : at + 10] for at in range(0, count, 10)])
        bench.publish(2000, among=all_topics)
        return {**connected, **bench.measure(10)}


def idle(stage: Stage, count: int) -> Result:
    """W3: connections that are told nothing."""
    with stage.bench() as bench:
        return {**bench.subscribe(count, [TOPIC]), **bench.rest()}


def light(stage: Stage, count: int) -> Result:
    """W4; for twice as long, as there are few messages."""
    with stage.bench() as bench:
        bench.subscribe(count, [TOPIC])
        bench.publish(10)
        return bench.measure(count, seconds=2 * stage.size.seconds)


def ingest(stage: Stage, count: int, rate: float, qos: int) -> Result:
    """W5: many topics, each heard by one of ten subscribers."""
    all_topics = topics(count)
    with stage.bench() as bench:
        bench.subscribe(10, *[all_topics[at : at + count // 10] for at in range(0, count, count // 10)])
        bench.publish(rate, among=all_topics, qos=qos)
        return bench.measure(1)


def upstream(stage: Stage, count: int) -> Result:
    """W7: browsers publish to devices; what comes back are acks."""
    with stage.bench() as bench:
        bench.publish_from_browsers(count, 20)
        return bench.measure(1)


def growth(stage: Stage, one: Callable[[Stage, int], Result]) -> Result:
    """W8: what a delivery costs with more and more subscribers, and the most of them compared with the second size."""
    found = {full: one(stage, stage.size.count(full)) for full in GROWTH}
    costs = {full: result["cpu_microseconds_per_delivery"] for full, result in found.items()}
    return {
        "growth": costs[GROWTH[-1]] / max(costs[GROWTH[1]], 1e-9),
        **{f"cpu_microseconds_at_{full}": cost for full, cost in costs.items()},
        **{f"p99_ms_at_{full}": result["p99_ms"] for full, result in found.items()},
        "lost_share": max(result["lost_share"] for result in found.values()),
    }


def growing_fan_out(stage: Stage, count: int) -> Result:
    """W8 of W1: the fewer subscribers, the more messages, so that there are as many deliveries."""
    return fan_out(stage, count, min(FASTEST_GROWTH_RATE, GROWTH_DELIVERIES / count))


def scaled(run: Callable[..., Result], full: int, **options: float) -> Callable[[Stage], Result]:
    """A workload with so many clients, or as many of them as the stage's size takes."""
    return lambda stage: run(stage, stage.size.count(full), **options)


PER_CPU: Final = "deliveries_per_cpu_second"
LOST: Final = ("lost_share",)
USUAL: Final = ("deliveries_per_second", "p50_ms", "p99_ms", "cpu_share", "resident_mib", *LOST)
IDLE: Final = ("connects_per_second", "connect_cpu_microseconds", "idle_cpu_share", "disconnected")
INGEST: Final = ("deliveries_per_second", "p99_ms", "cpu_share", *LOST)
COSTS: Final = (*(f"cpu_microseconds_at_{size}" for size in GROWTH), *LOST)
PER_MESSAGE: Final = "cpu_microseconds_per_message"

WORKLOADS: Final[tuple[Workload[Stage], ...]] = (
    Workload(
        "fan-out", "W1: 1 topic, 1,000 subscribers, 100 messages/s", scaled(fan_out, 1000, rate=100), PER_CPU, USUAL
    ),
    Workload(
        "highest-rate",
        "W1: the same, as fast as p99 stays below 50 ms and nothing is lost",
        scaled(highest_rate, 1000),
        "sustained_deliveries_per_second",
        (PER_CPU, "p50_ms", "p99_ms", "cpu_share"),
    ),
    Workload(
        "dashboard",
        "W2: 1,000 topics at 2,000 messages/s in all, 1,000 subscribers of 10 topics each",
        scaled(dashboard, 1000),
        PER_CPU,
        USUAL,
    ),
    Workload("idle", "W3: 10,000 connections", scaled(idle, 10_000), "connection_kib", IDLE, less_is_better=True),
    Workload(
        "light",
        "W4: 100 subscribers, 10 messages/s",
        scaled(light, 100),
        "p99_ms",
        ("p50_ms", "p999_ms", "max_ms", "cpu_share", *LOST),
        less_is_better=True,
    ),
    *(
        Workload(
            f"ingest-{rate}-qos-{qos}",
            f"W5: 1,000 topics at {rate:,} messages/s in all, QoS {qos}, each for one of 10 subscribers",
            scaled(ingest, 1000, rate=rate, qos=qos),
            PER_MESSAGE,
            INGEST,
            less_is_better=True,
        )
        for rate in (5000, 10_000)
        for qos in (0, 1)
    ),
    Workload(
        "overload",
        "W6: 1 topic at 1,000 messages/s, 1,000 subscribers",
        scaled(fan_out, 1000, rate=1000),
        PER_CPU,
        USUAL,
    ),
    Workload(
        "bursts",
        "W6: bursts of 200 messages ten times a second, 1,000 subscribers",
        scaled(fan_out, 1000, rate=2000, burst=200),
        PER_CPU,
        USUAL,
    ),
    Workload(
        "upstream",
        "W7: 500 browsers that publish 20 messages/s each and wait for acks",
        scaled(upstream, 500),
        PER_MESSAGE,
        ("deliveries_per_second", "p50_ms", "p99_ms", "cpu_share", "refused", *LOST),
        less_is_better=True,
    ),
    Workload(
        "growth-fan-out",
        "W8: W1 with 10 to 10,000 subscribers; the cost of a delivery at 10,000 compared with that at 100",
        partial(growth, one=growing_fan_out),
        "growth",
        COSTS,
        less_is_better=True,
    ),
    Workload(
        "growth-dashboard",
        "W8: W2 with 10 to 10,000 topics and subscribers; the cost of a delivery at 10,000 compared with that at 100",
        partial(growth, one=dashboard),
        "growth",
        COSTS,
        less_is_better=True,
    ),
)
