"""The load generator (load/load.c): builds it, and tells it what to do."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["MARK", "Absent", "Connected", "Figures", "Generator", "Plan", "Step", "compiled", "generator"]

FOLDER: Final = Path(__file__).parent / "load"
MARK: Final = b"@T0000000000000000@"
"""Where a message says when it was sent: the generator puts the time in."""

Step = tuple[str, bytes] | tuple[str, bytes, bytes]
"""What a client does first: `send`, `await`; or what it does at any time: `answer` the one with the other."""


class Absent(Exception):
    """A program that this machine doesn't have, and why not."""


@dataclass(frozen=True)
class Connected:
    """How connecting went."""

    clients: int
    ready: int
    dead: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Figures:
    """What came of a time of publishing. Latencies are in seconds, of all messages."""

    published: int
    received: int
    refused: int
    bytes: int
    late: float
    """The share of times at which the generator was more than a millisecond late with publishing."""
    dead: int
    p50: float
    p99: float
    p999: float
    max: float
    seconds: float
    """Until the last message came."""
    cpu_seconds: float
    """The generator's own."""


@dataclass
class Plan:
    """Who connects, and what they do: see load.c."""

    lines: list[str] = field(default_factory=list)
    _scripts: int = 0
    _templates: int = 0

    def turn_to(self, port: int) -> None:
        """Clients of the next `connect` go there."""
        self.lines.append(f"target {port}")

    def script(self, *steps: Step) -> int:
        """What a client does first."""
        self.lines.append("script")
        self.lines += [" ".join((kind, *(part.hex() for part in data))) for kind, *data in steps]
        self._scripts += 1
        return self._scripts - 1

    def clients(self, count: int, script: int) -> None:
        """Clients that listen."""
        self.lines.append(f"clients {count} {script}")

    def publisher(self, script: int, messages: Sequence[bytes], rate: float, burst: int = 1) -> None:
        """A client that sends these in turn, each with a `MARK` in it; `rate` a second, `burst` of them at once."""
        for message in messages:
            self.lines.append(f"template {message.index(MARK)} {message.hex()}")
        self.lines.append(f"publisher {script} {rate} {burst} {self._templates} {len(messages)}")
        self._templates += len(messages)

    def refusal(self, text: bytes) -> None:
        """What servers say instead of doing what they are told."""
        self.lines.append(f"refusal {text.hex()}")

    def take(self) -> str:
        """What is new, as the generator reads it."""
        taken, self.lines = self.lines, []
        return "".join(f"{line}\n" for line in taken)


class Generator:
    """A running load generator."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def _ask(self, text: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the load generator gave up")
        found: dict[str, Any] = json.loads(answer)
        return found

    def connect(self, plan: Plan, concurrency: int = 100) -> Connected:
        """Connect all that is new in the plan, so many at a time."""
        return Connected(**self._ask(f"{plan.take()}connect {concurrency}\n"))

    def go(self, seconds: float, receivers: float, pace: float = 1.0) -> Figures:
        """Let the publishers publish at `pace` times their rates, and wait until all has come `receivers` times."""
        return Figures(**self._ask(f"go {seconds} {receivers} {pace}\n"))


def compiled(name: str, folder: Path) -> Path:
    """A program of `load/`, compiled into a folder.

    Raises:
        Absent: there is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Absent("expected a C compiler, `cc`: Debian's packages gcc and libc6-dev")
    program = folder / name
    subprocess.run([compiler, "-O2", "-o", program, FOLDER / f"{name}.c"], check=True)  # noqa: S603 - our own source
    return program


@contextmanager
def generator(program: Path) -> Iterator[Generator]:
    """Start it; it ends with the context."""
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield Generator(process)
        finally:
            process.kill()
