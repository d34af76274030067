"""The broker's own process: `python -m bridges.broker.process OPTIONS FILE_DESCRIPTOR`, started by `launcher` alone.

It serves the listening socket that it inherits, says `ready` on its standard output, logs JSON lines on its standard
error, and ends when its standard input does: so it never outlives the gateway, however that dies.
"""

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from typing import Final

import uvloop

from bridges.broker.options import BrokerOptions
from bridges.broker.server import Server

__all__ = ["main"]

SHUTDOWN_SECONDS: Final = 0.4
"""How long connections have to end; those that don't are cut by the end of the process."""

logger = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """One record, traceback included, on one line, for the launcher to log again."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's level and text."""
        return json.dumps({"level": record.levelno, "text": super().format(record)})


def main() -> None:
    """Run until the gateway closes our standard input, or until SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the gateway's to handle
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        options = BrokerOptions(**json.loads(sys.argv[1]))
        uvloop.run(_serve(options, socket.socket(fileno=int(sys.argv[2]))))
    except Exception:
        logger.exception("the embedded broker failed")
        sys.exit(1)


async def _serve(options: BrokerOptions, listening: socket.socket) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = Server(options, listening)
    await server.start()
    print("ready", flush=True)
    stopped, faulty = asyncio.create_task(stop.wait()), asyncio.create_task(server.run())
    done, _ = await asyncio.wait((stopped, faulty), return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(sys.stdin.fileno())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SHUTDOWN_SECONDS):
            await server.shutdown()
    for task in done:
        task.result()


if __name__ == "__main__":
    main()
