"""How many nodes and Redis servers a load needs, by what was measured: docs/scaling.md says what it assumes.

python -m benchmarks.scale_model --browsers 1000000 --rooms-per-browser 5 --messages 100000
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from benchmarks.scale.costs import SOURCES, Costs, MissingFigure
from benchmarks.scale.load import Load
from benchmarks.scale.plan import Hardware, Layout, Plan, Unreachable, best_plan
from benchmarks.scale.queues import Lived, live
from benchmarks.scale.reach import fullness, largest_part, reach_of
from benchmarks.scale.storm import Returned, come_back

__all__ = ["parsed", "report"]

Row = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A load, what carries it, and how that goes."""

    name: str
    load: Load
    plan: Plan
    lived: Lived
    returned: Returned


def table(head: Row, rows: Sequence[Row]) -> str:
    """As Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


def case(name: str, load: Load, layout: Layout, costs: Costs, hardware: Hardware, options: argparse.Namespace) -> Case:
    """Find what carries a load, and let it live for a second and lose a machine.

    Raises:
        Unreachable: nothing does.
    """
    plan = best_plan(load, layout, costs, hardware, options.namespaces)
    lived = live(load, plan, costs, seed=options.seed, messages=options.simulated)
    return Case(name, load, plan, lived, come_back(plan, hardware.processes, costs, seed=options.seed))


def variations(load: Load) -> Iterator[tuple[str, Load]]:
    """The same load with other rooms, and other habits."""
    yield f"{load.rooms * 10:,.0f} rooms", replace(load, rooms=load.rooms * 10)
    yield f"{load.rooms / 10:,.0f} rooms", replace(load, rooms=load.rooms / 10)
    yield "popularity 1 (Zipf)", replace(load, popularity=1.0)
    yield "popularity 0.8, and popular rooms say more (0.5)", replace(load, popularity=0.8, loudness=0.5)
    yield "twice the browsers", replace(load, browsers=load.browsers * 2)
    yield "half the messages", replace(load, messages_per_second=load.messages_per_second / 2)


def costs_table(costs: Costs) -> str:
    """Each cost and where it is from."""
    rows = []
    for each in fields(costs):
        value = getattr(costs, each.name)
        shown = ", ".join(f"{at:,g}: {cost:.3g}" for at, cost in value) if isinstance(value, tuple) else f"{value:.3g}"
        rows.append((each.name.replace("_", " "), shown, SOURCES[each.name]))
    return table(("cost", "value", "from"), rows)


def capacity_table(costs: Costs, hardware: Hardware) -> str:
    """What one of each part carries, used as far as it may be."""
    free = hardware.target * 1e6
    rows = [
        ("a reader of brokers", f"{free / costs.ingest_microseconds:,.0f} messages/s"),
        ("a gateway's pushes from Redis, if it did nothing else", f"{free / costs.push_microseconds:,.0f} messages/s"),
        *(
            (
                f"a gateway's writes at {at:,} connections, if it did nothing else",
                f"{free / costs.write(at):,.0f} a second",
            )
            for at in (1000, 10_000, hardware.connections)
        ),
        *(
            (
                f"a Redis whose messages go to {nodes} gateways each",
                f"{free / redis_microseconds(costs, nodes):,.0f} messages/s",
            )
            for nodes in (1, 3, 10, 30)
        ),
    ]
    return table(("part", "carries"), rows)


def redis_microseconds(costs: Costs, nodes: int) -> float:
    """What a message costs Redis."""
    return costs.script_microseconds + nodes * costs.redis_push_microseconds


def cluster_table(cases: Sequence[Case]) -> str:
    """Everything about a few clusters, side by side."""
    rows: list[Row] = []

    def add(name: str, *values: str) -> None:
        rows.append((name, *values))

    add("gateways for browsers (spare ones)", *(f"{c.plan.nodes:,} ({c.plan.spare})" for c in cases))
    add("gateways that read brokers", *(f"{c.plan.readers:,}" for c in cases))
    add("Redis primaries, as many replicas", *(f"{c.plan.shards:,}" for c in cases))
    add("**cores**", *(f"**{c.plan.cores:,}**" for c in cases))
    add("machines for the gateways", *(f"{c.plan.machines:,}" for c in cases))
    add("connections of a gateway", *(f"{c.plan.usual.connections:,.0f}" for c in cases))
    add("memory of a gateway", *(f"{c.plan.usual.memory_mib:,.0f} MiB" for c in cases))
    add("deliveries a second, in all", *(f"{c.load.deliveries_per_second:,.0f}" for c in cases))
    add("gateways that a message goes to", *(f"{c.plan.pushes_per_message:.1f}" for c in cases))
    add("a gateway's core: writes", *(f"{c.plan.usual.writes:.0%}" for c in cases))
    add("a gateway's core: pushes", *(f"{c.plan.usual.pushes:.0%}" for c in cases))
    add("a gateway's core: heartbeats", *(f"{c.plan.usual.heartbeats:.0%}" for c in cases))
    add("a gateway's core, one machine missing", *(f"{c.plan.failed.utilisation:.0%}" for c in cases))
    add("a gateway's core, simulated", *(f"{c.lived.node_utilisation:.0%}" for c in cases))
    add(
        "a Redis' core, simulated", *(f"{c.plan.redis_utilisation:.0%}, {c.lived.redis_utilisation:.0%}" for c in cases)
    )
    add("a Redis' network", *(f"{c.plan.redis_network_gbit:.2f} Gbit/s" for c in cases))
    add("a Redis' memory, without history", *(f"{c.plan.redis_memory_mib:,.0f} MiB" for c in cases))
    add("browsers' network, in all", *(f"{c.plan.usual.network_gbit * c.plan.nodes:.1f} Gbit/s" for c in cases))
    add("messages a turn of a gateway, simulated", *(f"{c.lived.pushes_a_turn:.1f}" for c in cases))
    add("broker to browser, simulated: p50, p99", *(f"{c.lived.p50_ms:.1f}, {c.lived.p99_ms:.1f} ms" for c in cases))
    add("a machine dies: browsers that come back", *(f"{c.returned.browsers:,.0f}" for c in cases))
    add("… to each gateway that is left", *(f"{c.returned.each_node:,}" for c in cases))
    add(
        "… half of them, all of them after",
        *(f"{c.returned.half_seconds:.1f}, {c.returned.all_seconds:.1f} s" for c in cases),
    )
    add("… attempts of each", *(f"{c.returned.attempts:.2f}" for c in cases))
    return table(("", *(c.name for c in cases)), rows)


def variation_row(found: Case, hardware: Hardware) -> Row:
    """One line about a cluster."""
    plan, full = found.plan, fullness(found.plan, hardware)
    first = max(full, key=lambda part: full[part])
    doing = f" ({largest_part(plan.failed)})" if first == "nodes' processors" else ""
    return (
        found.name,
        f"{found.load.deliveries_per_second:,.0f}",
        f"{plan.cores:,}",
        f"{plan.nodes:,}",
        f"{plan.readers:,}",
        f"{plan.shards:,}",
        f"{plan.usual.connections:,.0f}",
        f"{found.lived.p50_ms:.1f}, {found.lived.p99_ms:.1f}",
        f"{found.returned.all_seconds:.1f}",
        f"{first}{doing}",
    )


VARIED: Final = (
    "load",
    "deliveries/s",
    "cores",
    "gateways for browsers",
    "readers",
    "Redis primaries",
    "connections of each",
    "p50, p99 ms",
    "back after s",
    "full first",
)


def bottleneck(load: Load, costs: Costs, hardware: Hardware) -> str:
    """How far one Redis with any number of nodes reaches."""
    reach = reach_of(load, costs, hardware)
    if reach is None:
        return "One Redis carries nothing of it."
    return (
        f"One Redis with {reach.plan.nodes:,} gateways carries {reach.share:.1%} of it: "
        f"{load.browsers * reach.share:,.0f} browsers and {load.messages_per_second * reach.share:,.0f} messages/s. "
        f"Then {reach.stopped_by}."
    )


def report(load: Load, costs: Costs, hardware: Hardware, options: argparse.Namespace) -> Iterator[str]:
    """The whole text, in parts, as Markdown."""
    yield (
        f"{load.browsers:,.0f} browsers in {load.rooms_per_browser} rooms each, {load.messages_per_second:,.0f} "
        f"messages/s of {load.payload_bytes} bytes into {load.rooms:,.0f} rooms: "
        f"{load.deliveries_per_second:,.0f} deliveries/s. "
        f"Machines of {hardware.cores} cores with {hardware.processes} gateways each; of each part at most "
        f"{hardware.target:.0%} is used, though one machine is missing."
    )
    yield f"### Costs\n\n{costs_table(costs)}"
    yield f"### What one of each carries\n\n{capacity_table(costs, hardware)}"
    yield f"### The first bottleneck\n\n{bottleneck(load, costs, hardware)}"
    cases = []
    for name, layout in (("small clusters", Layout.GROUPED), ("one cluster", Layout.COMMON)):
        try:
            cases.append(case(name, load, layout, costs, hardware, options))
        except Unreachable as why:
            yield f"Not in {name}: {why}."
    if cases:
        yield f"### What carries it\n\n{cluster_table(cases)}"
    rows, notes = [], []
    for name, varied in (("as above", load), *variations(load)):
        try:
            found = case(name, varied, Layout.GROUPED, costs, hardware, options)
            rows.append(variation_row(found, hardware))
        except Unreachable as why:
            notes.append(f"- {name}: {why}.")
    yield f"### Other loads, in small clusters\n\n{table(VARIED, rows)}" + "".join(
        f"\n{note}" for note in ("", *notes) if notes
    )


def positive(text: str) -> float:
    """An amount."""
    if not 0 < (value := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


def share(text: str) -> float:
    """A part of a whole."""
    if not 0 < (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and at most 1, found {text!r}")
    return value


def measured(text: str) -> Costs:
    """The costs that a run has found."""
    try:
        return Costs.measured(Path(text))
    except (OSError, json.JSONDecodeError, MissingFigure) as error:
        raise argparse.ArgumentTypeError(f"expected what benchmarks.cluster has written: {error}") from error


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual, machine = Load(), Hardware()
    parser.add_argument("--browsers", type=positive, default=usual.browsers)
    parser.add_argument("--rooms-per-browser", type=int, default=usual.rooms_per_browser)
    parser.add_argument("--messages", type=positive, default=usual.messages_per_second, help="a second, in all")
    parser.add_argument("--rooms", type=positive, default=usual.rooms, help="in all")
    parser.add_argument("--popularity", type=float, default=usual.popularity, help="0: all alike; 1: Zipf's law")
    parser.add_argument("--loudness", type=float, default=usual.loudness, help="0: as much in each; 1: in proportion")
    parser.add_argument("--payload-bytes", type=int, default=usual.payload_bytes)
    parser.add_argument("--namespaces", type=int, default=1000, help="there can't be more Redis shards")
    parser.add_argument("--processes", type=int, default=machine.processes, help="gateways on a machine")
    parser.add_argument("--connections", type=int, default=machine.connections, help="of one gateway at most")
    parser.add_argument("--target", type=share, default=machine.target, help="share that is used of each part at most")
    parser.add_argument("--costs", type=measured, default=Costs(), help="cluster.json of a run of benchmarks.cluster")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--simulated", type=int, default=30_000, help="messages")
    return parser.parse_args(words)


def main() -> None:
    options = parsed()
    machine = Hardware()
    load = Load(
        options.browsers,
        options.rooms_per_browser,
        options.messages,
        options.rooms,
        options.popularity,
        options.loudness,
        options.payload_bytes,
    )
    hardware = replace(
        machine,
        cores=options.processes + machine.cores - machine.processes,
        processes=options.processes,
        connections=options.connections,
        target=options.target,
    )
    for part in report(load, options.costs, hardware, options):
        print(part, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
