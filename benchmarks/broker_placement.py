"""Where the embedded broker should run: in a process of its own, or in a thread beside the gateway's event loop.

A publisher in another process sends a fixed number of messages through the broker to one upstream client, which takes
them as the gateway does. Meanwhile the gateway's event loop is asked how late it wakes a sleeper. Both placements are
measured in turn, in one run.

    python -m benchmarks.broker_placement
"""

import argparse
import asyncio
import socket
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import paho.mqtt.client as paho
import uvloop
from paho.mqtt.enums import CallbackAPIVersion

from bridges.broker import BrokerOptions, EmbeddedBroker
from bridges.broker.server import Server
from bridges.mqtt import Upstream, UpstreamOptions, UpstreamState
from gateway.core.clock import SystemClock
from gateway.core.delivery import Delivery
from gateway.core.receipts import Receipts

TOPIC = "flood/x"
LAG_SAMPLE_SECONDS = 0.005


@dataclass(frozen=True)
class Result:
    """What one placement cost."""

    name: str
    messages_per_second: float
    lag_p50_seconds: float
    lag_p99_seconds: float

    def __str__(self) -> str:
        lags = f"p50 {self.lag_p50_seconds * 1000:6.2f} ms   p99 {self.lag_p99_seconds * 1000:6.2f} ms"
        return f"{self.name:<8} {self.messages_per_second:>8,.0f} messages/s   event loop late by {lags}"


@asynccontextmanager
async def in_process() -> AsyncIterator[int]:
    """The broker as the gateway runs it."""
    broker = EmbeddedBroker(BrokerOptions(port=0))
    await broker.start()
    try:
        yield broker.port
    finally:
        await broker.stop()


@asynccontextmanager
async def in_thread() -> AsyncIterator[int]:
    """The same broker in a thread with a loop of its own."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = int(listening.getsockname()[1])
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        server = Server(BrokerOptions(port=port), listening)
        await server.start()
        running = asyncio.create_task(server.run())
        started.set()
        await asyncio.to_thread(stop.wait)
        await server.shutdown()
        running.cancel()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    await asyncio.to_thread(started.wait)
    try:
        yield port
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)


async def measure(name: str, count: int) -> Result:
    """Flood one placement."""
    received, all_there = 0, asyncio.Event()

    def take(delivery: Delivery, stored: Callable[[], None]) -> None:
        nonlocal received
        received += delivery.topic == TOPIC
        stored()
        if received == count:
            all_there.set()

    async with in_process() if name == "process" else in_thread() as port:
        options = UpstreamOptions("flooded", "127.0.0.1", port, protocol="3.1.1", status_topic=None)
        upstream = Upstream(options, {TOPIC: 0}, take, Receipts(), lambda *_: None, SystemClock(), Random())
        running = asyncio.create_task(upstream.run())
        while upstream.state is not UpstreamState.UP:  # noqa: ASYNC110 - a benchmark may look again and again
            await asyncio.sleep(0.01)
        lags: list[float] = []
        watching = asyncio.create_task(watch(lags))
        started = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "benchmarks.broker_placement",
            "--publish",
            str(port),
            "--messages",
            str(count),
        ]
        publisher = await asyncio.create_subprocess_exec(*command)
        async with asyncio.timeout(120):
            await all_there.wait()
        seconds = time.perf_counter() - started
        await publisher.wait()
        for task in (watching, running):
            task.cancel()
        await asyncio.gather(watching, running, return_exceptions=True)
    cuts = statistics.quantiles(lags, n=100)
    return Result(name, count / seconds, cuts[49], cuts[98])


async def watch(lags: list[float]) -> None:
    """Ask again and again how late the event loop is."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(LAG_SAMPLE_SECONDS)
        lags.append(time.perf_counter() - before - LAG_SAMPLE_SECONDS)


def publish(port: int, count: int) -> None:
    """The publisher's process; QoS 1, so that it is never far ahead of the broker."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for number in range(count):
        sent = client.publish(TOPIC, f'{{"value": {number}}}'.ljust(100), qos=1)
        if number % 100 == 99:
            sent.wait_for_publish(30)
    sent.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--publish", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish(options.publish, options.messages)
        return
    ratios = []
    for _ in range(options.rounds):
        process, thread = (uvloop.run(measure(name, options.messages)) for name in ("process", "thread"))
        print(process, thread, sep="\n")
        rate = process.messages_per_second / thread.messages_per_second
        ratios.append((rate, thread.lag_p99_seconds / process.lag_p99_seconds))
    rate, lag = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"process against thread, medians: {rate:.2f}× the messages/s, the event loop late by 1/{lag:.1f}")


if __name__ == "__main__":
    main()
