"""How long what sessions have shown of themselves holds: one timer for each session that has such a time.

A session that was let in to say who it is has a short while for that; one whose token expires lasts until then, unless
its client shows a newer one.
"""

from collections.abc import Callable
from functools import partial

from gateway.core import wire
from gateway.core.access import Access, Action
from gateway.core.clock import Clock, Timer
from gateway.core.counters import Counters
from gateway.core.errors import Forbidden, TidegateError, Unauthenticated
from gateway.core.identity import Identity
from gateway.core.session import Session

__all__ = ["Proofs"]


class Proofs:
    """Who the sessions of a namespace are, and until when."""

    def __init__(self, access: Access, patience_seconds: float, clock: Clock, counters: Counters) -> None:
        self._access = access
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._counters = counters
        self._timers: dict[Session, Timer] = {}

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
            session.end(Unauthenticated("the token has expired: come back with a new one"))

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
        """End the subscriptions that a session's grants don't allow (any more), and tell its client of each."""
        for room in tuple(session.rooms):
            try:
                session.grants.check(Action.SUBSCRIBE, room)
            except Forbidden as error:
                unsubscribe(session, room)
                self._counters.refuse(error)
                session.send("error", wire.encode_error(None, error))
