"""Sessions that use nothing: one timer for each WebSocket, which asks now and then when it was last of use.

A session is of use while it has a subscription or waits for a device's answer, and for `limits.idle_seconds` after its
client has sent something. Answers to the gateway's own pings say only that somebody is there.
"""

from collections.abc import Callable
from functools import partial

from gateway.core.clock import Clock, Timer
from gateway.core.limit_errors import Idle
from gateway.core.session import Session

__all__ = ["IdleWatch"]


class IdleWatch:
    """Ends the sessions of a namespace that are of no use.

    Args:
        waits: Whether a session waits for an answer.
    """

    def __init__(self, waits: Callable[[Session], bool], clock: Clock) -> None:
        self._waits = waits
        self._clock = clock
        self._timers: dict[Session, Timer] = {}

    def hold(self, session: Session) -> None:
        """Watch a session from now on, by the limits that it has now. Streams are always of use."""
        self.forget(session)
        idle_seconds = session.limits.idle_seconds
        if session.transport == "websocket" and not session.ended and idle_seconds is not None:
            self._look_in(session, idle_seconds, idle_seconds)

    def forget(self, session: Session) -> None:
        """Watch it no more."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    def _look(self, session: Session, idle_seconds: float) -> None:
        self._timers.pop(session, None)
        if session.rooms or self._waits(session):
            self._look_in(session, idle_seconds, idle_seconds)
            return
        left_seconds = session.budget.used + idle_seconds - self._clock.monotonic()
        if left_seconds > 0:
            self._look_in(session, left_seconds, idle_seconds)
        else:
            session.end(Idle(f"nothing was sent, and nothing subscribed to, for {idle_seconds:g} s"))

    def _look_in(self, session: Session, left_seconds: float, idle_seconds: float) -> None:
        self._timers[session] = self._clock.call_later(left_seconds, partial(self._look, session, idle_seconds))

    def __len__(self) -> int:
        """How many are watched."""
        return len(self._timers)
