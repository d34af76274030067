"""Fan-out: one topic, many WebSocket subscribers. How many messages a second of the server's processor time delivers.

A real mosquitto, the gateway as `tidegate run` starts it, and this process, which publishes and subscribes. In the
same run, for comparison: a bare event loop that writes the same frames to as many sockets and does nothing else.

    python -m benchmarks.fanout --subscribers 1000 --rate 50 --seconds 10
"""

import argparse
import asyncio
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import paho.mqtt.client as paho
import uvloop
from paho.mqtt.enums import CallbackAPIVersion

from bridges.carrier_frames import text_frame
from tests.real import GatewayProcess, Running, configuration, mosquitto, wait_until

ROOM = "sites/bench/device/value"
TOPIC = "sensors/bench/device/value"
PAYLOAD_BYTES = 100
SUBSCRIBED = b'{"type":"subscribed"'
MESSAGE = b'{"type":"message"'


@dataclass
class Tally:
    """What all subscribers together have received."""

    received: int = 0
    latencies_seconds: list[float] = field(default_factory=list)


class Subscriber(asyncio.Protocol):
    """Counts frames without looking inside, but for one in a hundred sockets, which times them."""

    def __init__(self, handshake: bytes, request: bytes, tally: Tally, *, timed: bool) -> None:
        self._handshake = handshake
        self._request = request
        self._tally = tally
        self._timed = timed
        self._buffer = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        if self._handshake:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._buffer = head
                return
            self._handshake = b""
            self._transport.write(self._request)
        at = 0
        while len(data) - at >= 4:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if len(data) < start + size:
                break
            self._take(data, start, start + size)
            at = start + size
        self._buffer = data[at:]

    def _take(self, data: bytes, start: int, end: int) -> None:
        if data[start : start + len(SUBSCRIBED)] == SUBSCRIBED:
            self.ready.set_result(None)
        if data[start : start + len(MESSAGE)] != MESSAGE:
            return
        self._tally.received += 1
        if self._timed:
            sent = data.find(b'"sent":', start, end) + 7
            self._tally.latencies_seconds.append(time.time() - float(data[sent : sent + 17]))


def masked(text: bytes) -> bytes:
    """A client's short text frame, masked with zeroes (RFC 6455 §5.3)."""
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text


HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: tidegate.v1.json\r\n\r\n"
)


async def subscribe(port: int, count: int, tally: Tally, rooms: Sequence[str] = (ROOM,)) -> list[asyncio.BaseTransport]:
    """Connect so many subscribers, each to one of the rooms in turn; returns once all are subscribed."""
    handshake = HANDSHAKE.format(port=port).encode()
    loop = asyncio.get_running_loop()
    transports: list[asyncio.BaseTransport] = []
    for start in range(0, count, 100):
        batch = []
        for number in range(start, min(count, start + 100)):
            timed = number % 100 < len(rooms)
            request = masked(b'{"type":"subscribe","room":"%s"}' % rooms[number % len(rooms)].encode())
            transport, subscriber = await loop.create_connection(
                lambda request=request, timed=timed: Subscriber(handshake, request, tally, timed=timed),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
            transports.append(transport)
            batch.append(subscriber.ready)
        await asyncio.gather(*batch)
    return transports


@dataclass(frozen=True)
class Result:
    """One server's figures."""

    name: str
    delivered: int
    expected: int
    server_cpu_seconds: float
    load_cpu_seconds: float
    p50_seconds: float
    p99_seconds: float

    @property
    def per_cpu_second(self) -> float:
        return self.delivered / self.server_cpu_seconds

    def __str__(self) -> str:
        return (
            f"{self.name:<12} {self.delivered:>9,} of {self.expected:>9,}   {self.per_cpu_second:>9,.0f} per CPU-second"
            f"   p50 {self.p50_seconds * 1000:6.2f} ms   p99 {self.p99_seconds * 1000:6.2f} ms"
        )


async def measure(name: str, server: Running, port: int, broker_port: int, options: argparse.Namespace) -> Result:
    """Subscribe, warm up, then publish at the rate and count."""
    tally = Tally()
    transports = await subscribe(port, options.subscribers, tally)
    publisher = paho.Client(CallbackAPIVersion.VERSION2)
    publisher.connect("127.0.0.1", broker_port)
    publisher.loop_start()
    try:
        await publish(publisher, options.rate, options.rate)
        await asyncio.sleep(0.5)
        tally.received, tally.latencies_seconds = 0, []
        server_before, own_before = server.cpu_seconds(), _own_cpu_seconds()
        count = round(options.rate * options.seconds)
        await publish(publisher, options.rate, count)
        await asyncio.sleep(1)  # what is under way arrives
        server_cpu, own_cpu = server.cpu_seconds() - server_before, _own_cpu_seconds() - own_before
    finally:
        publisher.disconnect()
        publisher.loop_stop()
        for transport in transports:
            transport.close()
    latencies = sorted(tally.latencies_seconds)
    p50, p99 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    return Result(name, tally.received, count * options.subscribers, server_cpu, own_cpu, p50, p99)


async def publish(publisher: paho.Client, rate: float, count: int) -> None:
    """Publish so many messages, evenly, each with the time at which it was sent."""
    start = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
        head = f'{{"sent":{time.time():.6f},"pad":"'
        publisher.publish(TOPIC, head + "x" * (PAYLOAD_BYTES - len(head) - 2) + '"}')


def _own_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def bare(port: int, broker_port: int) -> None:
    """The comparison: shakes hands, then writes whatever the broker sends, framed, to every socket."""
    transports: list[asyncio.Transport] = []
    loop = asyncio.get_running_loop()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport = cast(asyncio.Transport, transport)  # uvloop's own class
            transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + text_frame(SUBSCRIBED))
            transports.append(transport)
            self._transport = transport

        def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
            transports.remove(self._transport)

    def write(payload: bytes) -> None:
        envelope = b'{"type":"message","room":"%s","topic":"%s","data":' % (ROOM.encode(), TOPIC.encode())
        frame = text_frame(envelope + payload + b',"cursor":"0000000000-1","time":1764000000.123}')
        for transport in transports:
            transport.write(frame)

    client = paho.Client(CallbackAPIVersion.VERSION2)

    def hand_over(client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:  # noqa: ARG001
        loop.call_soon_threadsafe(write, bytes(message.payload))

    client.on_message = hand_over
    client.connect("127.0.0.1", broker_port)
    client.subscribe(TOPIC)
    client.loop_start()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=2048)
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50, help="messages a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        uvloop.run(bare(0, options.bare))
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, options.subscribers * 2 + 200)), hard))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{options.subscribers:,} subscribers, {options.rate:g} messages/s of {PAYLOAD_BYTES} bytes")
    with tempfile.TemporaryDirectory() as folder, mosquitto(Path(folder)) as broker:
        ratios = []
        for number in range(options.rounds):
            gate, plain = run_round(Path(folder) / str(number), broker.port, options)
            print(gate, plain, sep="\n")
            ratios.append(gate.per_cpu_second / plain.per_cpu_second)
        print(f"tidegate / bare loop, median: {sorted(ratios)[len(ratios) // 2]:.2f}")


def run_round(folder: Path, broker_port: int, options: argparse.Namespace) -> tuple[Result, Result]:
    """Both servers in turn, each started anew."""
    folder.mkdir()
    config = {
        **configuration(broker_port),
        "limits": dict.fromkeys(
            ("connections", "connections_per_address", "handshakes_burst"), options.subscribers + 100
        ),
    }
    with GatewayProcess(folder / "gateway", config) as gateway:
        gateway.wait_until_ready()
        gate = uvloop.run(measure("tidegate", gateway, gateway.port, broker_port, options))
    command: list[str | Path] = [sys.executable, "-m", "benchmarks.fanout", "--bare", str(broker_port)]
    with Running(command, folder / "bare.log") as server:
        port = int(wait_until(lambda: server.text.partition("listening ")[2].strip(), "the bare loop listens"))
        return gate, uvloop.run(measure("bare loop", server, port, broker_port, options))


if __name__ == "__main__":
    main()
