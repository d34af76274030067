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
from typing import Any, Final, Protocol

import uvicorn

from gateway.core.errors import TidegateError
from gateway.core.plain_http import Place
from gateway.entrance import HeadBounds
from gateway.gate import Gate, Keeper
from gateway.heartbeats import Heartbeats
from gateway.http_connection import HttpProtocol
from gateway.websocket_connection import WebSocketProtocol

__all__ = ["Leaving", "Server", "bind", "reserve"]

BACKLOG: Final = 2048
"""How many connections may wait until they are taken."""

FAREWELL_SECONDS: Final = 1
"""How long clients that were told may take to close their connections."""


class Leaving(Protocol):
    """What is done when the server is told to end; see `gateway.drain.Drain`."""

    def announce(self) -> None:
        """It has been told."""
        ...

    async def give_notice(self) -> None:
        """Returns when it is time to take no more connections."""
        ...

    async def tell_all(self, under_way: Callable[[], bool]) -> None:
        """Returns when clients have been told, and nothing is `under_way` or it is given up."""
        ...

    def hurry(self) -> None:
        """Both are to return now."""
        ...

    def finish(self) -> None:
        """Connections are about to be closed."""
        ...


class Server(uvicorn.Server):
    """Serves an ASGI application until it is told to end, then drains and returns."""

    def __init__(
        self,
        app: Any,
        *,
        message_bytes: int,
        inflate: bool,
        heartbeats: Heartbeats,
        head: HeadBounds,
        admit: Callable[[str], Place],
        refused: Callable[[TidegateError, str | None], None],
        leaving: Leaving,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        http = partial(HttpProtocol, head=head, refused=refused, leaving=lambda: self.should_exit)
        super().__init__(
            uvicorn.Config(
                app,
                http=http,  # type: ignore[arg-type]
                ws=partial(WebSocketProtocol, heartbeats=heartbeats, inflate=inflate),  # type: ignore[arg-type]
                ws_max_size=message_bytes,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=FAREWELL_SECONDS,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # anybody could say to come from anywhere, and so pass all limits per address
            )
        )
        self._leaving = leaving
        self._run: asyncio.Task[Any] | None = None
        self.servers = []  # the gates are in their place
        self._gates: list[Gate] = []
        self._keeper = Keeper(admit, refused, self._protocol, tls, head.handshake_seconds)

    def end_on_signals(self, run: asyncio.Task[Any]) -> None:
        """From now on until the process ends, let SIGINT and SIGTERM end the server, or cancel `run` as it starts.

        The second one ends it at once.
        """
        self._run = run
        told = False

        def end() -> None:
            nonlocal told
            (self.hurry if told else self.leave)()
            told = True

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end)

    def leave(self) -> None:
        """Begin to end; nothing happens if it has begun."""
        starting = not (self.started or self.should_exit)
        self.should_exit = True
        self._leaving.announce()
        if starting and self._run is not None:
            self._run.cancel()

    def hurry(self) -> None:
        """End without waiting for anybody."""
        self.leave()
        self.force_exit = True
        self._leaving.hurry()

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
        """Take no more connections once that was noticed, tell those there are, and wait for what is under way."""
        await self._leaving.give_notice()
        for gate in self._gates:
            gate.close()
        for listener in sockets or ():
            listener.close()
        for connection in self.server_state.connections:
            if isinstance(connection, HttpProtocol):
                connection.retire()
        await self._leaving.tell_all(self._under_way)
        self._leaving.finish()
        for gate in self._gates:
            gate.abandon()
        await super().shutdown()

    def _under_way(self) -> bool:
        served: Any = self.server_state.connections  # of the two classes above
        return any(gate.arriving for gate in self._gates) or any(connection.under_way for connection in served)


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; one that is `shared` is one of several, over which the system spreads what comes.

    Raises:
        OSError: the address can't be had.
    """
    listener = _bound(host, port, shared=shared)
    try:
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def reserve(host: str, port: int) -> socket.socket:
    """A socket that holds a port for those who share it, and takes no connections itself.

    Raises:
        OSError: the address can't be had, or somebody listens there.
    """
    if port:
        bind(host, port).close()  # which tells of one that is shared with others than ours
    return _bound(host, port, shared=True)


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
