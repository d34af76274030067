"""Who may come in at all: checked before a request is answered, by the same rules at every door."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self
from urllib.parse import parse_qs

from gateway.core.addresses import network_of
from gateway.core.authentication import Authentication
from gateway.core.clock import Clock
from gateway.core.connections import ConnectionLimiter, Seat
from gateway.core.counters import Counters
from gateway.core.doorkeeper import Handshakes
from gateway.core.errors import RateLimited, TidegateError, Unauthenticated
from gateway.core.identity import Identity
from gateway.core.limits import AddressBudgets
from gateway.core.offenders import REFUSED, Offenders
from gateway.core.origins import Origins
from gateway.core.role_limits import RoleLimits

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
        headers = dict(scope["headers"])
        origin, host = headers.get(b"origin"), headers.get(b"host")
        return cls(
            None if origin is None else origin.decode("latin-1"),
            None if host is None else host.decode("latin-1"),
            scope["client"][0] if scope.get("client") else "",
            scope.get("scheme") in ("https", "wss"),
            _bearer(headers.get(b"authorization", b"").decode("latin-1")),
            _ticket(scope["query_string"]),
        )


def _bearer(authorization: str) -> str | None:
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _ticket(query: bytes) -> str | None:
    tickets = parse_qs(query.decode("latin-1")).get("ticket", [])
    return None if not tickets else tickets[0] if len(tickets) == 1 else ""


class Admission:
    """Origin, number of connections, who one is, and what may be asked without a connection."""

    def __init__(
        self,
        origins: Origins,
        limits: RoleLimits,
        clock: Clock,
        counters: Counters,
        authentication: Authentication,
        offenders: Offenders,
    ) -> None:
        self.authentication = authentication
        self._origins = origins
        self._limits = limits
        self._handshakes = Handshakes(limits.general, offenders, clock)
        self._connections = ConnectionLimiter(limits)
        self._budgets = AddressBudgets(clock)
        self._offenders = offenders
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
    def connection(self, caller: Caller) -> Iterator[Seat]:
        """Hold one connection for as long as the context lasts. Whose it is, is told to the seat.

        Raises:
            OriginRefused, TooManyHandshakes, TooManyConnections, TooManyConnectionsFromAddress: on entry.
        """
        self.check_origin(caller)
        self._handshakes.check(caller.address)
        seat = self._connections.acquire(caller.network, partial(self._offenders.offend, caller.address))
        try:
            yield seat
        finally:
            seat.free()

    def spend(self, caller: Caller, identity: Identity | None, size_bytes: int = 0) -> None:
        """Account for what a client asks without a connection, from the budget of its address.

        Raises:
            MessageTooLarge, RateLimited: as `Budget.spend`.
        """
        budget = self._budgets.of(caller.network, self._limits.of(identity))
        try:
            budget.spend(size_bytes)
        except RateLimited:
            if budget.refuse():
                self._offenders.offend(caller.address, REFUSED)
            raise
        budget.accept()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a refusal that leaves the context: each door has one around all it does, so that each counts once."""
        try:
            yield
        except TidegateError as error:
            self._counters.refuse(error)
            raise
