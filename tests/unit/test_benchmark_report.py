"""What the report of the comparison says of figures that are given."""

from dataclasses import replace

import pytest

from benchmarks.bench import SHORT, Result
from benchmarks.peers.mosquitto import MosquittoPeer
from benchmarks.peers.tidegate import TidegatePeer
from benchmarks.report import Found, Report, median, ratio
from benchmarks.workloads import Workload

MORE: Workload[None] = Workload("load", "W0: a load", lambda _: {}, "speed", ("p99_ms",))
LESS = replace(MORE, less_is_better=True)


def results(*speeds: float) -> list[Result]:
    return [{"speed": speed, "p99_ms": 1234.5} for speed in speeds]


def report(ours: Found, theirs: Found, sse: Found | None = None) -> Report:
    peers = [TidegatePeer(), TidegatePeer("SSE"), MosquittoPeer()]
    found = dict(zip((peer.name for peer in peers), (ours, sse or Found(), theirs), strict=True))
    compared_with = {peer.name: f"Tidegate ({peer.transport})" for peer in peers}
    return Report({"cores": 2}, {}, {}, 1, SHORT, compared_with, found={"load": found})


def row(table: str, name: str) -> list[str]:
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_ratio_says_how_many_times_as_good_the_gateway_is() -> None:
    assert ratio(MORE, results(300), results(100)) == 3
    assert ratio(LESS, results(300), results(100)) == pytest.approx(1 / 3)


def test_a_ratio_is_the_median_of_the_rounds_that_both_took() -> None:
    assert ratio(MORE, results(100, 400, 900), results(100, 200, 300)) == 2
    assert ratio(MORE, results(100, 400, 900), results(100)) == 1


def test_there_is_no_ratio_to_nothing() -> None:
    assert ratio(MORE, results(100), results(0)) is None
    assert ratio(MORE, results(100), []) is None


def test_figures_are_medians() -> None:
    assert median(results(1, 5, 2))["speed"] == 2


def test_a_figure_that_a_round_did_not_find_has_no_median() -> None:
    assert median([*results(1, 5), {"speed": 0.0}]) == {"speed": 1}


def test_a_row_is_compared_with_the_gateway_over_the_same_transport() -> None:
    table = report(Found(results(200)), Found(results(100)), Found(results(900))).table(MORE)
    assert row(table, "mosquitto") == ["mosquitto (WebSocket)", "2.00", "100", "1,234"]
    assert row(table, "Tidegate (SSE)") == ["Tidegate (SSE)", "1.00", "900", "1,234"]


@pytest.mark.parametrize(
    ("figure", "mark", "said"),
    [
        ({"generator_cpu_share": 0.95}, r"\*", "The load generator had more"),
        ({"generator_late_share": 0.2}, r"\*", "The load generator had more"),
        ({"others_cpu_share": 0.5}, "†", "Other programs used more"),
        ({"machine_cpu_share": 0.95}, "‡", "All cores were in use"),
        ({"waiting_share": 0.6}, "‡", "All cores were in use, or processes waited for one half of the time"),
    ],
)
def test_a_row_says_if_something_else_than_the_server_may_have_been_measured(
    figure: Result, mark: str, said: str
) -> None:
    sound, doubtful = results(100), [{**results(100)[0], **figure}]
    assert row(report(Found(doubtful), Found(sound)).table(MORE), "Tidegate")[0] == f"Tidegate (WebSocket) {mark}"
    assert f"- {mark} {said}" in report(Found(doubtful), Found(sound)).table(MORE)
    assert said not in report(Found(sound), Found(sound)).table(MORE)


def test_what_was_not_measured_is_named() -> None:
    table = report(Found(results(1)), Found(problem="not measured, it has no topics")).table(MORE)
    assert "- mosquitto (WebSocket): not measured, it has no topics." in table
