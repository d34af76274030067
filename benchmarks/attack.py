"""Under attack: what clients that mean harm cost those that don't.

A real mosquitto, the gateway as `tidegate run` starts it with all limits at their defaults, and healthy subscribers of
one busy room over WebSocket and Server-Sent Events, each of which checks that it hears every message. In each round
they are timed alone and under each attack in turn, in the same gateway. Prints the medians of all rounds: latencies,
their ratio, what was lost, and the gateway's memory and share of a processor.

    python -m benchmarks.attack
    python -m benchmarks.attack --attack flood,huge --rounds 5 --seconds 10 --control

The attackers share the machine with all else. With `--control` each of them also attacks a bare event loop beside the
gateway, which accepts and discards: what the healthy clients lose by that is due to the machine alone.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import Final

import uvloop

from benchmarks.attackers import ATTACKS, allow_open_files
from benchmarks.healthy import Healthy, Publisher, Window
from tests.real import GatewayProcess, Running, configuration, mosquitto, wait_until

SLOWHTTPTEST: Final = {
    "slowhttptest -H": "-H -c 1000 -r 500 -i 1 -x 24 -u {url}/",
    "slowhttptest -B": "-B -c 1000 -r 500 -i 1 -x 24 -s 60000 -u {url}/publish?room=a",
    "slowhttptest -X": "-X -c 1000 -r 500 -n 1 -w 10 -y 20 -z 5 -k 3 -u {url}/tidegate.js",
}
"""A foreign attacker: slow headers, slow bodies, slow reading."""

LONGEST_ATTACK_SECONDS: Final = 15.0
SETTLE_SECONDS: Final = 0.5
"""How much longer an attack lasts than what is measured, and what is waited after it."""


@dataclass(frozen=True)
class Options:
    """How much of what."""

    attacks: tuple[str, ...] = (*ATTACKS, *SLOWHTTPTEST)
    websockets: int = 150
    streams: int = 50
    """Healthy clients over Server-Sent Events."""
    rate: float = 100
    """Messages a second, each to all healthy clients."""
    seconds: float = 4
    rounds: int = 3
    control: bool = False


@dataclass(frozen=True)
class Measure:
    """One stretch of time."""

    p50_seconds: float
    p99_seconds: float
    cpu_share: float
    resident_bytes: int
    """The most that was seen."""


@dataclass
class Round:
    """One attack, with the time before and after it."""

    before: Measure
    under: Measure
    after: Measure
    control: Measure | None
    did: dict[str, int]

    @property
    def alone_p99_seconds(self) -> float:
        """Without the attack."""
        return mean((self.before.p99_seconds, self.after.p99_seconds))

    @property
    def ratio(self) -> float:
        """How many times as long the 99th percentile is."""
        return self.under.p99_seconds / self.alone_p99_seconds

    @property
    def control_ratio(self) -> float | None:
        """The same where only the machine is attacked."""
        return None if self.control is None else self.control.p99_seconds / self.alone_p99_seconds


@dataclass
class Report:
    """What came of it."""

    rounds: dict[str, list[Round]] = field(default_factory=dict)
    lost: int = 0
    gone: int = 0
    """Healthy clients whose connection ended."""
    alive: bool = False
    """Whether the gateway still runs at the end."""
    first_resident_bytes: int = 0
    last_resident_bytes: int = 0
    most_resident_bytes: int = 0

    def __str__(self) -> str:
        lines = [
            "| attack | p50 alone | p50 under | p99 alone | p99 under | ratio | control | memory before, under, after "
            "| CPU alone, under | each attacker did |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(_row(name, rounds) for name, rounds in self.rounds.items()),
            "",
            f"deliveries lost {self.lost}, healthy connections lost {self.gone}; the gateway's memory "
            f"{_mib(self.first_resident_bytes)} at the start, {_mib(self.most_resident_bytes)} at most, "
            f"{_mib(self.last_resident_bytes)} at the end",
        ]
        return "\n".join(lines)


def _row(name: str, rounds: list[Round]) -> str:
    def middle(*values: float) -> float:
        return median(values)

    control = [r.control_ratio for r in rounds if r.control_ratio is not None]
    did = {what: round(median(r.did.get(what, 0) for r in rounds)) for what in rounds[0].did}
    cells = [
        name,
        f"{middle(*(mean((r.before.p50_seconds, r.after.p50_seconds)) for r in rounds)) * 1000:.1f} ms",
        f"{middle(*(r.under.p50_seconds for r in rounds)) * 1000:.1f} ms",
        f"{middle(*(r.alone_p99_seconds for r in rounds)) * 1000:.1f} ms",
        f"{middle(*(r.under.p99_seconds for r in rounds)) * 1000:.1f} ms",
        f"{middle(*(r.ratio for r in rounds)):.1f}",
        f"{median(control):.1f}" if control else "",
        ", ".join(_mib(middle(*sizes)) for sizes in zip(*(_sizes(r) for r in rounds), strict=True)),
        f"{middle(*(r.before.cpu_share for r in rounds)):.0%}, {middle(*(r.under.cpu_share for r in rounds)):.0%}",
        ", ".join(f"{count:,} {what}" for what, count in did.items()),
    ]
    return f"| {' | '.join(cells)} |"


def _sizes(found: Round) -> tuple[int, int, int]:
    return found.before.resident_bytes, found.under.resident_bytes, found.after.resident_bytes


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"


class Attackers:
    """One attack on one port, in a process of its own."""

    def __init__(self, name: str, port: int, seconds: float) -> None:
        if name in SLOWHTTPTEST:
            arguments = SLOWHTTPTEST[name].format(url=f"http://127.0.0.1:{port}").split()
            command = ["nice", "-n", "19", "slowhttptest", *arguments, "-l", str(max(1, round(seconds)))]
        else:
            command = [sys.executable, "-m", "benchmarks.attackers", name, str(port), str(seconds)]
        self._own = name in ATTACKS
        self._process = subprocess.Popen(  # noqa: S603 - made above
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it begins

    def end(self) -> dict[str, int]:
        """Wait until it has ended; what it did."""
        said, _ = self._process.communicate(timeout=30)
        did: dict[str, int] = json.loads(said) if self._own else {}
        return did


class Attack:
    """The measuring of all attacks on one gateway."""

    def __init__(self, options: Options, gateway: GatewayProcess, publisher: Publisher, sink_port: int) -> None:
        self._options = options
        self._gateway = gateway
        self._publisher = publisher
        self._sink_port = sink_port
        self._healthy = Healthy()
        self.report = Report()

    async def run(self) -> None:
        """All rounds."""
        options, report = self._options, self.report
        await self._healthy.connect(self._gateway.port, options.websockets, options.streams)
        report.first_resident_bytes = self._gateway.resident_bytes()
        try:
            before = await self._measure()
            for _ in range(options.rounds):
                for name in options.attacks:
                    under, did = await self._attack(name, self._gateway.port)
                    control = (await self._attack(name, self._sink_port))[0] if options.control else None
                    after = await self._measure()
                    report.rounds.setdefault(name, []).append(Round(before, under, after, control, did))
                    before = after
        finally:
            self._healthy.leave()
        report.lost, report.gone = self._healthy.lost, self._healthy.gone
        report.alive = self._gateway.process.poll() is None
        report.last_resident_bytes = self._gateway.resident_bytes()

    async def _attack(self, name: str, port: int) -> tuple[Measure, dict[str, int]]:
        attackers = await asyncio.to_thread(Attackers, name, port, self._options.seconds + SETTLE_SECONDS)
        try:
            under = await self._measure()
        finally:
            did = await asyncio.to_thread(attackers.end)
        await asyncio.sleep(SETTLE_SECONDS)
        return under, did

    async def _measure(self) -> Measure:
        """Publish, and see how long it takes until all have it."""
        options, gateway = self._options, self._gateway
        window = self._healthy.window = Window()
        cpu_before = gateway.cpu_seconds()
        sizes = [gateway.resident_bytes()]

        async def watch() -> None:
            while True:
                await asyncio.sleep(0.1)
                sizes.append(gateway.resident_bytes())

        watching = asyncio.create_task(watch())
        await self._publisher.publish(options.rate, options.seconds)
        cpu_share = (gateway.cpu_seconds() - cpu_before) / options.seconds
        await self._healthy.caught_up(self._publisher.newest)
        watching.cancel()
        self.report.most_resident_bytes = max(self.report.most_resident_bytes, *sizes)
        return Measure(window.percentile(0.5), window.percentile(0.99), cpu_share, max(sizes))


@contextmanager
def _sink(folder: Path, broker_port: int) -> Iterator[int]:
    """The bare event loop to attack for comparison; its port."""
    command: list[str | Path] = [sys.executable, "-m", "benchmarks.fanout", "--bare", str(broker_port)]
    with Running(command, folder / "sink.log") as running:
        yield int(wait_until(lambda: running.text.partition("listening ")[2].strip(), "the bare loop listens"))


def attack(options: Options, folder: Path) -> Report:
    """Run it; what is started is always stopped."""
    with (
        mosquitto(folder, "set_tcp_nodelay true") as broker,
        GatewayProcess(folder / "gateway", configuration(broker.port)) as gateway,
        _sink(folder, broker.port) as sink_port,
    ):
        gateway.wait_until_ready()
        publisher = Publisher(broker.port)
        try:
            attacked = Attack(options, gateway, publisher, sink_port)
            uvloop.run(attacked.run())
        finally:
            publisher.stop()
        return attacked.report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = Options()
    parser.add_argument("--attack", default=",".join(defaults.attacks), help="which of them, with commas")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="of each attack, 15 at most")
    parser.add_argument("--rounds", type=int, default=defaults.rounds)
    parser.add_argument("--control", action="store_true", help="attack a bare event loop too")
    parser.add_argument("--json", type=Path, help="write all figures to this file too")
    given = parser.parse_args()
    attacks = tuple(given.attack.split(","))
    if unknown := set(attacks) - set(defaults.attacks):
        parser.error(f"unknown attacks {sorted(unknown)}: expected some of {', '.join(defaults.attacks)}")
    seconds = min(given.seconds, LONGEST_ATTACK_SECONDS)
    options = replace(defaults, attacks=attacks, seconds=seconds, rounds=given.rounds, control=given.control)
    allow_open_files()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}\n{options.websockets} WebSocket and {options.streams} SSE clients, {options.rate:g} messages/s")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        report = attack(options, Path(folder))
    print(report)
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine, **asdict(report)}, indent=2))
    sys.exit(report.lost + report.gone > 0 or not report.alive)


if __name__ == "__main__":
    main()
