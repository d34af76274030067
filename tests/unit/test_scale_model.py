"""The model of many nodes: what holds of its plans whatever is asked, and what its simulations are bound to show."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scale.costs import FIGURES, POINTS, ROW, SOURCES, TOLD, UNTOLD, Costs, MissingFigure
from benchmarks.scale.load import Load
from benchmarks.scale.plan import Hardware, Layout, Plan, Unreachable, best_plan, demand_of, plan_with
from benchmarks.scale.queues import live
from benchmarks.scale.reach import fullness, reach_of
from benchmarks.scale.storm import come_back
from benchmarks.scale_model import parsed

COSTS, HARDWARE = Costs(), Hardware()
DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"
MOST_SHARDS = 12

loads = st.builds(
    Load,
    browsers=st.floats(1, 300_000),
    rooms_per_browser=st.integers(1, 20),
    messages_per_second=st.floats(0.1, 30_000),
    rooms=st.floats(1, 100_000),
    popularity=st.floats(0, 1.2),
    loudness=st.floats(0, 1),
    payload_bytes=st.integers(20, 5000),
)
layouts = st.sampled_from(Layout)
more = st.floats(1, 3)


def cores(load: Load, layout: Layout) -> float:
    try:
        return best_plan(load, layout, COSTS, HARDWARE, MOST_SHARDS).cores
    except Unreachable:
        return float("inf")


@given(loads, layouts, more)
@settings(deadline=None, max_examples=40)
def test_more_browsers_never_need_fewer_cores(load: Load, layout: Layout, times: float) -> None:
    assert cores(replace(load, browsers=load.browsers * times), layout) >= cores(load, layout)


@given(loads, layouts, more)
@settings(deadline=None, max_examples=40)
def test_more_messages_never_need_fewer_cores(load: Load, layout: Layout, times: float) -> None:
    more_messages = replace(load, messages_per_second=load.messages_per_second * times)
    assert cores(more_messages, layout) >= cores(load, layout)


@given(loads, layouts, st.sampled_from(["push_microseconds", "script_microseconds", "ingest_microseconds"]), more)
@settings(deadline=None, max_examples=40)
def test_dearer_steps_never_need_fewer_cores(load: Load, layout: Layout, cost: str, times: float) -> None:
    dearer = replace(COSTS, **{cost: getattr(COSTS, cost) * times})
    try:
        found: float = best_plan(load, layout, dearer, HARDWARE, MOST_SHARDS).cores
    except Unreachable:
        found = float("inf")
    assert found >= cores(load, layout)


@given(loads, layouts)
@settings(deadline=None, max_examples=60)
def test_nothing_is_used_beyond_the_target_though_a_machine_is_missing(load: Load, layout: Layout) -> None:
    try:
        plan = best_plan(load, layout, COSTS, HARDWARE, MOST_SHARDS)
    except Unreachable:
        return
    assert {part: used for part, used in fullness(plan, HARDWARE).items() if used > 1 + 1e-9} == {}
    assert plan.usual.utilisation <= plan.failed.utilisation
    assert plan.machines * HARDWARE.processes >= plan.nodes + plan.readers


@given(loads, st.integers(1, 8))
@settings(deadline=None, max_examples=40)
def test_no_node_is_there_without_need(load: Load, shards: int) -> None:
    try:
        plan = plan_with(load, shards, Layout.GROUPED, COSTS, HARDWARE)
    except Unreachable:
        return
    fewer = plan.nodes // shards - 2  # one besides the spare one
    if fewer:
        needed = demand_of(load.part(shards), fewer, COSTS)
        memory_mib, network_gbit = needed.memory_mib * HARDWARE.processes, needed.network_gbit * HARDWARE.processes
        assert (
            needed.utilisation > HARDWARE.target
            or needed.connections > HARDWARE.connections
            or memory_mib > HARDWARE.memory_gib * 1024 * HARDWARE.target
            or network_gbit > HARDWARE.network_gbit * HARDWARE.target
        )


@given(loads)
@settings(deadline=None)
def test_rooms_share_all_subscriptions_and_all_messages(load: Load) -> None:
    groups = load.groups
    assert sum(group.rooms for group in groups) == pytest.approx(load.rooms, abs=1)
    messages = sum(group.rooms * group.messages_per_second for group in groups)
    assert messages == pytest.approx(load.messages_per_second)
    subscriptions = sum(group.rooms * group.subscribers for group in groups)
    assert subscriptions <= load.browsers * load.rooms_per_browser * (1 + 1e-9)
    assert max(group.subscribers for group in groups) <= load.browsers


def test_where_rooms_are_alike_each_message_has_as_many_receivers() -> None:
    load = Load(browsers=1000, rooms_per_browser=5, messages_per_second=10, rooms=100)
    assert load.deliveries_per_second == pytest.approx(10 * 1000 * 5 / 100)


@given(loads, st.integers(1, 50))
@settings(deadline=None)
def test_a_message_goes_to_no_more_nodes_than_there_are_or_it_has_receivers(load: Load, nodes: int) -> None:
    pushes = load.pushes_per_message(nodes)
    receivers = load.deliveries_per_second / load.messages_per_second
    assert 0 <= pushes <= min(nodes, receivers) * (1 + 1e-9)
    assert load.pushes_per_message(nodes + 1) >= pushes * (1 - 1e-9)


@pytest.fixture(scope="module", params=Layout, ids=lambda layout: layout.value)
def plan(request: pytest.FixtureRequest) -> Plan:
    return best_plan(Load(), request.param, COSTS, HARDWARE)


def test_the_same_seed_gives_the_same_second(plan: Plan) -> None:
    assert live(Load(), plan, COSTS, messages=3000) == live(Load(), plan, COSTS, messages=3000)
    assert live(Load(), plan, COSTS, messages=3000) != live(Load(), plan, COSTS, messages=3000, seed=2)


def test_what_is_simulated_is_as_busy_as_what_is_counted(plan: Plan) -> None:
    lived = live(Load(), plan, COSTS)
    assert lived.node_utilisation == pytest.approx(plan.usual.utilisation, rel=0.1)
    assert lived.redis_utilisation == pytest.approx(plan.redis_utilisation, rel=0.1)
    if plan.readers:
        assert lived.reader_utilisation == pytest.approx(plan.reader_utilisation, rel=0.1)


def test_the_busier_the_longer_a_message_takes(plan: Plan) -> None:
    halved = replace(plan, nodes=plan.nodes // 2)
    usual, busy = (live(Load(), each, COSTS, messages=10_000) for each in (plan, halved))
    assert busy.node_utilisation > usual.node_utilisation
    assert busy.p99_ms > usual.p99_ms
    assert busy.pushes_a_turn > usual.pushes_a_turn


def test_no_message_is_faster_than_its_steps(plan: Plan) -> None:
    lived = live(Load(), plan, COSTS, messages=3000)
    steps = COSTS.ingest_microseconds + COSTS.script_microseconds + COSTS.push_microseconds
    assert lived.p99_ms >= lived.p50_ms > steps / 1000


def test_all_come_back_and_the_less_is_free_the_later(plan: Plan) -> None:
    returned = come_back(plan, HARDWARE.processes, COSTS)
    assert returned == come_back(plan, HARDWARE.processes, COSTS)
    assert 0.1 < returned.half_seconds < returned.all_seconds
    assert returned.attempts == 1
    later = come_back(plan, HARDWARE.processes, replace(COSTS, return_microseconds=COSTS.return_microseconds * 4))
    assert later.all_seconds > returned.all_seconds


def test_who_waits_for_too_long_gives_up_and_tries_again(plan: Plan) -> None:
    slow = replace(COSTS, return_microseconds=100_000)
    returned = come_back(plan, HARDWARE.processes, slow)
    assert returned.attempts > 1
    assert returned.all_seconds > returned.each_node * 0.1


def test_one_redis_reaches_as_far_as_it_can() -> None:
    reach = reach_of(Load(), COSTS, HARDWARE)
    assert reach is not None
    assert reach.share < 1
    assert max(fullness(reach.plan, HARDWARE).values()) == pytest.approx(1, rel=0.05)
    assert fullness(reach.plan, HARDWARE)["Redis' processors"] == pytest.approx(1, rel=0.01)


def test_there_are_no_more_shards_than_namespaces() -> None:
    assert best_plan(Load(), Layout.GROUPED, COSTS, HARDWARE, most_shards=20).shards <= 20
    with pytest.raises(Unreachable, match="Redis"):
        best_plan(Load(), Layout.GROUPED, COSTS, HARDWARE, most_shards=1)


@given(st.floats(1, 1e6), more)
def test_a_write_costs_more_the_more_connections_there_are(connections: float, times: float) -> None:
    assert COSTS.write(connections * times) >= COSTS.write(connections) > 0


def test_each_cost_says_where_it_is_from() -> None:
    assert list(SOURCES) == [each.name for each in fields(Costs)]


def told(**changes: Any) -> dict[str, Any]:
    """What a run of benchmarks.cluster writes, as far as the model reads it."""
    workloads: dict[str, Any] = {name: {ROW: {"median": {}}} for name, _ in FIGURES.values()}
    for at, (workload, figure) in enumerate(FIGURES.values()):
        workloads[workload][ROW]["median"][figure] = 10.0 + at
    for at in POINTS:
        workloads["browsers"][ROW]["median"][f"write_microseconds_at_{at}"] = float(at)
    cost = "redis_microseconds_per_message"
    workloads["redis"] = {row: {"median": {cost: value}} for row, value in ((UNTOLD, 20.0), (TOLD, 36.0))}
    return {"workloads": {**workloads, **changes}}


def test_costs_are_those_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps(told()))
    costs = Costs.measured(tmp_path / "cluster.json")
    assert [getattr(costs, name) for name in FIGURES] == [10.0 + at for at in range(len(FIGURES))]
    assert (costs.script_microseconds, costs.redis_push_microseconds) == (20, 2)
    assert costs.write_microseconds == ((100, 100), (1000, 1000), (10_000, 10_000))
    assert costs.heartbeat_microseconds_per_second == COSTS.heartbeat_microseconds_per_second


@pytest.mark.parametrize("lacking", [{}, {ROW: {"median": None}}], ids=["not run", "failed"])
def test_a_run_that_lacks_a_figure_is_refused_by_its_name(lacking: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps(told(ingest=lacking)))
    with pytest.raises(MissingFigure, match=r"node_0_microseconds_per_message.*ingest"):
        Costs.measured(tmp_path / "cluster.json")


def printed(*options: str) -> str:
    shown = re.findall(r"^python -m benchmarks\.scale_model.*$", DOCUMENT.read_text(), re.MULTILINE)
    assert shown == ["python -m benchmarks.scale_model"]
    asked = [sys.executable, *shlex.split(shown[0])[1:], *options]
    ended = subprocess.run(asked, cwd=DOCUMENT.parents[1], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_document_says_what_the_model_says() -> None:
    shown = DOCUMENT.read_text().partition("<!-- model -->")[2].partition("<!-- /model -->")[0]
    assert shown.strip() == printed().strip()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--browsers", "0"], "expected a number above 0, found '0'"),
        (["--target", "1.5"], "expected a share above 0 and at most 1, found '1.5'"),
        (["--costs", "missing.json"], "missing.json"),
    ],
)
def test_what_cannot_be_asked_is_refused(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(options)
    assert said in capsys.readouterr().err


def test_what_no_cluster_carries_is_said(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps(told()))
    costs = str(tmp_path / "cluster.json")
    text = printed("--namespaces", "1", "--simulated", "1000", "--costs", costs)
    assert "Not in one cluster: Redis' processor is full." in text
    assert "| write microseconds | 100: 100, 1,000: 1e+03, 10,000: 1e+04 |" in text
