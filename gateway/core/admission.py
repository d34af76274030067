"""Who may come in at all: checked before a request is answered, by the same rules at every door."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Self
from urllib.parse import parse_qs

from gateway.core.address_budgets import AddressBudgets
from gateway.core.addresses import network_of
from gateway.core.authentication import Authentication, Undecided
from gateway.core.clock import Clock
from gateway.core.connections import ConnectionLimiter, Seat
from gateway.core.cookies import ShownCookie, read_cookie
from gateway.core.counters import Counters
from gateway.core.doorkeeper import Handshakes
from gateway.core.errors import OriginRefused, TidegateError, Unauthenticated
from gateway.core.identity import Identity
from gateway.core.limit_errors import RateLimited
from gateway.core.offenders import REFUSED, Offenders
from gateway.core.origins import Origins
from gateway.core.role_limits import RoleLimits
from gateway.core.shared_limits import SharedLimits

__all__ = ["Admission", "Caller"]

SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
"""Those that change nothing (RFC 9110 §9.2.1)."""


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
    cookie: ShownCookie | None = field(default=None, repr=False)
    """The session cookie."""
    csrf_token: str | None = field(default=None, repr=False)
    """`X-CSRF-Token`."""
    method: str | None = None
    """What is to be done; None for a WebSocket handshake."""

    @property
    def by_cookie(self) -> bool:
        """Whether the cookie is what it shows: a browser sends that by itself, whichever page makes it."""
        return self.cookie is not None and self.bearer is None and self.ticket is None

    @property
    def network(self) -> str:
        """What limits per address count."""
        return network_of(self.address)

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Self:
        """Read it from an ASGI scope."""
        headers = _by_name(scope["headers"])
        origin, host = headers.get(b"origin"), headers.get(b"host")
        encrypted = scope.get("scheme") in ("https", "wss")
        csrf_token = headers.get(b"x-csrf-token")
        return cls(
            None if origin is None else origin.decode("latin-1"),
            None if host is None else host.decode("latin-1"),
            scope["client"][0] if scope.get("client") else "",
            encrypted,
            _bearer(headers.get(b"authorization", b"").decode("latin-1")),
            _ticket(scope["query_string"]),
            read_cookie(scope["headers"], encrypted=encrypted) if b"cookie" in headers else None,
            None if csrf_token is None else csrf_token.decode("latin-1"),
            scope.get("method"),
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

    def share(self, namespace: str, shared: SharedLimits) -> None:
        """Limit what comes to all nodes together."""
        self._handshakes.share(f"{namespace}/handshakes", shared)
        self._connections.share(f"{namespace}/connections", shared)
        self._budgets.share(f"{namespace}/http", self._limits.general, shared)

    def check_origin(self, caller: Caller) -> None:
        """Check where a request's page comes from.

        Raises:
            OriginRefused: from elsewhere.
        """
        self._origins.check(caller.origin, caller.host, encrypted=caller.encrypted)

    async def identify(self, caller: Caller) -> Identity | None:
        """Who the caller is; None if it shows nothing, and has to say who it is.

        Waits only for what may be had in a moment: the key of a token, or what other nodes know.

        Raises:
            Unauthenticated: what it shows is wrong.
            EngineUnavailable: that can't be known, since other nodes can't be reached.
            CsrfRefused, OriginRefused: it is a browser that may have been made to ask by a page from elsewhere.
        """
        try:
            identity = self._find(caller)
        except Undecided as undecided:
            await undecided.renew()
            identity = self._find(caller)
        if identity is not None and identity.login is not None and caller.by_cookie:
            self._check_page(caller, identity)
        return identity

    def _find(self, caller: Caller) -> Identity | None:
        cookie = None if caller.cookie is None else caller.cookie.value
        return self.authentication.of(caller.bearer, caller.ticket, cookie, caller.network)

    def _check_page(self, caller: Caller, identity: Identity) -> None:
        """Check that it was a page of the gateway's own which made a browser send its cookie."""
        if caller.method is None and caller.origin is None:  # browsers say it of every WebSocket (RFC 6455 §4.1)
            raise OriginRefused("a WebSocket with the session cookie: expected the header `Origin` beside it")
        if caller.method not in (None, *SAFE_METHODS) and self.authentication.logins is not None:
            self.authentication.logins.check_csrf(identity, caller.csrf_token)

    async def require(self, caller: Caller) -> Identity:
        """Who the caller is.

        Raises:
            Unauthenticated: it doesn't show that.
        """
        identity = await self.identify(caller)
        if identity is None:
            raise Unauthenticated("expected `Authorization: Bearer` with a token, `?ticket=` with a ticket, or a login")
        return identity

    def connection(self, caller: Caller) -> Seat:
        """A seat for one connection; whoever has it frees it. Whose it is, is told to the seat.

        Raises:
            OriginRefused, TooManyHandshakes, TooManyConnections, TooManyConnectionsFromAddress: there is none.
        """
        self.check_origin(caller)
        self._handshakes.check(caller.address)
        return self._connections.acquire(caller.network, partial(self._offenders.offend, caller.address))

    @property
    def patience_seconds(self) -> float:
        """How long a part of a request may take to come."""
        return self._limits.general.handshake_seconds

    def blame(self, caller: Caller) -> None:
        """Its address offends by a connection that has to be given up."""
        self._offenders.offend(caller.address)

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
    def charged(self, caller: Caller) -> Iterator[None]:
        """Account for a request that is refused within, before `spend`: to ask in vain isn't to cost nothing.

        Raises:
            RateLimited: in place of the refusal, as `spend`.
        """
        try:
            yield
        except TidegateError:
            self.spend(caller, None)
            raise

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a refusal that leaves the context: each door has one around all it does, so that each counts once."""
        try:
            yield
        except TidegateError as error:
            self._counters.refuse(error)
            raise
