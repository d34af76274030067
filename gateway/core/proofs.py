"""How long what sessions have shown of themselves holds: one timer for each session that has such a time.

A session that was let in to say who it is has a short while for that; one whose token expires lasts until then, unless
its client shows a newer one. When the rules have changed, what was shown is asked again: what each credential proves
and grants then is found once, however many sessions have it.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from gateway.core import wire
from gateway.core.access import Access, Action, Grants
from gateway.core.clock import Clock, Timer
from gateway.core.counters import Counters
from gateway.core.errors import Forbidden, TidegateError, Unauthenticated
from gateway.core.identity import Credential, Identity
from gateway.core.session import Session

__all__ = ["Confirm", "Proofs"]

SUBSCRIBED_BY_ADDRESS: Final = ("sse", "polling", "raw", "peerjs")
"""Transports whose clients name their rooms as they come, and never others."""

Confirm: TypeAlias = Callable[[Identity], Identity]
"""Who somebody is now who was known before; raises `Unauthenticated`."""


class Proofs:
    """Who the sessions of a namespace are, and until when."""

    def __init__(self, access: Access, patience_seconds: float, clock: Clock, counters: Counters) -> None:
        self._access = access
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._counters = counters
        self._timers: dict[Session, Timer] = {}
        self._confirm: Confirm = _as_before
        self._renewed: dict[Credential | None, Grants | Unauthenticated] = {}
        """What each credential is worth by the newest rules, as far as it was asked since they changed."""

    def reconfigure(self, access: Access, confirm: Confirm) -> None:
        """Let other rules say what may be done and who one is; grants of those before are outdated from now on."""
        self._access.retired = True
        self._access, self._confirm = access, confirm
        self._renewed.clear()

    def settled(self) -> None:
        """No session has outdated grants any more."""
        self._renewed.clear()

    def current(self, grants: Grants) -> Grants:
        """The same grants as the newest rules have them.

        Raises:
            Unauthenticated: nobody is let in any more with what was shown.
        """
        if not grants.outdated:
            return grants
        if grants.identity is None:
            return self._access.of(None)
        credential = grants.identity.credential
        renewed = self._renewed.get(credential)
        if renewed is None:
            renewed = self._renewed[credential] = self._renew(grants.identity)
        if isinstance(renewed, Unauthenticated):
            raise Unauthenticated(renewed.message)
        return renewed

    def _renew(self, identity: Identity) -> Grants | Unauthenticated:
        try:
            return self._access.of(self._confirm(identity))
        except Unauthenticated as error:
            return error

    def follow(self, session: Session, unsubscribe: Callable[[Session, str], None]) -> bool:
        """Let a session have what the newest rules grant, or end it; whether it had something else before."""
        before = session.grants
        if session.ended or not before.outdated:
            return False
        try:
            session.grants = self.current(before)
        except Unauthenticated as error:
            session.end(error)
            return False
        if session.identity is not None:  # who has still to say who it is has no more time for that than before
            self.hold(session)
        self.review(session, unsubscribe)
        return not session.ended

    def hold(self, session: Session) -> None:
        """Let time run for a session, if it has a time."""
        self.forget(session)
        identity = session.identity
        if identity is None:
            error: TidegateError = Unauthenticated(f"expected `auth` with a token within {self._patience_seconds:g} s")
            self._timers[session] = self._clock.call_later(self._patience_seconds, partial(session.end, error))
        elif identity.expires_at is not None:
            wait_seconds = max(0.0, identity.expires_at - self._clock.time())
            self._timers[session] = self._clock.call_later(wait_seconds, partial(self._expire, session, identity))

    def forget(self, session: Session) -> None:
        """Let no time run any more."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, session: Session, identity: Identity) -> None:
        if not identity.is_expired(self._clock.time()):  # the machine's clock was set back
            self.hold(session)
        else:
            what = "token has expired: come back with a new one" if identity.login is None else "login has expired"
            session.end(Unauthenticated(f"the {what}"))

    def renew(self, session: Session, identity: Identity, unsubscribe: Callable[[Session, str], None]) -> None:
        """A session has shown who it is, first or anew; subscriptions that aren't allowed any more end with an error.

        Raises:
            Forbidden: it is somebody else.
        """
        if session.user is not None and identity.user != session.user:
            raise Forbidden(
                f"this session is that of {session.user!r}: expected a token of the same user, or a new connection"
            )
        session.grants = self._access.of(identity)
        self.hold(session)
        self.review(session, unsubscribe)

    def review(self, session: Session, unsubscribe: Callable[[Session, str], None]) -> None:
        """End the subscriptions that a session's grants don't allow (any more), and tell its client of each.

        A stream whose last one ends so is ended, too, and so is a peer: they can't subscribe to others.
        """
        refused: Forbidden | None = None
        for room in tuple(session.rooms):
            try:
                session.grants.check(Action.SUBSCRIBE, room)
            except Forbidden as error:
                refused = error
                unsubscribe(session, room)
                if session.ended:  # its client doesn't read what that told it
                    return
                self._counters.refuse(error)
                session.send("error", wire.encode_error(None, error))
                if session.ended:
                    return
        if refused is not None and not session.rooms and session.transport in SUBSCRIBED_BY_ADDRESS:
            session.end(Forbidden("none of this stream's rooms is allowed any more"))


def _as_before(identity: Identity) -> Identity:
    return identity
