"""The comparison of clusters: a short form of each workload works and loses nothing; how fast, isn't looked at."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.bench import SHORT
from benchmarks.cluster import compare_clusters, write
from benchmarks.cluster_bench import ClusterStage
from benchmarks.cluster_workloads import CLUSTER_WORKLOADS, ClusterWorkload
from benchmarks.generator import Absent, compiled
from benchmarks.peers.clusters import Nodes, TidegateCluster
from benchmarks.peers.mosquitto import QUIET
from benchmarks.redis_saturation import SATURATIONS, Saturation, row_of, saturate
from tests.real import Mosquitto, mosquitto
from tests.redis import RedisServer, redis_server

DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"
BY_NAME = {workload.name: workload for workload in CLUSTER_WORKLOADS}


class Shared(TidegateCluster):
    """Nodes that run already, so that not every test has to wait for them."""

    def __init__(self, running: Nodes) -> None:
        super().__init__()
        self._running = running

    @contextmanager
    def started(self, folder: Path, count: int, redis: RedisServer | None, broker: Mosquitto) -> Iterator[Nodes]:
        yield Nodes(self._running.each[:count], broker, self._running.redis)


class Missing(TidegateCluster):
    """A server that this machine doesn't have."""

    name = "Missing"

    def version(self) -> str:
        raise Absent("expected npm's package missing")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterStage]:
    folder = tmp_path_factory.mktemp("stage")
    with (
        mosquitto(folder, QUIET) as broker,
        redis_server(folder) as redis,
        TidegateCluster().started(folder, 2, redis, broker) as running,
    ):
        yield ClusterStage(Shared(running), 2, compiled("load", folder), broker, SHORT)


@pytest.mark.parametrize("workload", CLUSTER_WORKLOADS, ids=BY_NAME)
def test_a_short_form_of_each_workload_loses_nothing(workload: ClusterWorkload, stage: ClusterStage) -> None:
    result = workload.run(stage)
    assert set(result) >= {workload.key, *workload.columns}
    assert result.get("lost_share", 0) == result.get("refused", 0) == result.get("disconnected", 0) == 0
    assert 0 < result.get("redis_microseconds_per_message", 1) < 1e5


def test_each_node_is_told_and_charged_for_what_it_does(stage: ClusterStage) -> None:
    result = BY_NAME["fan-out"].run(stage)
    assert result["deliveries_per_second"] > 0
    assert result["busiest_node_cpu_share"] == max(result["node_0_cpu_share"], result["node_1_cpu_share"])


@pytest.mark.parametrize("name", ["0 nodes", "2 nodes", "2 nodes, bare SPUBLISH", "8 nodes, 5,000/s"])
def test_a_redis_tells_all_nodes_all(name: str) -> None:
    case = SATURATIONS[name]
    result = saturate(case, SHORT)
    assert result["publications_per_second"] > 0
    assert 0 < result["redis_microseconds_per_message"] < 1e5
    assert result["told_bytes_per_message"] == pytest.approx(case.nodes * 320, rel=0.05)


def test_tables_and_json_say_what_was_found_and_what_was_not(tmp_path: Path) -> None:
    saturations = {"1 node": Saturation(1)}
    workloads = [BY_NAME["latency"]]
    report = compare_clusters([TidegateCluster(), Missing()], workloads, saturations, 1, SHORT, tmp_path)
    write(report, tmp_path / "out")
    markdown = (tmp_path / "out" / "cluster.md").read_text()
    assert "| Tidegate, 2 nodes" in markdown
    assert f"| {row_of('1 node')}" in markdown
    assert "- Missing: not on this machine, expected npm's package missing" in markdown
    told = json.loads((tmp_path / "out" / "cluster.json").read_text())
    measured = told["workloads"]["latency"]["Tidegate, 2 nodes"]["median"]
    assert measured["added_p50_ms"] == pytest.approx(measured["p50_ms"] - measured["alone_p50_ms"])
    assert measured["lost_share"] == 0


def test_the_documented_command_measures_what_it_names(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^python -m benchmarks\.cluster .*$", DOCUMENT.read_text(), re.MULTILINE)
    short = ["--peers", "Tidegate", "--rounds", "1", "--seconds", "0.1", "--share", "0.02", "--output", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, *shlex.split(shown)[1:], *short], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads((tmp_path / "cluster.json").read_text())
    assert list(told["workloads"]) == ["latency", "latency-broker"]


def test_every_workload_is_documented() -> None:
    text = DOCUMENT.read_text()
    assert [name for name in BY_NAME if f"`{name}`" not in text] == []
