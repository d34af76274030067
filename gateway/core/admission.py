"""Who may come in at all: checked before a request is answered, by the same rules at every door."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from gateway.core.addresses import network_of
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.errors import TidegateError
from gateway.core.limits import AddressBudgets, Budget, ConnectionLimiter, Limits
from gateway.core.origins import Origins

__all__ = ["Admission", "Caller"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as the request says."""

    origin: str | None
    host: str | None
    address: str
    encrypted: bool = False
    """Whether it is known that TLS led here; without, a proxy that isn't trusted may have ended it."""

    @property
    def network(self) -> str:
        """What limits per address count."""
        return network_of(self.address)

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Self:
        """Read it from an ASGI scope."""
        headers = dict(scope["headers"])
        origin, host = headers.get(b"origin"), headers.get(b"host")
        return cls(
            None if origin is None else origin.decode("latin-1"),
            None if host is None else host.decode("latin-1"),
            scope["client"][0] if scope.get("client") else "",
            scope.get("scheme") in ("https", "wss"),
        )


class Admission:
    """Origin, number of connections, and what may be asked without one."""

    def __init__(self, origins: Origins, limits: Limits, clock: Clock, counters: Counters) -> None:
        self._origins = origins
        self._connections = ConnectionLimiter(limits)
        self._budgets = AddressBudgets(limits, clock)
        self._counters = counters

    def check_origin(self, caller: Caller) -> None:
        """Check where a request's page comes from.

        Raises:
            OriginRefused: from elsewhere.
        """
        with self.counted():
            self._origins.check(caller.origin, caller.host, encrypted=caller.encrypted)

    @contextmanager
    def connection(self, caller: Caller) -> Iterator[None]:
        """Hold one connection for as long as the context lasts.

        Raises:
            OriginRefused, TooManyConnections, TooManyConnectionsFromAddress: on entry.
        """
        self.check_origin(caller)
        network = caller.network
        with self.counted():
            self._connections.acquire(network)
        try:
            yield
        finally:
            self._connections.release(network)

    def budget_of(self, caller: Caller) -> Budget:
        """What may be sent from the caller's address without a connection."""
        return self._budgets.of(caller.network)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a refusal that leaves the context."""
        try:
            yield
        except TidegateError as error:
            self._counters.refusals[error.code] += 1
            raise
