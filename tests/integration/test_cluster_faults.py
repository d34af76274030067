"""A cluster whose parts fail one after the other loses nothing that the log has: a short form of the benchmark."""

from pathlib import Path

import pytest

from benchmarks.cluster_faults import Options, suffer

SHORT = Options(clients=45, rate=120, seconds=0, pause_seconds=6.5, calm_seconds=0.3, groups=4)


@pytest.mark.timeout(240)
async def test_nothing_is_lost_doubled_or_out_of_order_when_parts_of_a_cluster_fail(tmp_path: Path) -> None:
    report = await suffer(SHORT, tmp_path)
    print(report)
    assert report.is_flawless, str(report)
    assert len(report.rows) == 9
    killed = report.rows[1]
    assert killed.phase.returned  # clients were on it
    assert all(report.came_back[kind] for kind in ("WebSocket", "SSE", "MQTT 5")), report.came_back
