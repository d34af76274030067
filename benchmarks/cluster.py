"""Several gateways with one Redis, beside Socket.IO with its Redis adapter, in one run on one machine: docs/scaling.md.

What one, two and three nodes deliver, what a message costs Redis, how much later it comes at another node, and how many
publications one Redis carries. The nodes, Redis and the load generator share the machine: where that, or the generator,
is what limits, the tables say so.

    python -m benchmarks.cluster --workloads fan-out,latency --rounds 3 --output artifacts
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import FULL, Size
from benchmarks.cluster_bench import ClusterStage
from benchmarks.cluster_workloads import CLUSTER_WORKLOADS, ClusterWorkload
from benchmarks.compare import look_for, run_round
from benchmarks.generator import compiled
from benchmarks.peers.clusters import ClusterPeer, every_cluster
from benchmarks.peers.mosquitto import QUIET
from benchmarks.redis_saturation import REDIS, SATURATIONS, Saturation, row_of
from benchmarks.report import Found, Report, machine
from tests.real import mosquitto

__all__ = ["compare_clusters"]


def row(peer: ClusterPeer, nodes: int) -> str:
    """What a peer with so many nodes is called in tables."""
    return f"{peer.name}, alone" if nodes == 0 else f"{peer.name}, {nodes} node{'s' if nodes > 1 else ''}"


def compare_clusters(
    peers: Sequence[ClusterPeer],
    workloads: Sequence[ClusterWorkload],
    saturations: Mapping[str, Saturation],
    rounds: int,
    size: Size,
    folder: Path,
) -> Report:
    """Every cluster under every workload, and Redis alone; say what was found as soon as it is.

    Raises:
        Absent: there is no C compiler for the load generator.
    """
    versions, absent = look_for(peers)
    there = [peer for peer in peers if peer.name in versions]
    compared_with = {row(peer, nodes): row(peers[0], nodes) for peer in peers for nodes in range(4)}
    report = Report(machine(), versions, absent, rounds, size, compared_with, alike="with as many nodes")
    print(report.head(), flush=True)
    program = compiled("load", folder)
    with mosquitto(folder, QUIET) as broker:
        for workload in workloads:
            rows = {row(peer, nodes): (peer, nodes) for peer in there for nodes in workload.nodes}
            found = report.found[workload.name] = {name: Found() for name in rows}
            for _ in range(rounds):
                for name, (peer, nodes) in rows.items():
                    if found[name].problem is None:
                        run_round(found[name], workload, ClusterStage(peer, nodes, program, broker, size))
            print(f"\n{report.table(workload)}", flush=True)
    if saturations:
        found = report.found[REDIS.name] = {row_of(name): Found() for name in saturations}
        for _ in range(rounds):
            for name, saturation in saturations.items():
                run_round(found[row_of(name)], REDIS, (saturation, size))
        print(f"\n{report.table(REDIS)}", flush=True)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", help="names, with commas; all of them, if not given")
    parser.add_argument("--peers", help="parts of servers' names, with commas; all of them, if not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=FULL.seconds, help="how long each is measured")
    parser.add_argument("--share", type=float, default=FULL.share, help="of the clients")
    parser.add_argument("--output", type=Path, help="a folder for cluster.md and cluster.json")
    options = parser.parse_args()
    known = {workload.name: workload for workload in (*CLUSTER_WORKLOADS, REDIS)}
    names = options.workloads.split(",") if options.workloads else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no workload {unknown[0]}: expected some of {', '.join(known)}")
    parts = options.peers.split(",") if options.peers else [""]
    peers = [peer for peer in every_cluster() if any(part in peer.name for part in parts)]
    warm_up_seconds = min(FULL.warm_up_seconds, options.seconds)
    size = replace(FULL, seconds=options.seconds, share=options.share, warm_up_seconds=warm_up_seconds)
    workloads = [workload for workload in CLUSTER_WORKLOADS if workload.name in names]
    saturations = SATURATIONS if REDIS.name in names else {}
    with tempfile.TemporaryDirectory() as folder:
        report = compare_clusters(peers, workloads, saturations, options.rounds, size, Path(folder))
    if options.output is not None:
        write(report, options.output)


def write(report: Report, folder: Path) -> None:
    """Both forms, into a folder that is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = [report.table(workload) for workload in (*CLUSTER_WORKLOADS, REDIS) if workload.name in report.found]
    (folder / "cluster.md").write_text("\n\n".join([report.head(), *tables]) + "\n")
    (folder / "cluster.json").write_text(json.dumps(report.as_json(), indent=1) + "\n")


if __name__ == "__main__":
    main()
