"""What attackers do, each in a process of its own: they hold to what an attack is, in count and time, and no more.

They come from loopback addresses of their own (127.0.2.x), so that what is limited for each address is limited as it
would be elsewhere, and with the lowest priority, so that on a small machine they take the processors from nobody.

    python -m benchmarks.attackers flood 8080 5
"""

import asyncio
import json
import os
import resource
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, suppress
from typing import Any, Final

import uvloop

from benchmarks.fanout import HANDSHAKE, masked

__all__ = ["ATTACKS", "allow_open_files"]

FRAMES_PER_SECOND: Final = 50_000
SLOW_SOCKETS: Final = 2000
CHURN_PER_SECOND: Final = 500
DEAF_CLIENTS: Final = 300
HUGE_BYTES: Final = 100_000_000
ROOM: Final = b"sites/bench/device/value"
ATTACK_PORTION: Final = b"\0" * 262_144

Did = Counter[str]


def address(number: int, group: int = 100) -> str:
    """Where the client of this number comes from: `group` of them share an address."""
    return f"127.0.2.{1 + number // group % 250}"


def connected(port: int, source: str, **options: int) -> socket.socket:
    """A connection from that address; `options` are of TCP.

    Raises:
        OSError: it is refused.
    """
    client = socket.socket()
    try:
        for name, value in options.items():
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            client.setsockopt(level, getattr(socket, name), value)
        client.settimeout(5)
        client.bind((source, 0))
        client.connect(("127.0.0.1", port))
    except OSError:
        client.close()
        raise
    return client


def shaken(port: int, source: str, **options: int) -> socket.socket:
    """A WebSocket, as far as the other side agrees.

    Raises:
        OSError: it doesn't.
    """
    client = connected(port, source, **options)
    try:
        client.sendall(HANDSHAKE.format(port=port).encode())
        if not client.recv(4096).startswith(b"HTTP/1.1 101"):
            raise ConnectionRefusedError
    except OSError:
        client.close()
        raise
    return client


def flood(port: int, until: float, did: Did, frame: bytes = masked(b'{"type":"ping"}')) -> None:
    """One client that sends so many frames a second, and comes back as soon as it is sent away."""
    portion = FRAMES_PER_SECOND // 100
    data = frame * portion
    while time.monotonic() < until:
        try:
            with closing(shaken(port, address(0))) as client:
                did["connections"] += 1
                client.settimeout(max(0.01, until - time.monotonic()))
                due = time.monotonic()
                while time.monotonic() < until and not _is_sent_away(client):
                    client.sendall(data)
                    did["frames"] += portion
                    due += 0.01
                    time.sleep(max(0.0, due - time.monotonic()))
        except OSError:
            time.sleep(0.001)


def _is_sent_away(client: socket.socket) -> bool:
    if not select.select([client], [], [], 0)[0]:
        return False
    said = client.recv(65_536)
    return not said or b'"bye"' in said


def ping_flood(port: int, until: float, did: Did) -> None:
    """The same with pings (RFC 6455 §5.5.2)."""
    flood(port, until, did, b"\x89\x80\0\0\0\0")


def huge(port: int, until: float, did: Did) -> None:
    """One client that sends 100 MB: in one frame, in many fragments, as the body of a request, and so on in turn."""
    fragment = b"\x00\xff" + (65_000).to_bytes(8) + bytes(4 + 65_000)
    post = b"POST /publish?room=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % HUGE_BYTES
    forms: list[tuple[Callable[..., socket.socket], bytes, bytes]] = [
        (shaken, b"\x81\xff" + HUGE_BYTES.to_bytes(8) + bytes(4), ATTACK_PORTION),
        (shaken, b"\x01\x81" + bytes(4) + b" ", fragment),
        (connected, post, ATTACK_PORTION),
    ]
    while time.monotonic() < until:
        opening, head, portion = forms[did["connections"] % len(forms)]
        with suppress(OSError), closing(opening(port, address(0))) as client:
            did["connections"] += 1
            client.sendall(head)
            for _ in range(HUGE_BYTES // len(portion)):
                client.settimeout(max(0.01, until - time.monotonic()))
                client.sendall(portion)
                did["MB"] += len(portion)
                if time.monotonic() > until:
                    break
    did["MB"] //= 1_000_000


async def _each(count: int, per_second: float, until: float, one: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """Run `one` for so many clients, so many of them started a second."""
    async with asyncio.TaskGroup() as tasks:
        start = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / per_second - time.monotonic()))
            if time.monotonic() > until:
                break
            tasks.create_task(one(number))


async def _open(port: int, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))


def _slow_request(number: int) -> Iterator[bytes]:
    """The pieces of a request that never ends: slow headers, a slow body, or nothing at all."""
    kind = number % 4
    if kind == 3:
        while True:
            yield b""
    if kind == 2:
        yield b"POST /publish?room=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
    else:
        yield b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "
    while True:
        yield b"a"


async def loris(port: int, until: float, did: Did) -> None:
    """Sockets that hold a place: a byte now and then. They come back when they are cut off."""

    async def one(number: int) -> None:
        while time.monotonic() < until:
            did["connections"] += 1
            with suppress(OSError, TimeoutError):
                reader, writer = await _open(port, address(number))
                try:
                    for piece in _slow_request(number):
                        writer.write(piece)
                        with suppress(TimeoutError):
                            async with asyncio.timeout(min(1.0, max(0.0, until - time.monotonic()))):
                                if not await reader.read(65_536):
                                    break
                        if time.monotonic() > until:
                            break
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.1)

    await _each(SLOW_SOCKETS, SLOW_SOCKETS, until, one)


async def churn(port: int, until: float, did: Did) -> None:
    """Clients that connect and leave: every other one shakes hands first. They come from many addresses."""
    handshake = HANDSHAKE.format(port=port).encode()

    async def one(number: int) -> None:
        did["connections"] += 1
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                reader, writer = await _open(port, address(number, 1))
                try:
                    if number % 2:
                        writer.write(handshake)
                        did["handshakes"] += (await reader.read(4096)).startswith(b"HTTP/1.1 101")
                finally:
                    writer.close()

    await _each(sys.maxsize, CHURN_PER_SECOND, until, one)


async def deaf(port: int, until: float, did: Did) -> None:
    """Subscribers of the busy room that never read, over connections that hold little by themselves."""
    clients: list[socket.socket] = []

    async def one(number: int) -> None:
        with suppress(OSError):
            client = await asyncio.to_thread(shaken, port, address(number), SO_RCVBUF=4096, TCP_MAXSEG=536)
            clients.append(client)
            client.sendall(masked(b'{"type":"subscribe","room":"%s"}' % ROOM))
            did["connections"] += 1

    await _each(DEAF_CLIENTS, DEAF_CLIENTS, until, one)
    await asyncio.sleep(max(0.0, until - time.monotonic()))
    for client in clients:
        client.close()


ATTACKS: Final[dict[str, Callable[[int, float, Did], Any]]] = {
    "flood": flood,
    "pings": ping_flood,
    "loris": loris,
    "churn": churn,
    "deaf": deaf,
    "huge": huge,
}


def allow_open_files() -> None:
    """As many as this user may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    name, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    os.nice(19)
    allow_open_files()
    did: Did = Counter()
    print("attacking", flush=True)
    running = ATTACKS[name](port, time.monotonic() + seconds, did)
    if asyncio.iscoroutine(running):
        uvloop.run(running)
    print(json.dumps(did), flush=True)


if __name__ == "__main__":
    main()
