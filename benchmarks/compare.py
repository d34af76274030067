"""The gateway beside the servers that people choose today, in one run on one machine: see docs/benchmarks.md.

Each round starts each server anew, one after the other, loads it by the same generator, and reads its processor time
and memory from /proc. What isn't on the machine is named as absent.

    python -m benchmarks.compare --workloads fan-out,light --peers Tidegate,mosquitto --rounds 3
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from benchmarks.bench import FULL, Size, Stage
from benchmarks.generator import Absent, compiled
from benchmarks.peers.centrifuge import CentrifugePeer
from benchmarks.peers.limit import LimitPeer
from benchmarks.peers.mosquitto import QUIET, MosquittoPeer
from benchmarks.peers.nats import NatsPeer
from benchmarks.peers.nchan import NchanPeer
from benchmarks.peers.node_servers import SocketIoPeer, WsPeer
from benchmarks.peers.peer import Peer, Unfit
from benchmarks.peers.starlette_peer import StarlettePeer
from benchmarks.peers.tidegate import TidegatePeer
from benchmarks.report import Found, Report, machine
from benchmarks.workloads import WORKLOADS, On, Workload
from tests.real import mosquitto

__all__ = ["compare", "every_peer", "look_for", "run_round"]


def every_peer() -> list[Peer]:
    """The gateway first."""
    return [
        TidegatePeer(),
        TidegatePeer("SSE"),
        MosquittoPeer(),
        NatsPeer(),
        NchanPeer(),
        NchanPeer("SSE"),
        CentrifugePeer(),
        WsPeer(),
        SocketIoPeer(),
        StarlettePeer(),
        LimitPeer(),
    ]


class Named(Protocol):
    """What may be on this machine."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def version(self) -> str:
        """Its version, or `Absent`."""
        ...


def look_for(peers: Sequence[Named]) -> tuple[dict[str, str], dict[str, str]]:
    """The versions of those that are there, and why others aren't."""
    versions, absent = {}, {}
    for peer in peers:
        try:
            versions[peer.name] = peer.version()
        except Absent as why:
            absent[peer.name] = str(why)
    return versions, absent


def compare(
    peers: Sequence[Peer], workloads: Sequence[Workload[Stage]], rounds: int, size: Size, folder: Path
) -> Report:
    """Every server under every workload, and say what was found as soon as it is.

    Raises:
        Absent: there is no C compiler for the load generator.
    """
    versions, absent = look_for(peers)
    compared_with = {peer.name: f"{TidegatePeer.product} ({peer.transport})" for peer in peers}
    report = Report(machine(), versions, absent, rounds, size, compared_with)
    print(report.head(), flush=True)
    program = compiled("load", folder)
    with mosquitto(folder, QUIET) as broker:
        for workload in workloads:
            found = report.found[workload.name] = {peer.name: Found() for peer in peers if peer.name in versions}
            for _ in range(rounds):
                for peer in peers:
                    if peer.name in found and found[peer.name].problem is None:
                        run_round(found[peer.name], workload, Stage(peer, program, broker, size))
            print(f"\n{report.table(workload)}", flush=True)
    return report


def run_round(found: Found, workload: Workload[On], stage: On) -> None:
    """One server under one workload; a server that doesn't take it, or fails, isn't asked again."""
    try:
        found.rounds.append(workload.run(stage))
    except Unfit as why:
        found.problem = f"not measured, {why}"
    except (RuntimeError, AssertionError, OSError, subprocess.CalledProcessError) as error:
        found.problem = f"failed, {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", help="names, with commas; all of them, if not given")
    parser.add_argument("--peers", help="parts of servers' names, with commas; all of them, if not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=FULL.seconds, help="how long each is measured")
    parser.add_argument("--share", type=float, default=FULL.share, help="of the clients")
    parser.add_argument("--output", type=Path, help="a folder for benchmarks.md and benchmarks.json")
    options = parser.parse_args()
    known = {workload.name: workload for workload in WORKLOADS}
    names = options.workloads.split(",") if options.workloads else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no workload {unknown[0]}: expected some of {', '.join(known)}")
    parts = options.peers.split(",") if options.peers else [""]
    peers = [peer for peer in every_peer() if any(part in peer.name for part in parts)]
    warm_up_seconds = min(FULL.warm_up_seconds, options.seconds)
    size = replace(FULL, seconds=options.seconds, share=options.share, warm_up_seconds=warm_up_seconds)
    with tempfile.TemporaryDirectory() as folder:
        report = compare(peers, [known[name] for name in names], options.rounds, size, Path(folder))
    if options.output is not None:
        write(report, options.output)


def write(report: Report, folder: Path) -> None:
    """Both forms, into a folder that is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = [report.table(workload) for workload in WORKLOADS if workload.name in report.found]
    (folder / "benchmarks.md").write_text("\n\n".join([report.head(), *tables]) + "\n")
    (folder / "benchmarks.json").write_text(json.dumps(report.as_json(), indent=1) + "\n")


if __name__ == "__main__":
    main()
