"""Sessions that use nothing: each connection both ways is looked at now and then, and asked when it was last of use.

A session is of use while it has a subscription or waits for a device's answer, and for `limits.idle_seconds` after its
client has sent something. Answers to the gateway's own pings say only that somebody is there.
"""

from collections.abc import Callable

from gateway.core.clock import Clock
from gateway.core.limit_errors import Idle
from gateway.core.session import Session
from gateway.core.wheel import Wheel

__all__ = ["IdleWatch"]


class IdleWatch:
    """Ends the sessions of a namespace that are of no use.

    Args:
        waits: Whether a session waits for an answer.
    """

    def __init__(self, waits: Callable[[Session], bool], clock: Clock) -> None:
        self._waits = waits
        self._clock = clock
        self._wheel: Wheel[Session] = Wheel(clock, self._look)

    def hold(self, session: Session) -> None:
        """Watch a session from now on, by the limits that it has now. Streams are always of use."""
        idle_seconds = session.limits.idle_seconds
        if session.transport in ("websocket", "socketio") and not session.ended and idle_seconds is not None:
            self._wheel.add(session, idle_seconds)
        else:
            self.forget(session)

    def forget(self, session: Session) -> None:
        """Watch it no more."""
        self._wheel.discard(session)

    def _look(self, session: Session) -> None:
        idle_seconds = session.limits.idle_seconds
        if idle_seconds is None:
            return
        if session.rooms or self._waits(session):
            self._wheel.add(session, idle_seconds)
            return
        left_seconds = session.budget.used + idle_seconds - self._clock.monotonic()
        if left_seconds > 0:
            self._wheel.add(session, left_seconds)
        else:
            session.end(Idle(f"nothing was sent, and nothing subscribed to, for {idle_seconds:g} s"))

    def __len__(self) -> int:
        """How many are watched."""
        return len(self._wheel)
