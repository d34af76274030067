"""Nothing lost, nothing twice: a short form of `benchmarks/soak.py`."""

from pathlib import Path

import pytest

from benchmarks.soak import Options, soak


@pytest.mark.parametrize(
    "options",
    [Options(browsers=100, rate=300, seconds=15), Options(browsers=60, rate=200, seconds=18, kills=2)],
    ids=["restless browsers", "a gateway that is killed"],
)
async def test_nothing_is_lost_doubled_or_out_of_order(tmp_path: Path, options: Options) -> None:
    report = await soak(options, tmp_path)
    print(report)
    assert report.flawless, str(report)
