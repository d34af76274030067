"""Who may come in at all: checked before a request is answered, by the same rules at every door."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs

from gateway.core.addresses import network_of
from gateway.core.authentication import Authentication
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.errors import TidegateError, Unauthenticated
from gateway.core.identity import Identity
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
    bearer: str | None = field(default=None, repr=False)
    """The token in `Authorization: Bearer …` (RFC 6750 §2.1)."""
    ticket: str | None = field(default=None, repr=False)
    """`?ticket=…`, where there is one and no more."""

    @property
    def network(self) -> str:
        """What limits per address count."""
        return network_of(self.address)

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Self:
        """Read it from an ASGI scope."""
        headers = _by_name(scope["headers"])
        origin, host = headers.get(b"origin"), headers.get(b"host")
        return cls(
            None if origin is None else origin.decode("latin-1"),
            None if host is None else host.decode("latin-1"),
            scope["client"][0] if scope.get("client") else "",
            scope.get("scheme") in ("https", "wss"),
            _bearer(headers.get(b"authorization", b"").decode("latin-1")),
            _ticket(scope["query_string"]),
        )


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by their names. One that comes twice is a list (RFC 9110 §5.3), and so nothing that is taken for one."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = found[name] + b", " + value if name in found else value
    return found


def _bearer(authorization: str) -> str | None:
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _ticket(query: bytes) -> str | None:
    tickets = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("ticket", [])
    return None if not tickets else tickets[0] if len(tickets) == 1 else ""


class Admission:
    """Origin, number of connections, who one is, and what may be asked without a connection."""

    def __init__(
        self, origins: Origins, limits: Limits, clock: Clock, counters: Counters, authentication: Authentication
    ) -> None:
        self.authentication = authentication
        self._origins = origins
        self._connections = ConnectionLimiter(limits)
        self._budgets = AddressBudgets(limits, clock)
        self._counters = counters

    def check_origin(self, caller: Caller) -> None:
        """Check where a request's page comes from.

        Raises:
            OriginRefused: from elsewhere.
        """
        self._origins.check(caller.origin, caller.host, encrypted=caller.encrypted)

    def identify(self, caller: Caller) -> Identity | None:
        """Who the caller is; None if it shows nothing, and has to say who it is.

        Raises:
            Unauthenticated: what it shows is wrong.
        """
        return self.authentication.of(caller.bearer, caller.ticket)

    def require(self, caller: Caller) -> Identity:
        """Who the caller is.

        Raises:
            Unauthenticated: it doesn't show that.
        """
        identity = self.identify(caller)
        if identity is None:
            raise Unauthenticated("expected `Authorization: Bearer` with a token, or `?ticket=` with a ticket")
        return identity

    @contextmanager
    def connection(self, caller: Caller) -> Iterator[None]:
        """Hold one connection for as long as the context lasts.

        Raises:
            OriginRefused, TooManyConnections, TooManyConnectionsFromAddress: on entry.
        """
        self.check_origin(caller)
        network = caller.network
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
        """Count a refusal that leaves the context: each door has one around all it does, so that each counts once."""
        try:
            yield
        except TidegateError as error:
            self._counters.refusals[error.code] += 1
            raise
