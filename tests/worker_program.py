"""Workers that serve nobody, under the parent of those of a gateway: `python -m tests.worker_program MODE`."""

import asyncio
import logging
import os
import sys
from random import Random

from gateway.core.clock import SystemClock
from gateway.start import StartError
from gateway.worker import Worker
from gateway.workers import Workers


class Longest(Random):
    """Pauses as long as may be."""

    def uniform(self, a: float, b: float) -> float:
        return b


def be(worker: Worker) -> None:
    mode = sys.argv[1]
    if mode == "crash at once" and worker.index == 0:
        os._exit(3)
    if mode == "told to end" and worker.index == 0:
        os._exit(0)
    if mode == "no place" and worker.index == 1:
        raise StartError("there is no place for it")
    if mode == "no place again" and worker.restarts:
        raise StartError("there is no place for it any more")
    asyncio.run(serve(worker, stubborn=mode == "stubborn" and worker.index == 1))


async def serve(worker: Worker, *, stubborn: bool) -> None:
    over = asyncio.Event()

    def end() -> None:
        if not stubborn:
            over.set()

    worker.obey(drain=end, end=end, reload=lambda: print(f"worker {worker.index} reloads", flush=True))
    worker.serves(None)
    await over.wait()


def main() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    workers = Workers(
        2, 0, be, lambda _: print("all serve", flush=True), 0.1, SystemClock(), Longest(), end_seconds=0.2
    )
    try:
        code = workers.run()
    except StartError as error:
        print(f"failed: {error}", flush=True)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
