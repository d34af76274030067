"""Where connections come in: each is refused by its address, or handed to the protocol that serves it.

So what a flood of connections costs is to take them: no parser is made for those that are refused, and no handshake of
TLS computed. A client without TLS is told why; the answer may come before its request, and what it sends is not read.
At most so many are taken in one turn of the event loop, which belongs to those who are there, too.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.core.errors import HandshakeTimeout, TidegateError
from gateway.core.plain_http import Place
from gateway.core.sink import CLOSE_GRACE_SECONDS
from gateway.http_connection import response

__all__ = ["Gate", "Keeper"]

logger = logging.getLogger(__name__)

UNSENT_BYTES: Final = 512 * 1024
"""What the system may take of a connection besides what is on its way; it would hold megabytes for who doesn't read."""
TCP_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25)

ACCEPTS_PER_TURN: Final = 32
LAST_TURNS: Final = 128
"""As many as may have been let in by the system at the end, and more; but not all that a flood has still to bring."""
PAUSE_SECONDS: Final = 0.5
"""How long nobody is let in once the machine has no place for another connection."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """How a gate judges and what stands behind it."""

    admit: Callable[[str], Place]
    """Takes a connection from an address, or raises a `TidegateError` that says why not."""
    refused: Callable[[TidegateError, str | None], None]
    """Who is told of a refusal, and of the address that is to blame."""
    protocol: Callable[[Place], asyncio.Protocol]
    """What serves a connection, and frees its place when it ends."""
    tls: ssl.SSLContext | None
    handshake_seconds: float
    """How long a handshake of TLS may take."""


class Gate:
    """Takes connections from a listening socket until it is closed."""

    def __init__(self, listener: socket.socket, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._keeper = keeper
        self._loop = loop
        self._arriving: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._open()

    def close(self) -> None:
        """Take no more but those that the system has let in already: it would reset them as the socket is closed."""
        self._loop.remove_reader(self._listener)
        if self._pause is None:
            for _ in range(LAST_TURNS):
                if not self._take():
                    break
        if self._pause is not None:  # there is no place for them
            self._pause.cancel()

    @property
    def arriving(self) -> bool:
        """Whether handshakes of TLS, or the like, are under way."""
        return bool(self._arriving)

    def abandon(self) -> None:
        """Break off what is arriving."""
        for task in self._arriving:
            task.cancel()

    def _open(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._take)

    def _take(self) -> bool:
        """Take those who wait, at most so many; whether there may be more."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except ConnectionAbortedError:  # it has left already
                continue
            except OSError as error:  # no file is left for it
                logger.warning("no connection can be taken for %g s: %s", PAUSE_SECONDS, error.strerror)
                self._loop.remove_reader(self._listener)
                self._pause = self._loop.call_later(PAUSE_SECONDS, self._open)
                return False
            self._judge(connection, peer[0])
        return True

    def _judge(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)
        try:
            place = self._keeper.admit(address)
        except TidegateError as error:
            self._turn_away(connection, error)
            return
        task = self._loop.create_task(self._hand_over(connection, address, place))
        self._arriving.add(task)
        task.add_done_callback(partial(self._arrived, connection, place))

    def _turn_away(self, connection: socket.socket, error: TidegateError) -> None:
        self._keeper.refused(error, None)
        try:
            if self._keeper.tls is None:
                connection.send(response(error))
        except OSError:
            pass  # it doesn't want to know
        finally:
            connection.close()

    def _arrived(self, connection: socket.socket, place: Place, task: asyncio.Task[None]) -> None:
        self._arriving.discard(task)
        if task.cancelled():  # perhaps before it began, and so before anybody else could close it
            place.free()
            connection.close()

    async def _hand_over(self, connection: socket.socket, address: str, place: Place) -> None:
        tls, keeper = self._keeper.tls, self._keeper
        try:
            connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            await self._loop.connect_accepted_socket(
                partial(keeper.protocol, place),
                connection,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else keeper.handshake_seconds,
                ssl_shutdown_timeout=None if tls is None else CLOSE_GRACE_SECONDS,
            )
        except ConnectionAbortedError:  # which is how asyncio says that it took too long
            place.free()
            expected = f"expected a handshake of TLS within {keeper.handshake_seconds:g} s"
            keeper.refused(HandshakeTimeout(expected), address)
        except OSError:  # the client speaks no TLS, or left
            place.free()
            connection.close()
        except Exception:
            place.free()
            logger.exception("a connection was lost to a fault as it came in")
            connection.close()
