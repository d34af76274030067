"""What is to be done for every session once the rules have changed: a few at a time, so that nobody waits for it.

Sessions that come meanwhile need no review, and those that ask for something don't wait for theirs: see `Namespace`.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final

from gateway.core.clock import Clock
from gateway.core.errors import InternalError
from gateway.core.session import Session

__all__ = ["Review"]

SLICE_SECONDS: Final = 0.005
"""For about so long sessions are reviewed before others have their turn."""
SLICE_SESSIONS: Final = 100
"""And no more than these."""

logger = logging.getLogger(__name__)


class Review:
    """Calls `each` for every session, then `finished`."""

    def __init__(self, each: Callable[[Session], None], finished: Callable[[], None], clock: Clock) -> None:
        self._each = each
        self._finished = finished
        self._clock = clock
        self._waiting: list[Session] = []
        self._scheduled = False

    def start(self, sessions: Iterable[Session]) -> None:
        """Begin, or begin anew."""
        self._waiting = list(sessions)
        if not self._scheduled:
            self._go_on()

    def _go_on(self) -> None:
        self._scheduled = False
        end = self._clock.monotonic() + SLICE_SECONDS
        for _ in range(SLICE_SESSIONS):
            if not self._waiting:
                self._finished()
                return
            self.one(self._waiting.pop())
            if self._clock.monotonic() >= end:
                break
        self._scheduled = True
        self._clock.call_later(0, self._go_on)

    def one(self, session: Session) -> None:
        """Review one session; if that fails, it ends."""
        try:
            self._each(session)
        except Exception:
            logger.exception("session %s could not be reviewed; it ends", session.id)
            session.end(InternalError("the gateway failed to apply changed rules; its log says why"))
