"""Under attack: what clients that mean harm cost those that don't.

A real mosquitto, the gateway as `tidegate run` starts it with all limits at their defaults, and healthy subscribers of
one busy room over WebSocket and Server-Sent Events, each of which checks that it hears every message. In each round
they are timed alone and under each attack in turn, in the same gateway; attacks that need large last values have one of
their own, where such are. Prints the medians of all rounds: latencies,
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.attack_report import Measure, Report, Round
from benchmarks.attackers import ATTACKS, allow_open_files
from benchmarks.healthy import Healthy, Publisher, Window
from benchmarks.large_values import LARGE_ATTACKS, fill
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


IDENTITY: Final[dict[str, Any]] = {
    "identity": {"anonymous": {"roles": ["guest"]}, "users_file": "users.yaml"},
    "access": [{"roles": ["*"], "subscribe": ["#"], "publish": ["#"]}],
}
"""All is open, but there are logins to attack, and tokens can be wrong."""


def attack(options: Options, folder: Path) -> list[Report]:
    """Run it; what is started is always stopped. The report of those on few values, and that of those on large ones."""
    large = tuple(name for name in options.attacks if name in LARGE_ATTACKS)
    small = tuple(name for name in options.attacks if name not in LARGE_ATTACKS)
    return [_attack(replace(options, attacks=names), folder, names[0]) for names in (small, large) if names]


def _attack(options: Options, folder: Path, name: str) -> Report:
    users = folder / name / "users.yaml"
    users.parent.mkdir()
    users.write_text("{}")
    users.chmod(0o600)
    with (
        mosquitto(folder, "set_tcp_nodelay true") as broker,
        GatewayProcess(users.parent, {**configuration(broker.port), **IDENTITY}) as gateway,
        _sink(folder, broker.port) as sink_port,
    ):
        gateway.wait_until_ready()
        if options.attacks[0] in LARGE_ATTACKS:
            fill(broker.port, gateway)
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
        reports = attack(options, Path(folder))
    print(*reports, sep="\n\n")
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine, "reports": [asdict(each) for each in reports]}, indent=2))
    sys.exit(any(each.lost + each.gone > 0 or not each.alive for each in reports))


if __name__ == "__main__":
    main()
