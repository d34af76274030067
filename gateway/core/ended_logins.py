"""Logins that were ended before their time: their cookies, which somebody may have copied, are refused.

Bounded for each user: beyond, the user's logins that began no later than the one that is forgotten are all refused. So
whoever logs in and out without end has to log in anew, and nobody else has.
"""

from dataclasses import dataclass, field
from typing import Final

from gateway.core.clock import Clock
from gateway.core.identity import Login

__all__ = ["MAXIMUM_ENDED", "EndedLogins"]

MAXIMUM_ENDED: Final = 100
"""How many are known one by one, of one user."""


@dataclass(slots=True)
class _Ended:
    logins: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By id, when each began and until when its cookies could hold."""
    none_before: float = float("-inf")
    """Logins that began then or earlier have ended."""


class EndedLogins:
    """Remembers them until their cookies have expired anyway. There are no more entries than users."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._users: dict[str, _Ended] = {}

    def __len__(self) -> int:
        """How many logins are known one by one."""
        return sum(len(ended.logins) for ended in self._users.values())

    def add(self, user: str, login: Login, until: float) -> None:
        """A login has ended; its cookies could hold until then, in seconds since the Unix epoch."""
        ended = self._users.setdefault(user, _Ended())
        now = self._clock.time()
        ended.logins = {each: times for each, times in ended.logins.items() if times[1] > now}
        ended.logins[login.id] = (login.since, until)
        while len(ended.logins) > MAXIMUM_ENDED:
            earliest = min(ended.logins, key=lambda each: ended.logins[each][0])
            ended.none_before = max(ended.none_before, ended.logins.pop(earliest)[0])

    def has(self, user: str, login: Login) -> bool:
        """Whether a login has ended."""
        ended = self._users.get(user)
        return ended is not None and (login.since <= ended.none_before or login.id in ended.logins)
