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
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any, Final

import uvloop

from benchmarks.fanout import HANDSHAKE, masked
from benchmarks.hostile import Did, address, connected, each, open_streams, shaken, trickle
from benchmarks.requesters import deaf_answers, deaf_values, requests, slow_bodies

__all__ = ["ATTACKS", "allow_open_files"]

FRAMES_PER_SECOND: Final = 50_000
SLOW_SOCKETS: Final = 2000
CHURN_PER_SECOND: Final = 500
DEAF_CLIENTS: Final = 300
HUGE_BYTES: Final = 100_000_000
ROOM: Final = b"sites/bench/device/value"
ATTACK_PORTION: Final = b"\0" * 262_144


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
    await trickle(port, until, did, SLOW_SOCKETS, _slow_request)


async def churn(port: int, until: float, did: Did) -> None:
    """Clients that connect and leave: every other one shakes hands first. They come from many addresses."""
    handshake = HANDSHAKE.format(port=port).encode()

    async def one(number: int) -> None:
        did["connections"] += 1
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                reader, writer = await open_streams(port, address(number, 1))
                try:
                    if number % 2:
                        writer.write(handshake)
                        did["handshakes"] += (await reader.read(4096)).startswith(b"HTTP/1.1 101")
                finally:
                    writer.close()

    await each(sys.maxsize, CHURN_PER_SECOND, until, one)


async def deaf(port: int, until: float, did: Did) -> None:
    """Subscribers of the busy room that never read, over connections that hold little by themselves."""
    clients: list[socket.socket] = []

    async def one(number: int) -> None:
        with suppress(OSError):
            client = await asyncio.to_thread(shaken, port, address(number), SO_RCVBUF=4096, TCP_MAXSEG=536)
            clients.append(client)
            client.sendall(masked(b'{"type":"subscribe","room":"%s"}' % ROOM))
            did["connections"] += 1

    await each(DEAF_CLIENTS, DEAF_CLIENTS, until, one)
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
    "requests": requests,
    "deaf-answers": deaf_answers,
    "deaf-values": deaf_values,
    "slow-bodies": slow_bodies,
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
