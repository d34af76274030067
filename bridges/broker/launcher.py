"""The gateway's side of the embedded broker: starts its process, forwards its log, notices its end, stops it.

The listening socket is opened here and inherited: a port in use is noticed at once, and a broker that is started again
has the same port without a gap in which connections are refused.
"""

import asyncio
import dataclasses
import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Final

from bridges.broker.options import BrokerOptions

__all__ = ["BrokerUnavailable", "EmbeddedBroker"]

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 0.7
"""How long the process has to end by itself before it is killed."""
LOG_LINE_BYTES: Final = 1_048_576
ROOT: Final = Path(__file__).parents[2]

logger = logging.getLogger(__name__)


class BrokerUnavailable(Exception):
    """The embedded broker can't be started, or has ended by itself; the text says why."""


class EmbeddedBroker:
    """An MQTT broker in a process of its own. It may be started again after it has ended, and keeps its port."""

    def __init__(self, options: BrokerOptions) -> None:
        self._options = options
        self._listening: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on; if 0 was asked for, the one it got, once it has been started."""
        return self._options.port if self._listening is None else int(self._listening.getsockname()[1])

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start; returns once clients are served.

        Raises:
            BrokerUnavailable: the address can't be listened on, or the process doesn't come up.
        """
        await self._end()
        first = self._listening is None
        if self._listening is None:
            self._listening = await self._listen()
        try:
            await self._launch(self._listening)
        except BaseException:
            if first:
                await self.stop()
            raise

    async def wait(self) -> None:
        """Wait until the broker has been stopped.

        Raises:
            BrokerUnavailable: it ended by itself.
        """
        process = self._process
        if process is None:
            return
        status = await process.wait()
        if self._process is process:
            await self._end()
            raise BrokerUnavailable(f"the embedded broker ended by itself (exit status {status}); its log says why")

    async def stop(self) -> None:
        """End the broker and all its connections, in less than a second; nothing happens if it doesn't run."""
        try:
            await self._end()
        finally:
            if self._listening is not None:
                self._listening.close()
                self._listening = None

    async def _listen(self) -> socket.socket:
        host, port = self._options.host, self._options.port
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
            return socket.create_server(address[:2], family=family, backlog=512)
        except OSError as error:
            raise BrokerUnavailable(f"the embedded broker can't listen on {host}, port {port}: {error}") from error

    async def _launch(self, listening: socket.socket) -> None:
        descriptor = listening.fileno()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "bridges.broker.process"),
            *(json.dumps(dataclasses.asdict(self._options)), str(descriptor)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LOG_LINE_BYTES,
            pass_fds=(descriptor,),
            start_new_session=True,  # out of the reach of the terminal's Ctrl-C
            env={**os.environ, "PYTHONPATH": path},
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self._log = asyncio.create_task(_forward(process.stderr))
        ready = b""
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = await process.stdout.readline()
        except TimeoutError as error:
            raise BrokerUnavailable(f"the embedded broker didn't start within {START_SECONDS:g} s") from error
        finally:
            if not ready:
                await self._end()
        if not ready:
            raise BrokerUnavailable("the embedded broker ended while it started; its log says why")

    async def _end(self) -> None:
        """End the process and take leave of it; what `wait` sees then is no accident."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert self._log is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            logger.warning("the embedded broker took too long to stop and was killed")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await self._log


async def _forward(lines: asyncio.StreamReader) -> None:
    """Log again what the broker logged; what isn't its log comes from the interpreter and is an error."""
    async for line in lines:
        try:
            record = json.loads(line)
            level, text = int(record["level"]), str(record["text"])
        except (ValueError, TypeError, KeyError):
            level, text = logging.ERROR, line.decode(errors="replace").rstrip()
        logger.log(level, "%s", text)
