"""Starts gateways for the tests: a process that has imported all of the program once, and forks for each.

A line of JSON on its input is a start; what it says are the process's number, and later its exit code.
"""

import asyncio
import json
import os
import select
import signal
import sys
from typing import Any

from gateway import __main__ as program
from gateway import app, cli, run_workers, runner, server
from tests import plain_server

__all__: list[str] = []

LOADED = (app, cli, run_workers, runner, server)


def serve() -> dict[str, Any] | None:
    """Fork for each line; returns what to run in the children, and nothing at the end of the input."""
    reading, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waking)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    lines = sys.stdin.buffer
    while True:
        ready, _, _ = select.select([lines, reading], [], [])
        if reading in ready:
            os.read(reading, 4096)
            _tell_of_ended()
        if lines in ready:
            line = lines.readline()
            if not line:
                return None
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGCHLD, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.default_int_handler)
                return json.loads(line)  # type: ignore[no-any-return]
            _say({"started": pid})


def _tell_of_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(said: dict[str, int]) -> None:
    print(json.dumps(said), flush=True)


def run(wanted: dict[str, Any]) -> None:
    """Be the program, as if it had been started so."""
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    output = os.open(wanted["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.closerange(3, 64)
    sys.argv = wanted["arguments"]
    if wanted["plain"]:
        asyncio.run(plain_server.main())
    else:
        program.main()


if __name__ == "__main__":
    found = serve()
    if found is not None:
        run(found)
