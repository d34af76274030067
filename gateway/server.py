"""The server: uvicorn with its connections laid open, so that the hub writes to them without a detour through ASGI.

Two small subclasses of uvicorn's protocols put a `gateway.core.sink.Transport` into `scope["extensions"]["tidegate"]`.
Under another ASGI server it isn't there, and the bridges use the server's `send`; only speed and the reach of a close
to clients that don't read are lost.
"""

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import uvicorn

from gateway.core.errors import TidegateError
from gateway.core.plain_http import Place
from gateway.entrance import HeadBounds
from gateway.gate import Gate, Keeper
from gateway.heartbeats import Heartbeats
from gateway.http_connection import HttpProtocol
from gateway.websocket_connection import WebSocketProtocol

__all__ = ["Server", "bind"]

BACKLOG: Final = 2048
"""How many connections may wait until they are taken."""


class Server(uvicorn.Server):
    """Serves an ASGI application until SIGINT or SIGTERM, then drains and returns."""

    def __init__(
        self,
        app: Any,
        *,
        message_bytes: int,
        inflate: bool,
        heartbeats: Heartbeats,
        head: HeadBounds,
        drain_seconds: float,
        admit: Callable[[str], Place],
        refused: Callable[[TidegateError, str | None], None],
        drain: Callable[[], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(HttpProtocol, head=head, refused=refused),  # type: ignore[arg-type]
                ws=partial(WebSocketProtocol, heartbeats=heartbeats, inflate=inflate),  # type: ignore[arg-type]
                ws_max_size=message_bytes,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # anybody could say to come from anywhere, and so pass all limits per address
            )
        )
        self._drain = drain
        self.servers = []  # the gates are in their place
        self._gates: list[Gate] = []
        self._keeper = Keeper(admit, refused, self._protocol, tls, head.handshake_seconds)

    def end_on_signals(self, run: asyncio.Task[Any]) -> None:
        """From now on until the process ends, let SIGINT and SIGTERM end the server, or cancel `run` as it starts."""

        def end(number: int) -> None:
            starting = not (self.started or self.should_exit)
            self.handle_exit(number, None)
            if starting:
                run.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end, number)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not as uvicorn does it, whose handlers are gone before all has ended, and which raises the signal again."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. As uvicorn does it with sockets, but that a gate judges each connection first."""
        loop = asyncio.get_running_loop()
        self._gates = [Gate(listener, self._keeper, loop) for listener in sockets or ()]
        self.started = True

    def _protocol(self, place: Place) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, place=place
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, say goodbye to those there are, and wait for what is under way."""
        for gate in self._gates:
            gate.close()
        self._drain()
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the address can't be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
