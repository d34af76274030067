"""What each step costs: processor time in microseconds, memory, bytes on the wire; and where each figure is from.

The defaults are those of docs/scaling.md. `Costs.measured` takes what a run of benchmarks.cluster has found instead.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

__all__ = ["SOURCES", "Costs", "MissingFigure"]

Points = tuple[tuple[float, float], ...]

ROW: Final = "Tidegate, 2 nodes"
FIGURES: Final = {
    "ingest_microseconds": ("ingest", "node_0_microseconds_per_message"),
    "push_microseconds": ("browsers", "push_microseconds"),
    "connection_kib": ("browsers", "connection_kib"),
    "connect_microseconds": ("return", "connect_cpu_microseconds"),
    "return_microseconds": ("return", "return_connect_cpu_microseconds"),
    "redis_return_microseconds": ("return", "return_connect_redis_microseconds"),
    "frame_bytes": ("browsers", "bytes_per_delivery"),
}
"""Where a run has them: the workload, and the figure of its median."""
POINTS: Final = (100, 1000, 10_000)
UNTOLD: Final = "Redis, 0 nodes, 5,000/s"
TOLD: Final = "Redis, 8 nodes, 5,000/s"
TOLD_NODES: Final = 8


SOURCES: Final = {
    "ingest_microseconds": "cluster.py, ingest: the node that reads the broker, a message",
    "push_microseconds": "cluster.py, browsers: a message that Redis pushes to a node",
    "write_microseconds": "cluster.py, browsers: a write to one of so many connections",
    "appended_microseconds": "performance.md, W6: each further message in a write",
    "heartbeat_microseconds_per_second": "performance.md, W3: 10,000 connections at rest",
    "connect_microseconds": "cluster.py, return: a handshake with five subscriptions",
    "return_microseconds": "cluster.py, return: the same with ten missed messages",
    "script_microseconds": "cluster.py, redis: a publication that goes to no node, 16 a run, at 5,000/s",
    "redis_push_microseconds": "cluster.py, redis: each node that it goes to",
    "redis_return_microseconds": "cluster.py, return: reading for one who comes back",
    "process_mib": "performance.md: a gateway without clients",
    "connection_kib": "cluster.py, browsers: a WebSocket with its subscriptions",
    "kernel_connection_kib": "the kernel's slabs with 9,900 connections, half of both ends'",
    "room_kib": "measured apart: a room that a node is subscribed to, of 10,000",
    "redis_room_kib": "measured apart: a room with a last value of 100 bytes in Redis, of 10,000",
    "redis_watch_kib": "measured apart: a node's subscription to a room in Redis, of 10,000",
    "frame_bytes": "cluster.py, browsers: a message of 100 bytes in its frame",
    "push_bytes": "counted: the same between Redis and a node, either way",
    "packet_bytes": "counted: Ethernet, IP and TCP around one write",
}
"""Where each is from."""


class MissingFigure(Exception):
    """A run lacks what the model needs."""


@dataclass(frozen=True)
class Costs:
    """Those of one core of the machine that was measured; `SOURCES` says how."""

    ingest_microseconds: float = 24.0
    push_microseconds: float = 19.2
    write_microseconds: Points = ((100, 3.1), (1000, 5.8), (10_000, 9.8))
    appended_microseconds: float = 0.08
    heartbeat_microseconds_per_second: float = 2.2
    connect_microseconds: float = 320.0
    return_microseconds: float = 480.0
    script_microseconds: float = 15.6
    redis_push_microseconds: float = 0.65
    redis_return_microseconds: float = 22.4
    process_mib: float = 70.0
    connection_kib: float = 10.5
    kernel_connection_kib: float = 4.8
    room_kib: float = 0.74
    redis_room_kib: float = 0.78
    redis_watch_kib: float = 0.26
    frame_bytes: float = 262.0
    push_bytes: float = 300.0
    packet_bytes: float = 90.0

    def write(self, connections: float) -> float:
        """Microseconds of a write to one of so many connections: between two points, and beyond, by the logarithm."""
        points, at = self.write_microseconds, max(1.0, connections)
        pairs = list(pairwise(points))
        (from_count, from_cost), (to_count, to_cost) = next((pair for pair in pairs if at <= pair[1][0]), pairs[-1])
        share = math.log(at / from_count) / math.log(to_count / from_count)
        return max(points[0][1], from_cost + share * (to_cost - from_cost))

    @classmethod
    def measured(cls, path: Path) -> "Costs":
        """Those that a run of benchmarks.cluster has written; what it doesn't measure is as by default.

        Raises:
            OSError: it can't be read.
            MissingFigure: a workload wasn't run, or failed.
        """
        told = json.loads(path.read_text())["workloads"]
        found = {name: _figure(told, workload, ROW, figure) for name, (workload, figure) in FIGURES.items()}
        points = tuple((at, _figure(told, "browsers", ROW, f"write_microseconds_at_{at}")) for at in POINTS)
        alone, told_all = (_figure(told, "redis", row, "redis_microseconds_per_message") for row in (UNTOLD, TOLD))
        redis = {"script_microseconds": alone, "redis_push_microseconds": max(0.0, told_all - alone) / TOLD_NODES}
        return replace(cls(), **found, **redis, write_microseconds=points)


def _figure(told: Mapping[str, Any], workload: str, row: str, figure: str) -> float:
    found = (told.get(workload, {}).get(row, {}).get("median") or {}).get(figure)
    if found is None:
        raise MissingFigure(f"expected `{figure}` of the workload `{workload}` and the row `{row}` in it")
    return float(found)
