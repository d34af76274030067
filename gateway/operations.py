"""The listener of operators: health, readiness and metrics, apart from what browsers reach.

It answers from the start of the gateway until its very end, while clients are told to leave too.
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware

from gateway.app import Gateway
from gateway.config import ListenSettings
from gateway.core.addresses import TrustedProxies
from gateway.core.clock import SystemClock
from gateway.core.errors import TidegateError
from gateway.core.origins import Origins, is_loopback
from gateway.core.plain_http import HttpConnections
from gateway.hosts import HostCheck
from gateway.pages import no_such_endpoint
from gateway.response_headers import ResponseHeaders, headers_for
from gateway.server import Server
from gateway.supervisor import Supervisor

__all__ = ["serving_operators"]

CONNECTIONS: Final = 100
STOP_SECONDS: Final = 0.5


class _Steady:
    """Leaves without a word: see `gateway.server.Leaving`."""

    def announce(self) -> None:
        pass

    async def give_notice(self) -> None:
        pass

    async def tell_all(self, under_way: Callable[[], bool]) -> None:
        pass

    def hurry(self) -> None:
        pass

    def finish(self) -> None:
        pass


@asynccontextmanager
async def serving_operators(gateway: Gateway, listener: socket.socket | None) -> AsyncIterator[None]:
    """Serve them at `listener`, if there is one, for as long as the context lasts."""
    if listener is None:
        yield
        return
    server = _server(gateway)
    supervisor = Supervisor(SystemClock(), SystemRandom())
    supervisor.start("operators' listener", lambda: server.serve([listener]))
    try:
        yield
    finally:
        await supervisor.stop(STOP_SECONDS)


def _server(gateway: Gateway) -> Server:
    def refused(error: TidegateError, address: str | None = None) -> None:  # noqa: ARG001 - no client is to blame
        gateway.refused(error)

    app = Starlette(
        routes=gateway.operator_routes(),
        middleware=[
            Middleware(ResponseHeaders, headers=headers_for(ListenSettings())),
            Middleware(
                HostCheck, origins=Origins((), (), local=is_loopback(gateway.settings.ops.host)), refused=refused
            ),
        ],
        exception_handlers={404: no_such_endpoint, 405: no_such_endpoint},
    )
    return Server(
        app,
        message_bytes=gateway.largest_message_bytes,
        inflate=False,
        heartbeats=gateway.heartbeats,
        head=gateway.head,
        admit=HttpConnections(CONNECTIONS, CONNECTIONS, TrustedProxies(())).enter,
        refused=refused,
        leaving=_Steady(),
    )
