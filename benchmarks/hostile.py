"""What attackers have in common: where they come from, and how many of them there are at a time."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

from benchmarks.fanout import HANDSHAKE

__all__ = ["Did", "address", "connected", "each", "open_streams", "shaken", "trickle"]

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


async def each(count: int, per_second: float, until: float, one: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """Run `one` for so many clients, so many of them started a second."""
    async with asyncio.TaskGroup() as tasks:
        start = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / per_second - time.monotonic()))
            if time.monotonic() > until:
                break
            tasks.create_task(one(number))


async def open_streams(port: int, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection from that address.

    Raises:
        OSError: it is refused.
    """
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))


async def trickle(port: int, until: float, did: Did, count: int, pieces: Callable[[int], Iterator[bytes]]) -> None:
    """So many connections that each send a piece a second. They come back when they are cut off."""

    async def one(number: int) -> None:
        while time.monotonic() < until:
            did["connections"] += 1
            with suppress(OSError, TimeoutError):
                reader, writer = await open_streams(port, address(number))
                try:
                    for piece in pieces(number):
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

    await each(count, count, until, one)
