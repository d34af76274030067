"""The comparison with other servers: a short form of each workload, and what is said of what was found."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.bench import SHORT, Stage
from benchmarks.compare import compare, every_peer, write
from benchmarks.generator import Absent, compiled
from benchmarks.peers.mosquitto import QUIET
from benchmarks.peers.peer import Peer, Started
from benchmarks.peers.tidegate import TidegatePeer
from benchmarks.workloads import WORKLOADS, Workload
from tests.real import Mosquitto, mosquitto

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BY_NAME = {workload.name: workload for workload in WORKLOADS}


class Missing(TidegatePeer):
    """A server that this machine doesn't have."""

    product = "Missing"

    def version(self) -> str:
        raise Absent("expected Debian's package missing")


def peers(*products: str) -> list[Peer]:
    return [peer for peer in every_peer() if peer.product in products]


class Shared(TidegatePeer):
    """A gateway that runs already, so that not every test has to wait for one."""

    def __init__(self, running: Started) -> None:
        super().__init__()
        self._running = running

    @contextmanager
    def started(self, folder: Path, broker: Mosquitto) -> Iterator[Started]:
        yield self._running


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    with mosquitto(folder, QUIET) as broker, TidegatePeer().started(folder, broker) as running:
        yield Stage(Shared(running), compiled("load", folder), broker, SHORT)


@pytest.mark.parametrize("workload", WORKLOADS, ids=BY_NAME)
def test_a_short_form_of_each_workload_loses_nothing(workload: Workload[Stage], stage: Stage) -> None:
    result = workload.run(stage)
    assert set(result) >= {workload.key, *workload.columns}
    assert result[workload.key] > 0
    assert result.get("lost_share", 0) == result.get("refused", 0) == result.get("disconnected", 0) == 0


def test_servers_beside_the_gateway_lose_nothing_either(tmp_path: Path) -> None:
    others = ("mosquitto", "Starlette and aiomqtt", "C, send() alone")
    report = compare([*peers(*others), TidegatePeer("SSE")], [BY_NAME["fan-out"]], 1, SHORT, tmp_path)
    found = report.found["fan-out"]
    assert [name.rpartition(" (")[0] for name in found] == [*others, "Tidegate"]
    assert {name: [result["lost_share"] for result in each.rounds] for name, each in found.items()} == {
        name: [0] for name in found
    }


def test_tables_and_json_say_what_was_found_and_what_was_not(tmp_path: Path) -> None:
    gateway, limit = peers("Tidegate")[0], peers("C, send() alone")[0]
    report = compare([gateway, limit, Missing()], [BY_NAME["fan-out"], BY_NAME["dashboard"]], 1, SHORT, tmp_path)
    write(report, tmp_path / "out")
    markdown = (tmp_path / "out" / "benchmarks.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in markdown.splitlines() if line.startswith("|")]
    fan_out, dashboard = rows[:4], rows[4:]
    assert len({len(row) for row in fan_out}) == len({len(row) for row in dashboard}) == 1
    assert [row[1].startswith(peer.name) for row, peer in zip(fan_out[2:], (gateway, limit), strict=True)] == [True] * 2
    assert fan_out[2][2] == "1.00"
    assert len(dashboard) == 3
    assert f"- {limit.name}: not measured, it has no topics." in markdown
    assert "- Missing (WebSocket): not on this machine, expected Debian's package missing" in markdown
    told = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    assert told["absent"] == {"Missing (WebSocket)": "expected Debian's package missing"}
    assert set(told["versions"]) == set(told["workloads"]["fan-out"]) == {gateway.name, limit.name}
    assert told["machine"]["cores"] >= 1
    measured = told["workloads"]["fan-out"][gateway.name]
    assert measured["median"] == measured["rounds"][0]
    assert told["workloads"]["dashboard"][limit.name]["problem"] == "not measured, it has no topics"


def test_the_documented_command_measures_what_it_names(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^python -m benchmarks\.compare .*$", DOCUMENT.read_text(), re.MULTILINE)
    short = ["--peers", "mosquitto", "--rounds", "1", "--seconds", "0.1", "--share", "0.02", "--output", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, *shlex.split(shown)[1:], *short], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads((tmp_path / "benchmarks.json").read_text())
    assert {name: list(servers) for name, servers in told["workloads"].items()} == {
        "fan-out": ["mosquitto (WebSocket)"],
        "light": ["mosquitto (WebSocket)"],
    }


def test_every_workload_is_documented() -> None:
    text = DOCUMENT.read_text()
    assert [name for name in BY_NAME if f"`{name}`" not in text and not name.startswith("ingest-")] == []
