"""Gateways that are forked instead of started: to import the program takes longer than most tests.

tests/integration/test_program.py and test_fresh_clone.py start the program itself.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["ForkedProcess"]

ROOT = Path(__file__).parents[1]


class ForkServer:
    """The process that forks; there is one for each process that runs tests, and it ends with that."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        self._turn = threading.Lock()
        self._told = threading.Condition()
        self._started: list[int] = []
        self._codes: dict[int, int] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            with self._told:
                if "started" in said:
                    self._started.append(said["started"])
                    self._codes.pop(said["started"], None)
                else:
                    self._codes[said["ended"]] = said["code"]
                self._told.notify_all()

    def start(self, wanted: dict[str, Any]) -> int:
        """Fork; the new process's number."""
        assert self._process.stdin is not None
        with self._turn:
            self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
            self._process.stdin.flush()
            with self._told:
                assert self._told.wait_for(lambda: self._started, 20), "the fork server doesn't answer"
                return self._started.pop()

    def code(self, pid: int, timeout_seconds: float | None) -> int | None:
        """With what a process has ended, None if it hasn't within this time."""
        with self._told:
            self._told.wait_for(lambda: pid in self._codes, timeout_seconds)
            return self._codes.get(pid)


@cache
def fork_server() -> ForkServer:
    """The one of this process."""
    return ForkServer()


class ForkedProcess:
    """As much of `subprocess.Popen` as the tests use."""

    def __init__(self, arguments: list[str], output: Path, *, plain: bool) -> None:
        self._server = fork_server()
        wanted = {
            "arguments": arguments,
            "plain": plain,
            "output": str(output.resolve()),
            "folder": str(Path.cwd()),
            "environment": dict(os.environ),
        }
        self.args = arguments
        output.touch()  # it is read before the process has come so far
        self.pid = self._server.start(wanted)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.returncode is None:
            self.returncode = self._server.code(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        if self.returncode is None:
            self.returncode = self._server.code(self.pid, timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has, and we aren't told yet
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)
