"""A TCP proxy that passes on what comes, whatever it is, until it is told to cut."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.proxy import Proxy

__all__ = ["Cutter", "cutter"]


class Cutter(Proxy):
    """Stands between a gateway and its clients."""

    def _pump(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        with suppress(OSError):  # either side was closed meanwhile
            while data := source.recv(65536):
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def cutter(target_port: int) -> Iterator[Cutter]:
    """A running proxy on a port of its own."""
    running = Cutter(target_port)
    try:
        yield running
    finally:
        running.stop()
