"""A connection's first moment: it is refused by its address, or handed to the protocol that serves it.

So what a flood of connections costs is to take them: no parser is made for those that are refused, and no handshake of
TLS computed. A client without TLS is told why; the answer may come before its request, and what it sends is not read.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import HandshakeTimeout, TidegateError
from gateway.core.sink import CLOSE_GRACE_SECONDS
from gateway.http_connection import response

__all__ = ["Gate", "Keeper"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keeper:
    """How a gate judges and what stands behind it."""

    refuses: Callable[[str], TidegateError | None]
    """Why a connection from an address isn't taken, if it isn't."""
    refused: Callable[[TidegateError, str | None], None]
    """Who is told of a refusal, and of the address that is to blame."""
    protocol: Callable[[], asyncio.Protocol]
    """What serves a connection."""
    tls: ssl.SSLContext | None
    handshake_seconds: float
    """How long a handshake of TLS may take."""


class Gate(asyncio.Protocol):
    """One new connection, until it is handed over."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._task: asyncio.Task[None] | None = None
        self._early = b""
        """What came together with the end of the handshake of TLS."""
        self._lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Judge it."""
        peer: Any = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        error = self._keeper.refuses(address)
        if error is not None:
            self._keeper.refused(error, None)
            _turn_away(transport, None if self._keeper.tls else error)
        elif self._keeper.tls is None:
            self._hand_over(transport)
        else:
            self._task = asyncio.get_running_loop().create_task(self._encrypt(transport, self._keeper.tls, address))

    def data_received(self, data: bytes) -> None:
        """Keep what comes before the connection is handed over: a part of the first request."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why doesn't matter
        """There is nothing to hand over any more."""
        self._lost = True

    def _hand_over(self, transport: asyncio.Transport) -> None:
        protocol = self._keeper.protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._early:
            protocol.data_received(self._early)

    async def _encrypt(self, transport: asyncio.Transport, tls: ssl.SSLContext, address: str) -> None:
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                transport,
                self,
                tls,
                server_side=True,
                ssl_handshake_timeout=self._keeper.handshake_seconds,
                ssl_shutdown_timeout=CLOSE_GRACE_SECONDS,
            )
            if encrypted is not None and not self._lost:
                self._hand_over(encrypted)
        except ConnectionAbortedError:  # which is how asyncio says that it took too long
            expected = f"expected a handshake of TLS within {self._keeper.handshake_seconds:g} s"
            self._keeper.refused(HandshakeTimeout(expected), address)
            transport.abort()
        except OSError:  # the client speaks no TLS, or left
            transport.abort()
        except Exception:
            logger.exception("a connection was lost to a fault in its handshake of TLS")
            transport.abort()


def _turn_away(transport: asyncio.Transport, error: TidegateError | None) -> None:
    if error is None:
        transport.abort()
    else:
        transport.write(response(error))
        transport.close()
