"""Clients from npm, run by node: programs in `tests/clients` that talk in lines of JSON, see `lines.js` there."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from tests.real import DEADLINE_SECONDS, wait_until

__all__ = ["CLIENTS", "NodeProgram", "node_program"]

CLIENTS = Path(__file__).parent / "clients"


class ClientError(Exception):
    """What a command to a client failed with."""


class NodeProgram:
    """One running program of node."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.arguments = arguments
        self._process = subprocess.Popen(
            ["node", str(CLIENTS / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=CLIENTS,
            text=True,
        )
        self._numbers = count(1)
        self._answers: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.events: list[dict[str, Any]] = []
        """All that has happened, in order."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "event" in said:
                self.events.append(said)
            else:
                self._answers.put(said)

    def do(self, name: str, **arguments: Any) -> Any:
        """Have a command carried out; its answer.

        Raises:
            ClientError: it failed.
        """
        assert self._process.stdin is not None
        number = next(self._numbers)
        self._process.stdin.write(json.dumps({"do": name, "id": number, **arguments}) + "\n")
        self._process.stdin.flush()
        try:
            answer = self._answers.get(timeout=DEADLINE_SECONDS)
        except Empty:
            raise AssertionError(f"{name} {arguments}: no answer within {DEADLINE_SECONDS:g} s") from None
        assert answer["id"] == number, answer
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer["value"]

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], number: int = 1) -> list[dict[str, Any]]:
        """The first so many events that are wanted, once they have happened."""

        def found() -> list[dict[str, Any]]:
            events = [event for event in tuple(self.events) if wanted(event)]
            return events if len(events) >= number else []

        events: list[dict[str, Any]] = wait_until(found, f"{number} events; there were {self.events[-5:]}")
        return events[:number]

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()


@contextmanager
def node_program(script: str, *arguments: str) -> Iterator[NodeProgram]:
    """A program of `tests/clients` while it is needed."""
    running = NodeProgram(script, *arguments)
    try:
        yield running
    finally:
        running.stop()
