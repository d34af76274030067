"""Clients without a library, since none would send what attackers do."""

import re
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

DEADLINE_SECONDS: Final = 10.0
KEY: Final = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
UPGRADE: Final = KEY + b"Sec-WebSocket-Version: 13\r\n"


def frame(opcode: int, data: bytes = b"", *, final: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """A client's frame (RFC 6455 §5.2) with the mask that changes nothing."""
    first, mask = (0x80 if final else 0) | reserved << 4 | opcode, 0x80 if masked else 0
    size = len(data)
    if size < 126:
        head = bytes((first, mask | size))
    elif size < 65_536:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + (bytes(4) if masked else b"") + data


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def exchange(port: int, data: bytes, *, end: bool = False) -> bytes:
    """All that is answered until the other side closes; what is said has to see to that, or its `end`."""
    with connect(port) as client:
        heard = b""
        try:
            client.sendall(data)
            if end:
                client.shutdown(socket.SHUT_WR)
            while part := client.recv(65_536):
                heard += part
        except ConnectionError:
            pass
        except TimeoutError:
            raise AssertionError(f"the connection stays open after {heard[:500]!r}") from None
        return heard


def statuses(heard: bytes) -> list[int]:
    """The status of each answer."""
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3})", heard)]


class RawWebSocket:
    """A connection that sends bytes, and hears frames."""

    def __init__(self, port: int, head: bytes) -> None:
        self._socket = connect(port)
        self._heard = b""
        self._socket.sendall(head)
        while b"\r\n\r\n" not in self._heard and self._more():
            pass
        self.head, _, self._heard = self._heard.partition(b"\r\n\r\n")
        self.open = self.head.startswith(b"HTTP/1.1 101 ")

    def _more(self) -> bool:
        try:
            part = self._socket.recv(65_536)
        except ConnectionError:
            return False
        self._heard += part
        return bool(part)

    def rest(self) -> bytes:
        """The body of an answer that refuses; the connection is closed behind it."""
        while self._more():
            pass
        return self._heard

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def say(self, text: bytes) -> None:
        self.send(frame(1, text))

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Opcode and data of each frame, until the end."""
        end = time.monotonic() + DEADLINE_SECONDS
        while True:
            size, start = (self._heard[1] & 0x7F, 2) if len(self._heard) > 1 else (-1, 0)
            if size == 126 and len(self._heard) >= 4:
                size, start = struct.unpack_from("!H", self._heard, 2)[0], 4
            elif size == 127 and len(self._heard) >= 10:
                size, start = struct.unpack_from("!Q", self._heard, 2)[0], 10
            elif size >= 126:
                size = -1
            if 0 <= size <= len(self._heard) - start:
                opcode, data = self._heard[0] & 0xF, self._heard[start : start + size]
                self._heard = self._heard[start + size :]
                yield opcode, data
            elif not self._more():
                return
            assert time.monotonic() < end, self._heard[:500]

    def close(self) -> None:
        self._socket.close()
