"""Which upstreams are away, and that every session hears of it: `upstream{name, state}`, without reasons.

Reasons name hosts and users; they are for the operator, in the log and in `/readyz`.
"""

from collections.abc import Mapping

from gateway.core import wire
from gateway.core.session import Session

__all__ = ["UpstreamStates"]


class UpstreamStates:
    """What sessions are told of upstreams."""

    __slots__ = ("_away", "_sessions")

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        self._sessions = sessions
        self._away: dict[str, None] = {}

    def changed(self, name: str, up: bool) -> None:
        """An upstream is up, or away; every session is told, unless it knows already."""
        if up is (name not in self._away):
            return
        if up:
            del self._away[name]
        else:
            self._away[name] = None
        notice = _notice(name, up)
        for session in tuple(self._sessions.values()):
            if session.identity is not None:
                session.send("upstream", notice)

    def tell(self, session: Session) -> None:
        """Tell a session that has just been welcomed which upstreams are away."""
        for name in self._away:
            session.send("upstream", _notice(name, up=False))


def _notice(name: str, up: bool) -> bytes:
    return wire.encode("upstream", name=name, state="up" if up else "down")
