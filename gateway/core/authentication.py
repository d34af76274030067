"""From what a client shows to who it is: API tokens by their hashes, other tokens by a `Verifier`, tickets, cookies.

API tokens are kept as plain SHA-256: they are 256 bits of randomness, which nobody guesses however fast the hash is; a
slow hash, as passwords need, would let anybody keep the gateway busy. To find one by its hash tells an attacker nothing
by the time that takes. What is wrong is never taken for nothing: who shows a bad token isn't anonymous.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from random import Random
from typing import Final, Protocol

from gateway.core.clock import Clock
from gateway.core.errors import Unauthenticated
from gateway.core.identity import ANONYMOUS, Credential, Identity
from gateway.core.logins import COOKIE, Logins
from gateway.core.tickets import Tickets

__all__ = ["Authentication", "KeyUnknown", "Undecided", "Verifier", "hash_token", "make_token"]

PREFIX: Final = "tg_"
"""What API tokens begin with, so that scanners for leaked secrets can know them."""
HASHED: Final = "hashed"
"""The kind of a credential that is an API token: of the value, the hash is kept."""
SIGNED: Final = "signed"
"""The kind of one that the verifier reads."""


class Undecided(Unauthenticated):
    """What is shown can't be judged yet. Who awaits `renew`, which may refuse it, may show it again, once."""

    def __init__(self, message: str, renew: Callable[[], Awaitable[None]]) -> None:
        super().__init__(message)
        self.renew = renew


class KeyUnknown(Undecided):
    """A token can't be verified yet: its key is about to be asked for."""


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
            if self.tickets.may_be_elsewhere(ticket):
                raise Undecided("it isn't known yet whose ticket that is", partial(self._fetch, ticket))
            self._check_knows_ended()
            return self.confirm(self._unexpired(self.tickets.redeem(ticket, network)))
        if self.logins is not None and cookie is not None:
            self._check_knows_ended()
            return self.logins.identify(cookie)
        return self.anonymous

    def _check_knows_ended(self) -> None:
        """Check that it is known which logins have ended.

        Raises:
            Undecided: other nodes know.
        """
        if self.logins is not None and self.logins.learn_ended is not None:
            raise Undecided("it isn't known yet which logins have ended", self.logins.learn_ended)

    async def _fetch(self, ticket: str) -> None:
        """Have a ticket here that another node has issued, and know what is needed to judge it.

        Raises:
            Unauthenticated: there is none.
            EngineUnavailable: it can't be known which logins have ended.
        """
        if self.logins is not None and self.logins.learn_ended is not None:
            await self.logins.learn_ended()
        shown = (await self.tickets.fetch(ticket)).credential
        if shown is not None and shown.kind == SIGNED:
            try:
                self.identify(shown.value)
            except KeyUnknown as unknown:
                await unknown.renew()
            except Unauthenticated:
                pass  # which `of` will say

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
