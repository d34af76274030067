"""Who is told that sessions begin and end, in a namespace. Where nobody is, nothing is kept and nothing called."""

from typing import Protocol

from gateway.core.errors import TidegateError
from gateway.core.session import Session

__all__ = ["Arrivals", "Watcher"]


class Watcher(Protocol):
    """Who wants to know."""

    def arrived(self, session: Session) -> None:
        """A session has begun, and it is known who it is."""
        ...

    def left(self, session: Session, error: TidegateError | None) -> None:
        """One of those has ended, with an error if the gateway ended it."""
        ...


class Arrivals:
    """Tells of each session that it is there, once it is known who it is, and then that it is gone."""

    __slots__ = ("_present", "_watchers")

    def __init__(self) -> None:
        self._watchers: tuple[Watcher, ...] = ()
        self._present: set[Session] = set()

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` from now on."""
        self._watchers = (*self._watchers, watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Tell it no more; nothing happens if it isn't told."""
        self._watchers = tuple(each for each in self._watchers if each is not watcher)

    def identified(self, session: Session) -> None:
        """A session is open, or has shown who it is."""
        if self._watchers and session.identity is not None and not session.ended and session not in self._present:
            self._present.add(session)
            for watcher in self._watchers:
                watcher.arrived(session)

    def ended(self, session: Session, error: TidegateError | None) -> None:
        """A session has ended."""
        if session in self._present:
            self._present.discard(session)
            for watcher in self._watchers:
                watcher.left(session, error)
