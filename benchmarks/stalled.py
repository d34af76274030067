"""Slow consumers: what clients that don't read cost those that do, and the gateway.

A real mosquitto, the gateway as `tidegate run` starts it, healthy subscribers over ten rooms, and subscribers of the
same rooms that stop reading. In each round the healthy ones are timed alone, then beside those that stall, in the same
gateway. Prints the ratio of the latencies, and how much memory the gateway took for each stalled client.

    python -m benchmarks.stalled --healthy 800 --stalled 200 --rate 500 --seconds 10
"""

import argparse
import asyncio
import os
import platform
import resource
import socket
import tempfile
import time
from pathlib import Path

import httpx
import paho.mqtt.client as paho
import uvloop
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.fanout import HANDSHAKE, Tally, masked, subscribe
from tests.real import GatewayProcess, configuration, mosquitto, wait_until

ROOMS = [f"sites/bench/device-{number}/value" for number in range(10)]
TOPICS = [room.replace("sites", "sensors") for room in ROOMS]
FILLER_ROOM, FILLER_TOPIC = "sites/bench/filler/value", "sensors/bench/filler/value"
PAYLOAD_BYTES = 100


async def publish(publisher: paho.Client, rate: float, seconds: float) -> None:
    """Publish evenly over all topics, each message with the time at which it was sent."""
    start = time.monotonic()
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
        head = f'{{"sent":{time.time():.6f},"pad":"'
        publisher.publish(TOPICS[number % len(TOPICS)], head + "x" * (PAYLOAD_BYTES - len(head) - 2) + '"}')
    await asyncio.sleep(1)  # what is under way arrives


def stall(port: int, number: int) -> socket.socket:
    """A subscriber that takes the least that the kernel allows, and never reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(HANDSHAKE.format(port=port).encode())
    heard = b""
    while b"welcome" not in heard:
        heard += client.recv(4096)
    for room in (FILLER_ROOM, ROOMS[number % len(ROOMS)]):
        client.sendall(masked(b'{"type":"subscribe","room":"%s"}' % room.encode()))
    return client


def fill(gateway: GatewayProcess, publisher: paho.Client, stalled: int) -> None:
    """Publish what only the stalled ones are subscribed to, until the kernel takes no more for any of them."""

    def lagging() -> bool:
        for _ in range(50):
            publisher.publish(FILLER_TOPIC, b'"' + b"x" * 4000 + b'"')
        metrics = httpx.get(f"{gateway.url}/metrics").text
        return f'tidegate_lagging_sessions{{namespace="default"}} {stalled}.0' in metrics

    wait_until(lagging, "all of them stall", 60)


async def timed(publisher: paho.Client, tally: Tally, options: argparse.Namespace) -> tuple[float, float]:
    """Publish, and the median and 99th percentile of the latency in seconds."""
    tally.received, tally.latencies_seconds = 0, []
    await publish(publisher, options.rate, options.seconds)
    latencies = sorted(tally.latencies_seconds)
    expected = round(options.rate * options.seconds) * options.healthy // len(ROOMS)
    assert tally.received == expected, f"{tally.received} of {expected} messages came"
    return latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]


async def run_round(gateway: GatewayProcess, broker_port: int, options: argparse.Namespace) -> tuple[float, float]:
    """One round: the ratio of the 99th percentiles, and the bytes of memory for each stalled client."""
    tally = Tally()
    healthy = await subscribe(gateway.port, options.healthy, tally, ROOMS)
    publisher = paho.Client(CallbackAPIVersion.VERSION2)
    publisher.connect("127.0.0.1", broker_port)
    publisher.loop_start()
    wait_until(publisher.is_connected, "the broker is there")
    connection = publisher.socket()
    assert isinstance(connection, socket.socket)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its delay is not what is measured
    stalled: list[socket.socket] = []
    try:
        await publish(publisher, options.rate, 2)
        alone = await timed(publisher, tally, options)
        before_bytes = gateway.resident_bytes()
        stalled += [await asyncio.to_thread(stall, gateway.port, number) for number in range(options.stalled)]
        connected_bytes = gateway.resident_bytes()
        await asyncio.to_thread(fill, gateway, publisher, options.stalled)
        await asyncio.sleep(1)
        beside = await timed(publisher, tally, options)
        after_bytes = gateway.resident_bytes()
    finally:
        publisher.disconnect()
        publisher.loop_stop()
        for client in stalled:
            client.close()
        for transport in healthy:
            transport.close()
    for name, (p50, p99) in (("alone", alone), ("beside", beside)):
        print(f"  {name:<7} p50 {p50 * 1000:6.2f} ms   p99 {p99 * 1000:6.2f} ms")
    each_bytes = (after_bytes - connected_bytes) / options.stalled
    connection_bytes = (connected_bytes - before_bytes) / options.stalled
    print(
        f"  memory of a stalled client {each_bytes / 1024:.1f} KiB, of its connection {connection_bytes / 1024:.1f} KiB"
    )
    return beside[1] / alone[1], each_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--healthy", type=int, default=800)
    parser.add_argument("--stalled", type=int, default=200)
    parser.add_argument("--rate", type=float, default=500, help="messages a second, over ten rooms")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    connections = options.healthy + options.stalled + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, connections * 2)), hard))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{options.healthy} healthy, {options.stalled} stalled, {options.rate:g} messages/s of {PAYLOAD_BYTES} bytes")
    ratios, sizes = [], []
    with tempfile.TemporaryDirectory() as folder, mosquitto(Path(folder), "set_tcp_nodelay true") as broker:
        room = dict.fromkeys(("connections", "connections_per_address", "handshakes_burst"), connections)
        limits = {**room, "lag_seconds": 3600}
        for number in range(options.rounds):
            config = configuration(broker.port, limits=limits)
            with GatewayProcess(Path(folder) / f"gateway-{number}", config) as gateway:
                gateway.wait_until_ready()
                ratio, each_bytes = uvloop.run(run_round(gateway, broker.port, options))
            ratios.append(ratio)
            sizes.append(each_bytes)
    print(f"p99 beside stalled clients / alone, median: {sorted(ratios)[len(ratios) // 2]:.2f}")
    print(f"memory for each stalled client, largest: {max(sizes) / 1024:.1f} KiB")


if __name__ == "__main__":
    main()
