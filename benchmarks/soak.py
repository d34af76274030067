"""Nothing lost, nothing twice: browsers that connect, sleep, stall and disconnect at random while devices publish.

A real mosquitto, the gateway as `tidegate run` starts it, devices that publish numbers at QoS 1, and browsers over
WebSocket and Server-Sent Events that come back with their cursor, over either. With `--kills`, the log is kept in
SQLite and the gateway is killed (SIGKILL) and started again so many times. Prints what was lost, doubled or out of
order.

    python -m benchmarks.soak --browsers 500 --rate 1000 --seconds 300
    python -m benchmarks.soak --browsers 200 --rate 500 --seconds 120 --kills 5
"""

import argparse
import asyncio
import os
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import paho.mqtt.client as paho
import uvloop
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.clients import EventStreamClient, RawClient, WebSocketClient
from tests.real import GatewayProcess, configuration, free_port, mosquitto

DEVICES = 50
LONGEST_ABSENCE_SECONDS = 10.0
SETTLE_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """How much of what."""

    browsers: int = 500
    rate: float = 1000
    """Messages a second, of all devices together."""
    seconds: float = 300
    kills: int = 0
    seed: int = 1


@dataclass
class Report:
    """What came of it."""

    published: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    gaps_told: int = 0
    """How often the gateway said that it couldn't tell all."""
    returns: Counter[str] = field(default_factory=Counter)
    resident_bytes: list[int] = field(default_factory=list)

    @property
    def flawless(self) -> bool:
        """Whether every browser heard all, once, in order."""
        return self.delivered > 0 and self.lost + self.duplicated + self.out_of_order + self.gaps_told == 0

    def __str__(self) -> str:
        first, last = (f"{size / 2**20:.1f} MiB" for size in (self.resident_bytes[0], self.resident_bytes[-1]))
        return (
            f"published {self.published:,}, delivered {self.delivered:,}, "
            f"came back {sum(self.returns.values()):,} times {dict(self.returns)}\n"
            f"lost {self.lost}, duplicated {self.duplicated}, out of order {self.out_of_order}, "
            f"told of gaps {self.gaps_told}\n"
            f"the gateway's memory: {first} at the start, {last} at the end"
        )


class Browser:
    """One browser: what it has heard of its rooms, and its restless life."""

    def __init__(self, number: int, port: int, report: Report, random: Random) -> None:
        self._port = port
        self._report = report
        self._random = random
        self._rooms = [f"soak/{number % DEVICES}", f"soak/{random.randrange(DEVICES)}"]
        self._cursor: str | None = None
        self._known: dict[str, int] = {}
        """The newest number heard of each room."""
        self._client: RawClient | None = None
        self.expected: dict[str, int] | None = None
        """The last numbers of all rooms, once they are known."""

    async def live(self, until: float) -> None:
        """Come and go until the end, then stay."""
        while time.monotonic() < until:
            await self._connect()
            await asyncio.sleep(self._random.uniform(0.2, LONGEST_ABSENCE_SECONDS))
            if self._client is None:
                continue
            if self._random.random() < 0.3:
                transport = self._client.transport
                transport.pause_reading()  # a client that stalls
                await asyncio.sleep(self._random.uniform(0.2, LONGEST_ABSENCE_SECONDS))
                if not transport.is_closing():
                    transport.resume_reading()
            else:
                self._leave()
                await asyncio.sleep(self._random.uniform(0.0, LONGEST_ABSENCE_SECONDS))

    async def stay(self) -> None:
        """Be there until all has come."""
        while not self.knows_all:
            await self._connect()
            await asyncio.sleep(0.1)

    async def _connect(self) -> None:
        if self._client is not None:
            return
        kind = self._random.choice((WebSocketClient, EventStreamClient))
        try:
            self._client = await kind.connect(self._port, self._rooms, self._cursor, self._hear, self._lost)
        except OSError:
            await asyncio.sleep(self._random.uniform(0.1, 0.5))
        else:
            self._report.returns["WebSocket" if kind is WebSocketClient else "SSE"] += 1

    def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.lost = lambda: None
            client.heard = lambda _: None
            client.transport.abort()

    def _lost(self) -> None:
        self._client = None

    def _hear(self, sent: dict[str, Any]) -> None:
        kind = sent["type"]
        if kind == "message":
            self._take(sent["room"], sent["data"])
        elif kind == "subscribed":
            if not sent["recovered"]:
                self._begin(sent)
        else:
            return
        self._cursor = sent.get("cursor", self._cursor)

    def _begin(self, sent: dict[str, Any]) -> None:
        if sent["room"] in self._known:
            self._report.gaps_told += 1
        for message in sent["last"]:
            self._known[message["room"]] = message["data"]
        self._known.setdefault(sent["room"], -1)

    def _take(self, room: str, number: int) -> None:
        newest = self._known[room]
        self._report.delivered += 1
        if number == newest:
            self._report.duplicated += 1
        elif number < newest:
            self._report.out_of_order += 1
        else:
            self._report.lost += number - newest - 1
            self._known[room] = number

    @property
    def knows_all(self) -> bool:
        """Whether it has heard the last number of each of its rooms."""
        return self.expected is not None and all(self._known.get(r, -1) == self.expected[r] for r in self._rooms)

    def count_missing(self) -> int:
        """What it has never heard although it is over."""
        assert self.expected is not None
        return sum(self.expected[room] - self._known.get(room, -1) for room in self._rooms)


class Devices:
    """All devices as one MQTT client; each counts its own messages."""

    def __init__(self, port: int) -> None:
        self.numbers = dict.fromkeys((f"soak/{device}" for device in range(DEVICES)), -1)
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.max_inflight_messages_set(1000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    async def publish(self, rate: float, until: float, random: Random) -> None:
        """Publish evenly until the end."""
        start, count, topics = time.monotonic(), 0, list(self.numbers)
        while time.monotonic() < until:
            count += 1
            await asyncio.sleep(max(0.0, start + count / rate - time.monotonic()))
            topic = random.choice(topics)
            self.numbers[topic] += 1
            self._client.publish(topic, str(self.numbers[topic]), qos=1)

    def stop(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


def gateway_configuration(broker_port: int, options: Options) -> dict[str, Any]:
    """History that reaches further back than anybody is away; what was killed comes back as it was."""
    config = configuration(
        broker_port,
        routes=[{"topic": "soak/{device}", "room": "soak/{device}", "qos": 1, "history": {"messages": 20_000}}],
        limits={
            "connections_per_address": options.browsers + 10,
            "handshakes_burst": 10 * options.browsers,
            "log_bytes": "1 GiB",
            "lag_seconds": 60,
        },
    )
    if options.kills:
        config["engine"] = {"url": "sqlite:soak.db"}
        config["upstreams"]["plant"].update(client_id="soak", session="persistent")
    return config


async def kill_and_start(gateways: list[GatewayProcess], start: Any, times: list[float]) -> None:
    """Kill the gateway at these times, each time starting it again a little later."""
    for at in times:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        gateways[-1].send_signal(signal.SIGKILL)
        await asyncio.to_thread(gateways[-1].wait)
        await asyncio.sleep(0.5)
        gateways.append(await asyncio.to_thread(start))


async def soak(options: Options, folder: Path) -> Report:
    """Run it; the gateway and broker are started in `folder` and always stopped."""
    random, report = Random(options.seed), Report()
    with mosquitto(folder) as broker:
        port = free_port()
        config = gateway_configuration(broker.port, options)

        def start() -> GatewayProcess:
            running = GatewayProcess(folder / "gateway", config, port=port)
            running.wait_until_ready()
            return running

        gateways = [await asyncio.to_thread(start)]
        devices = Devices(broker.port)
        try:
            await _run(options, report, random, port, devices, gateways, start)
        finally:
            devices.stop()
            gateways[-1].stop()
    return report


async def _run(
    options: Options,
    report: Report,
    random: Random,
    port: int,
    devices: Devices,
    gateways: list[GatewayProcess],
    start: Any,
) -> None:
    now = time.monotonic()
    until = now + options.seconds
    browsers = [Browser(number, port, report, Random(random.random())) for number in range(options.browsers)]
    kills = sorted(random.uniform(now + options.seconds * 0.1, until) for _ in range(options.kills))
    report.resident_bytes.append(gateways[-1].resident_bytes())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(devices.publish(options.rate, until, random))
        tasks.create_task(kill_and_start(gateways, start, kills))
        for browser in browsers:
            tasks.create_task(browser.live(until))
    report.published = sum(number + 1 for number in devices.numbers.values())
    for browser in browsers:
        browser.expected = devices.numbers
    try:
        async with asyncio.timeout(SETTLE_SECONDS), asyncio.TaskGroup() as tasks:
            for browser in browsers:
                tasks.create_task(browser.stay())
    except TimeoutError:
        report.lost += sum(browser.count_missing() for browser in browsers)
    report.resident_bytes.append(gateways[-1].resident_bytes())
    for browser in browsers:
        browser._leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in Options().__dict__.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = Options(**vars(parser.parse_args()))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}: {options}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        report = uvloop.run(soak(options, Path(folder)))
    print(report)
    sys.exit(not report.flawless)


if __name__ == "__main__":
    main()
