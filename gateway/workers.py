"""Several processes of one gateway on one machine, and the parent that starts them, and starts again what ended.

Each has a listening socket of its own on the same port, over which the system spreads connections. What they have in
common is in Redis. The parent serves nobody. Workers are forked from it once it has imported all and read the
configuration, so that they start soon and share that memory.
"""

import gc
import json
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from gateway.core.clock import Clock
from gateway.hangup import Terminal
from gateway.start import StartError
from gateway.worker import Worker

__all__ = ["Workers"]

MIN_PAUSE_SECONDS: Final = 0.5
MAX_PAUSE_SECONDS: Final = 30.0
SETTLED_SECONDS: Final = 60.0
"""A worker that lived so long is taken to be well: the next one of its number starts soon."""
END_SECONDS: Final = 10.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Child:
    """One of the workers, as the parent knows it: the processes with its number, one after the other."""

    index: int
    pid: int | None = None
    line: socket.socket | None = None
    heard: bytes = b""
    serves: bool = False
    problem: str | None = None
    began: float = 0.0
    again_at: float | None = None
    faults: int = 0
    restarts: int = 0


class Workers:
    """The processes.

    Args:
        count: How many there are to be.
        port: The port that all share.
        be: Is a worker: called in its process, which ends with it. It raises StartError if it can't start.
        started: Called in the parent once all serve, with the port of the first one's operators.
        leave_seconds: How long workers give their clients once they are told to end.
        end_seconds: How long they may take to end besides; then they are killed.
    """

    def __init__(
        self,
        count: int,
        port: int,
        be: Callable[[Worker], None],
        started: Callable[[int | None], None],
        leave_seconds: float,
        clock: Clock,
        random: Random,
        end_seconds: float = END_SECONDS,
    ) -> None:
        self._children = [_Child(index) for index in range(count)]
        self._port = port
        self._be = be
        self._started = started
        self._leave_seconds = leave_seconds
        self._end_seconds = end_seconds
        self._clock = clock
        self._random = random
        self._terminal = Terminal()
        self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ops_port: int | None = None
        self._all_served = False
        self._leaving = False
        self._kill_at: float | None = None
        self._failure: str | None = None
        self._disorder = False

    def run(self) -> int:
        """Start them, and see to them until all have ended; the exit code, 0 if that was in good order.

        Raises:
            StartError: a worker couldn't be started at first. No other runs then.
        """
        self._mind_signals()
        gc.collect()
        gc.freeze()  # so that a search for garbage doesn't write to the memory that they share
        self._start(self._children[0])  # alone: what keeps it from starting keeps all
        while any(child.pid is not None or child.again_at is not None for child in self._children):
            self._wait()
        if self._failure is not None:
            raise StartError(self._failure)
        return int(self._disorder)

    def _mind_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)

    def _start(self, child: _Child) -> None:
        ours, theirs = socket.socketpair()
        child.line, child.heard, child.serves, child.problem, child.again_at = ours, b"", False, None, None
        child.began = self._clock.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        child.pid = os.fork()
        if child.pid == 0:
            self._become(child, theirs)
        theirs.close()
        ours.setblocking(False)

    def _become(self, child: _Child, line: socket.socket) -> None:
        """Be the worker; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: os._exit(0))  # nothing has been started yet
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in self._wakeup:
                os.close(descriptor)
            for other in self._children:  # else none would notice that the parent is gone
                if other.line is not None:
                    other.line.close()
            worker = Worker(child.index, child.restarts, self._port, line)
            try:
                self._be(worker)
                code = 0
            except StartError as error:
                worker.fails(str(error))
        except BaseException:
            logger.exception("worker %d failed", child.index)
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _wait(self) -> None:
        """Wait for one thing to happen, and see to it."""
        moments = [child.again_at for child in self._children] + [self._kill_at]
        due = min((moment for moment in moments if moment is not None), default=None)
        pause = None if due is None else max(0.0, due - self._clock.monotonic())
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup[0], selectors.EVENT_READ)
            for child in self._children:
                if child.line is not None:
                    selector.register(child.line, selectors.EVENT_READ, child)
            for key, _ in selector.select(pause):
                if key.data is not None:
                    self._hear(key.data)
                else:
                    for number in os.read(self._wakeup[0], 4096):
                        self._signalled(number)
        self._take_leave()
        self._see_to_the_time(self._clock.monotonic())

    def _hear(self, child: _Child) -> None:
        """Take what a worker says."""
        line = child.line
        while line is not None:
            try:
                said = line.recv(65_536)
            except BlockingIOError:
                break
            except OSError:
                said = b""
            if not said:
                line.close()
                child.line = line = None
            child.heard += said
        *words, child.heard = child.heard.split(b"\n")
        for word in words:
            said_so = json.loads(word)
            child.problem = said_so.get("problem")
            if child.problem is None:
                self._serving(child, said_so["ops_port"])

    def _serving(self, child: _Child, ops_port: int | None) -> None:
        child.serves = True
        if self._all_served:
            logger.info("worker %d serves again", child.index)
            return
        if child.index == 0:
            self._ops_port = ops_port
            for other in self._children[1:]:
                if not self._leaving:
                    self._start(other)
        if all(each.serves for each in self._children):
            self._all_served = True
            self._started(self._ops_port)

    def _signalled(self, number: int) -> None:
        if number in (signal.SIGINT, signal.SIGTERM):
            self._leave()
        elif number == signal.SIGHUP:
            if not self._terminal.is_gone:
                self._tell_all(b"reload")
            elif not self._leaving:
                self._leave()

    def _leave(self) -> None:
        """Let all end; told once more, at once."""
        again, self._leaving = self._leaving, True
        for child in self._children:
            child.again_at = None
        self._tell_all(b"end" if again else b"drain")
        self._kill_at = self._clock.monotonic() + self._end_seconds + (0.0 if again else self._leave_seconds)

    def _tell_all(self, word: bytes) -> None:
        for child in self._children:
            if child.line is not None:
                with suppress(OSError):  # it has ended, or hears nothing any more
                    child.line.send(word + b"\n")

    def _take_leave(self) -> None:
        """See which processes have ended."""
        for child in self._children:
            if child.pid is None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._hear(child)
                if child.line is not None:
                    child.line.close()
                child.pid = child.line = None
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: _Child, code: int) -> None:
        how = f"ended {_told(code)}" if child.problem is None else f"can't start: {child.problem}"
        if self._leaving:
            if code and self._failure is None:
                self._disorder = True
                logger.error("worker %d %s", child.index, how)
        elif not self._all_served and code == 0:  # by a signal, which may reach the workers first
            self._leave()
        elif not self._all_served:
            self._failure = child.problem or f"worker {child.index} {how} before it served: its log says why"
            self._leave()
            self._leave()
        else:
            self._start_later(child, how)

    def _start_later(self, child: _Child, how: str) -> None:
        now = self._clock.monotonic()
        child.faults = 0 if now - child.began > SETTLED_SECONDS else child.faults + 1
        longest = min(MAX_PAUSE_SECONDS, MIN_PAUSE_SECONDS * 2 ** min(child.faults, 16))
        pause = self._random.uniform(MIN_PAUSE_SECONDS, longest)
        child.again_at = now + pause
        logger.error("worker %d %s; it is started again in %.1f s", child.index, how, pause)

    def _see_to_the_time(self, now: float) -> None:
        for child in self._children:
            if child.again_at is not None and child.again_at <= now:
                child.restarts += 1
                self._start(child)
        if self._kill_at is not None and self._kill_at <= now:
            self._kill_at = None
            for child in self._children:
                if child.pid is not None:
                    logger.error("worker %d takes too long to end, and is killed", child.index)
                    os.kill(child.pid, signal.SIGKILL)


def _told(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
