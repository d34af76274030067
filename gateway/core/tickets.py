"""Tickets that let in who shows them first, for a few seconds.

For browsers, which can't send headers with WebSocket and EventSource: a token in an address would be logged. Nodes that
can reach each other keep their tickets in one `TicketStore`: each lets in at any of them, and once at all of them. One
that a node issues while they can't be reached is its own: it lets in there, and nowhere else.
"""

import logging
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NoReturn, Protocol

from gateway.core.clock import Clock
from gateway.core.errors import Unauthenticated
from gateway.core.identity import Credential, Identity
from gateway.core.limit_errors import RateLimited

__all__ = ["TicketStore", "Tickets"]

logger = logging.getLogger(__name__)

MAXIMUM_TICKETS: Final = 10_000
"""How many may wait to be used."""
MAXIMUM_FETCHES: Final = 1000
"""How many may be asked for at once that other nodes have issued."""
_TICKET = re.compile(r"[0-9a-f]{48}")


class TicketStore(Protocol):
    """Where tickets wait that any node may take."""

    @property
    def is_up(self) -> bool:
        """Whether it can be reached, as far as is known."""
        ...

    async def put(self, ticket: str, fields: Mapping[str, Any], seconds: float) -> bool:
        """Keep one for so long; whether it is known to be there. What can be read there must not let in."""
        ...

    async def take(self, ticket: str) -> Mapping[str, Any] | None:
        """What was kept of one, for the first who asks; None if there is nothing, or that can't be known."""
        ...


@dataclass(frozen=True, slots=True)
class _Ticket:
    identity: Identity
    due: float
    network: str


class Tickets:
    """The tickets that this node issues, or takes.

    Args:
        bound: Whether a ticket lets in only those who come from where it was fetched. Shown from elsewhere, it has
            leaked and is used up. Who shows it learns no more than with a ticket that never was; who fetched it is
            refused too, and so knows, and fetches another one.
        store: What nodes have in common; None if this is the only one.
    """

    def __init__(
        self, seconds: float, clock: Clock, random: Random, *, bound: bool = False, store: TicketStore | None = None
    ) -> None:
        self.seconds = seconds
        self._store = store
        self._bound = bound
        self._clock = clock
        self._random = random
        self._tickets: dict[str, _Ticket] = {}
        """In the order in which they were issued."""
        self._lent: deque[float] = deque()
        """Until when each holds that was put into the store, less one for each that was taken from there: which were
        used isn't known here, but all nodes together take no more than they give."""
        self._fetching = 0

    def become(self, newer: "Tickets") -> None:
        """Take over a newer one's rules; tickets that wait to be used are kept."""
        self.seconds, self._bound = newer.seconds, newer._bound

    def __len__(self) -> int:
        """How many are kept here."""
        return len(self._tickets)

    def issue(self, identity: Identity, network: str = "") -> str:
        """A ticket of this node's own, for somebody who is at this address, as limits count addresses.

        Raises:
            RateLimited: too many wait to be used.
        """
        self._check_number()
        ticket = self._make()
        self._tickets[ticket] = _Ticket(identity, self._clock.monotonic() + self.seconds, network)
        return ticket

    async def issue_for_all(self, identity: Identity, network: str = "") -> str:
        """The same, but one that lets in at any node, if they can be reached.

        Raises:
            RateLimited: too many wait to be used.
        """
        if self._store is None or not self._store.is_up:
            return self.issue(identity, network)
        self._check_number()
        ticket = self._make()
        self._lent.append(self._clock.monotonic() + self.seconds)
        if await self._store.put(ticket, _fields(identity, network), self.seconds):
            return ticket
        return self.issue(identity, network)  # another one: that one may be in the store, and must not count twice

    def _make(self) -> str:
        return f"{self._random.getrandbits(192):048x}"

    def _check_number(self) -> None:
        self._forget_expired()
        if len(self._tickets) + len(self._lent) >= MAXIMUM_TICKETS:
            raise RateLimited("too many tickets wait to be used", retry_after_seconds=self.seconds)

    def may_be_elsewhere(self, ticket: str) -> bool:
        """Whether it is to be fetched before it is redeemed."""
        up = self._store is not None and self._store.is_up
        return up and ticket not in self._tickets and _TICKET.fullmatch(ticket) is not None

    async def fetch(self, ticket: str) -> Identity:
        """Have one here that waits in the store, to be redeemed at once; it isn't there any more. Whose it is.

        Raises:
            Unauthenticated: there is none, or too many are asked for.
        """
        if self._store is None or self._fetching >= MAXIMUM_FETCHES:
            self._refuse()
        self._fetching += 1
        try:
            fields = await self._store.take(ticket)
        finally:
            self._fetching -= 1
        if fields is None:
            self._refuse()
        if self._lent:
            self._lent.popleft()
        try:
            identity, network = _read(fields)
        except (KeyError, TypeError):
            logger.warning("a ticket in the store can't be read: expected what this version writes")
            self._refuse()
        self._tickets[ticket] = _Ticket(identity, self._clock.monotonic() + self.seconds, network)
        return identity

    def redeem(self, ticket: str, network: str = "") -> Identity:
        """Whose ticket it is; it can't be used again.

        Raises:
            Unauthenticated: nobody's, or no more, or not for who comes from there.
        """
        self._forget_expired()
        found = self._tickets.pop(ticket, None)
        elsewhere = self._bound and found is not None and found.network != network
        if elsewhere and found is not None:
            told = (found.identity.user, found.network, network)
            logger.warning("a ticket of %r, fetched from %s, was shown from %s: it is used up", *told)
        # `seconds` may have become less since it was issued
        if found is None or found.due <= self._clock.monotonic() or elsewhere:
            self._refuse()
        return found.identity

    def _refuse(self) -> NoReturn:
        raise Unauthenticated(f"the ticket is refused: expected a new one, used once within {self.seconds:g} s")

    def _forget_expired(self) -> None:
        now = self._clock.monotonic()
        while self._tickets and next(iter(self._tickets.values())).due <= now:
            del self._tickets[next(iter(self._tickets))]
        while self._lent and self._lent[0] <= now:
            self._lent.popleft()


def _fields(identity: Identity, network: str) -> dict[str, Any]:
    """What is to be known of a ticket at another node: roles and all else are found by what was shown for it."""
    shown = identity.credential
    return {
        "user": identity.user,
        "expires_at": identity.expires_at,
        "credential": None if shown is None else [shown.kind, shown.value],
        "network": network,
    }


def _read(fields: Mapping[str, Any]) -> tuple[Identity, str]:
    shown = fields["credential"]
    credential = None if shown is None else Credential(*shown)
    return Identity(fields["user"], expires_at=fields["expires_at"], credential=credential), fields["network"]
