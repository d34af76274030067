"""A TCP proxy for MQTT that misbehaves when told: it cuts, freezes, refuses, and swallows packets."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

__all__ = [
    "CONNECT",
    "PINGRESP",
    "PUBACK",
    "PUBCOMP",
    "PUBLISH",
    "PUBREC",
    "PUBREL",
    "SUBACK",
    "Proxy",
    "Relay",
    "proxy",
    "relay",
    "swallowing",
]

CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, PINGRESP = 1, 3, 4, 5, 6, 7, 9, 13

Alter = Callable[[str, int, bytes], bytes]
"""`(direction, packet type, packet)`: what goes on instead, perhaps nothing; `up` is to the broker, `down` from it."""


def swallowing(direction: str, kind: int) -> Alter:
    """Lets nothing of one type through."""
    return lambda way, found, packet: b"" if (way, found) == (direction, kind) else packet


class Proxy:
    """Stands between one broker and its clients, and passes whole MQTT packets on."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flow = threading.Event()
        self._flow.set()
        self.alter: Alter = lambda _direction, _kind, packet: packet
        self.accepted = 0
        """How many connections there were."""
        self.seen: list[tuple[str, int]] = []
        """Direction and type of all packets, swallowed or not."""
        self.port = self._listen(0)

    def _listen(self, port: int) -> int:
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        bound: int = self._listener.getsockname()[1]
        return bound

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                broker = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.append((client, broker))
            for source, target, direction in ((client, broker, "up"), (broker, client, "down")):
                threading.Thread(target=self._pump, args=(source, target, direction), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        try:
            for packet in _packets(source):
                self._flow.wait()
                kind = packet[0] >> 4
                self.seen.append((direction, kind))
                target.sendall(self.alter(direction, kind, packet))
        except (OSError, ValueError):  # either side was closed meanwhile
            pass
        _close(source, target)

    def cut(self) -> None:
        """End all connections at once; new ones are served."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def freeze(self) -> None:
        """Pass nothing on any more and say nothing about it: half-open connections, without FIN or RST."""
        self._flow.clear()

    def thaw(self) -> None:
        """End what was frozen, and pass on again what comes."""
        self.cut()
        self._flow.set()

    def pass_all(self) -> None:
        """Alter and swallow nothing any more."""
        self.alter = lambda _direction, _kind, packet: packet

    def refuse(self) -> None:
        """End all connections, and take no new ones."""
        assert self._listener is not None
        _close(self._listener)
        self.cut()

    def serve(self) -> None:
        """Take connections again."""
        self._listen(self.port)

    def stop(self) -> None:
        """End everything."""
        self.refuse()
        self._flow.set()


def _packets(source: socket.socket) -> Iterator[bytes]:
    with source.makefile("rb") as stream:
        while first := stream.read(1):
            header, size, shift = first, 0, 0
            while True:
                digit = stream.read(1)
                if not digit:
                    return
                header += digit
                size |= (digit[0] & 0x7F) << shift
                shift += 7
                if digit[0] < 0x80:
                    break
            body = stream.read(size)
            if len(body) < size:
                return
            yield header + body


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@contextmanager
def proxy(target_port: int) -> Iterator[Proxy]:
    """A running proxy on a port of its own."""
    running = Proxy(target_port)
    try:
        yield running
    finally:
        running.stop()


class Relay(Proxy):
    """The same for any protocol: bytes go on as they come, whole packets or not."""

    def _pump(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flow.wait()
                target.sendall(data)
        _close(source, target)


@contextmanager
def relay(target_port: int) -> Iterator[Relay]:
    """A running relay on a port of its own."""
    running = Relay(target_port)
    try:
        yield running
    finally:
        running.stop()
