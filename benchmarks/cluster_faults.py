"""What a cluster loses when its parts fail one after the other: nothing that the log has.

Three gateways behind nginx with Redis and mosquitto, all real, clients of every transport, devices that publish numbers
at QoS 1 and browsers that do so by `POST /publish`. Meanwhile gateways are killed and drained, the broker and Redis
restart, Redis is paused, a gateway is cut off from it, and in the end Redis loses its data. All that clients were told
is compared with what the log has, and that with what was acknowledged.

    python -m benchmarks.cluster_faults --clients 300 --rate 500 --seconds 60
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.faults.cluster import cluster
from benchmarks.faults.report import Report
from benchmarks.faults.run import Options, Run

__all__ = ["Options", "suffer"]


async def suffer(options: Options, folder: Path, say: Callable[[str], None] = lambda _: None) -> Report:
    """Let all faults happen; the parts are started in `folder` and always stopped."""
    parts = cluster(folder, options.clients)
    running = await asyncio.to_thread(parts.__enter__)
    try:
        run = Run(options, running, say)
        await run.run()
    finally:
        await asyncio.to_thread(parts.__exit__, None, None, None)
    return run.report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in Options().__dict__.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = Options(**vars(parser.parse_args()))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}: {options}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        report = uvloop.run(suffer(options, Path(folder), partial(print, file=sys.stderr)))
    print(report)
    sys.exit(not report.is_flawless)


if __name__ == "__main__":
    main()
