"""Attackers over plain HTTP, and those that ask for much and don't read it.

Like those in `attackers.py`, which runs them, they hold to what they are, in count and time, and no more.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle, repeat
from typing import Final

from benchmarks.fanout import masked
from benchmarks.hostile import Did, address, connected, each, open_streams, shaken, trickle

__all__ = ["LARGE_VALUES", "LARGE_VALUE_BYTES", "deaf_answers", "deaf_values", "requests", "slow_bodies"]

Opening = Callable[..., socket.socket]

FLOODING_CONNECTIONS: Final = 20
UNDER_WAY: Final = 16
"""Requests of one connection that wait for their answers."""

DEAF_CLIENTS: Final = 60
DEAF_SECONDS: Final = (0.5, 2.0)
"""How long a client that doesn't read stays until it comes back: of half of them, and of the others."""

SLOW_BODIES: Final = 1000

LARGE_VALUES: Final = 400
LARGE_VALUE_BYTES: Final = 50_000
"""The last values, and the history, that those who don't read ask for: 20 MB."""


def _request(line: str, *headers: str, body: str = "") -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join((f"{line} HTTP/1.1", "Host: localhost", *headers, *length, "", body)).encode()


REQUESTS: Final = (
    _request("GET /last?room=a", "Authorization: Bearer wrong"),
    _request("POST /publish?room=a", "Origin: https://evil.example", body="{}"),
    _request("GET /nowhere"),
    _request("GET /healthz"),
    _request("GET /metrics"),
    _request("GET /"),
    _request("GET /tidegate.js"),
)
"""What is refused, and what is public."""

ASKING: Final = (_request("GET /last?room=%23") + _request("GET /history?room=%23&limit=1000")) * 10
STREAM: Final = _request("GET /sse?room=%23")


async def requests(port: int, until: float, did: Did) -> None:
    """Requests from one address, as fast as they are answered, over connections that are kept."""

    async def one(number: int) -> None:
        while time.monotonic() < until:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    await _request_on_and_on(port, number, did)
            await asyncio.sleep(0.01)

    await each(FLOODING_CONNECTIONS, 1000, until, one)


async def _request_on_and_on(port: int, number: int, did: Did) -> None:
    reader, writer = await open_streams(port, address(0))
    did["connections"] += 1
    try:
        coming = cycle(REQUESTS[number % len(REQUESTS) :] + REQUESTS[: number % len(REQUESTS)])
        for _ in range(UNDER_WAY):
            writer.write(next(coming))
        while True:
            did[await _read_answer(reader)] += 1
            writer.write(next(coming))
    finally:
        writer.transport.abort()


async def _read_answer(reader: asyncio.StreamReader) -> str:
    """Its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or b"0"))
    return f"{int(head[9:12])} answers"


async def deaf_answers(port: int, until: float, did: Did) -> None:
    """Requests for all last values and all history over and over, whose answers are not read."""
    await _deaf(port, until, did, lambda _: (connected, ASKING))


async def deaf_values(port: int, until: float, did: Did) -> None:
    """Subscribers of everything over WebSocket and Server-Sent Events in turn, who don't read the last values."""
    subscribe = masked(b'{"type":"subscribe","room":"#"}')
    await _deaf(port, until, did, lambda number: (shaken, subscribe) if number // 2 % 2 else (connected, STREAM))


async def _deaf(
    port: int, until: float, did: Did, kind: Callable[[int], tuple[Callable[..., socket.socket], bytes]]
) -> None:
    async def one(number: int) -> None:
        opening, asking = kind(number)
        while time.monotonic() < until:
            with suppress(OSError):
                client = await asyncio.to_thread(opening, port, address(number, 1), SO_RCVBUF=4096, TCP_MAXSEG=536)
                try:
                    did["connections"] += 1
                    client.sendall(asking)
                    stay_seconds = DEAF_SECONDS[number % len(DEAF_SECONDS)]
                    await asyncio.sleep(max(0.0, min(stay_seconds, until - time.monotonic())))
                finally:
                    client.close()
            await asyncio.sleep(0.01)

    await each(DEAF_CLIENTS, 200, until, one)


async def slow_bodies(port: int, until: float, did: Did) -> None:
    """Requests whose heads promise a body that comes a byte a second."""
    await trickle(port, until, did, SLOW_BODIES, _slow_body)


def _slow_body(number: int) -> Iterator[bytes]:
    path = "/publish?room=a" if number % 2 else "/login"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
    yield head.encode()
    yield from repeat(b" ")
