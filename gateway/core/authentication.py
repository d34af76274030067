"""From what a client shows to who it is: API tokens by their hashes, other tokens by a `Verifier`, tickets, cookies.

API tokens are kept as plain SHA-256: they are 256 bits of randomness, which nobody guesses however fast the hash is; a
slow hash, as passwords need, would let anybody keep the gateway busy. To find one by its hash tells an attacker nothing
by the time that takes. What is wrong is never taken for nothing: who shows a bad token isn't anonymous.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random
from typing import Final, Protocol

from gateway.core.clock import Clock
from gateway.core.errors import Unauthenticated
from gateway.core.identity import ANONYMOUS, Credential, Identity
from gateway.core.limit_errors import RateLimited
from gateway.core.logins import COOKIE, Logins

__all__ = ["Authentication", "KeyUnknown", "Tickets", "Verifier", "hash_token", "make_token"]

logger = logging.getLogger(__name__)

PREFIX: Final = "tg_"
"""What API tokens begin with, so that scanners for leaked secrets can know them."""
HASHED: Final = "hashed"
"""The kind of a credential that is an API token: of the value, the hash is kept."""
SIGNED: Final = "signed"
"""The kind of one that the verifier reads."""
MAXIMUM_TICKETS: Final = 10_000
"""How many may wait to be used."""


class KeyUnknown(Unauthenticated):
    """A token can't be verified yet: its key is about to be asked for. Who awaits `renew` may show it again, once."""

    def __init__(self, message: str, renew: Callable[[], Awaitable[None]]) -> None:
        super().__init__(message)
        self.renew = renew


class Verifier(Protocol):
    """Reads tokens that prove by themselves who somebody is."""

    def identify(self, token: str) -> Identity:
        """The identity that a token proves.

        Raises:
            KeyUnknown: that may be known in a moment.
            Unauthenticated: it proves none.
        """
        ...


def make_token(random: Random) -> str:
    """A new API token: 256 bits, in hexadecimal digits."""
    return f"{PREFIX}{random.getrandbits(256):064x}"


def hash_token(token: str) -> str:
    """What the configuration keeps of an API token."""
    return sha256(token.encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class _Ticket:
    identity: Identity
    due: float
    network: str


class Tickets:
    """Tickets that let in who shows them first, for a few seconds.

    For browsers, which can't send headers with WebSocket and EventSource: a token in an address would be logged.

    Args:
        bound: Whether a ticket lets in only those who come from where it was fetched. Shown from elsewhere, it has
            leaked and is used up. Who shows it learns no more than with a ticket that never was; who fetched it is
            refused too, and so knows, and fetches another one.
    """

    def __init__(self, seconds: float, clock: Clock, random: Random, *, bound: bool = False) -> None:
        self.seconds = seconds
        self._bound = bound
        self._clock = clock
        self._random = random
        self._tickets: dict[str, _Ticket] = {}
        """In the order in which they were issued."""

    def become(self, newer: "Tickets") -> None:
        """Take over a newer one's rules; tickets that wait to be used are kept."""
        self.seconds, self._bound = newer.seconds, newer._bound

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._tickets)

    def issue(self, identity: Identity, network: str = "") -> str:
        """A ticket for somebody who is at this address, as limits count addresses.

        Raises:
            RateLimited: too many wait to be used.
        """
        self._forget_expired()
        if len(self._tickets) >= MAXIMUM_TICKETS:
            raise RateLimited("too many tickets wait to be used", retry_after_seconds=self.seconds)
        ticket = f"{self._random.getrandbits(192):048x}"
        self._tickets[ticket] = _Ticket(identity, self._clock.monotonic() + self.seconds, network)
        return ticket

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
            raise Unauthenticated(f"the ticket is refused: expected a new one, used once within {self.seconds:g} s")
        return found.identity

    def _forget_expired(self) -> None:
        now = self._clock.monotonic()
        while self._tickets and next(iter(self._tickets.values())).due <= now:
            del self._tickets[next(iter(self._tickets))]


class Authentication:
    """Who may come in, and as whom.

    Args:
        tokens: Identities of programs, by the hashes of their tokens.
        verifier: Reads other tokens.
        anonymous: Who shows nothing; None if everybody has to show something.
        logins: Users with passwords; None for none.
    """

    def __init__(
        self,
        clock: Clock,
        tickets: Tickets,
        tokens: Mapping[str, Identity] | None = None,
        verifier: Verifier | None = None,
        anonymous: Identity | None = ANONYMOUS,
        logins: Logins | None = None,
    ) -> None:
        self.tickets = tickets
        self.anonymous = anonymous
        self.logins = logins
        self._clock = clock
        self._tokens = {
            digest: replace(identity, credential=Credential(HASHED, digest))
            for digest, identity in (tokens or {}).items()
        }
        self._verifier = verifier

    def become(self, newer: "Authentication", *, same_verifier: bool = False, same_keys: bool = False) -> None:
        """Decide as a newer one does, for all who hold this one; tickets that wait to be used are kept.

        So is what is known of logins, as far as there are users still.

        Args:
            newer: What is taken over, all of it.
            same_verifier: Whether tokens are read as before: what the verifier has learned is kept then.
            same_keys: Whether cookies are signed as before.
        """
        tickets, verifier, logins = self.tickets, self._verifier, self.logins
        tickets.become(newer.tickets)
        vars(self).update(vars(newer))
        self.tickets = tickets
        if same_verifier:
            self._verifier = verifier
        if logins is not None and self.logins is not None:
            logins.become(self.logins, same_keys=same_keys)
            self.logins = logins

    @property
    def knows_tokens(self) -> bool:
        """Whether there is a token that lets in."""
        return bool(self._tokens) or self._verifier is not None

    def identify(self, token: str) -> Identity:
        """Whose token it is.

        Raises:
            KeyUnknown: that may be known in a moment.
            Unauthenticated: nobody's.
        """
        identity = self._tokens.get(hash_token(token))
        if identity is not None:
            return identity
        if token.startswith(PREFIX) or self._verifier is None:
            raise Unauthenticated("the token is refused: expected one that this gateway knows")
        identity = self._unexpired(self._verifier.identify(token))
        return replace(identity, credential=Credential(SIGNED, token))

    def confirm(self, identity: Identity) -> Identity:
        """Who somebody is now who was known before: by what was shown then, perhaps with other roles.

        Raises:
            Unauthenticated: what was shown doesn't count any more, or says somebody else.
        """
        try:
            found = self._ask_again(identity)
        except KeyUnknown as unknown:  # the key was known; what is gone isn't waited for
            raise Unauthenticated(unknown.message) from None
        if found is None or found.user != identity.user:
            raise Unauthenticated("what this client has shown of itself isn't accepted any more")
        return found

    def _ask_again(self, identity: Identity) -> Identity | None:
        shown = identity.credential
        if shown is None:
            return self.anonymous
        if shown.kind == HASHED:
            return self._tokens.get(shown.value)
        if shown.kind == SIGNED and self._verifier is not None:
            return self.identify(shown.value)
        if shown.kind == COOKIE and self.logins is not None:
            return self.logins.confirm(shown.value)
        return None

    def of(
        self, bearer: str | None, ticket: str | None, cookie: str | None = None, network: str = ""
    ) -> Identity | None:
        """Who shows these, from there, of which the first counts; None if that is nothing, and something is asked for.

        Raises:
            KeyUnknown: that may be known in a moment.
            Unauthenticated: what is shown is wrong.
        """
        asks = self.knows_tokens or self.logins is not None
        if asks and bearer is not None:
            return self.identify(bearer)
        if asks and ticket is not None:
            return self.confirm(self._unexpired(self.tickets.redeem(ticket, network)))
        if self.logins is not None and cookie is not None:
            return self.logins.identify(cookie)
        return self.anonymous

    def check(self, identity: Identity) -> None:
        """Check that what proved it holds still, after something was waited for; changed rules are `confirm`'s.

        Raises:
            Unauthenticated: it has expired, or the login was ended.
        """
        self._unexpired(identity)
        if self.logins is not None:
            self.logins.check(identity)

    def _unexpired(self, identity: Identity) -> Identity:
        if identity.is_expired(self._clock.time()):
            raise Unauthenticated("the token is refused: it has expired")
        return identity
