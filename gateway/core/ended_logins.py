"""Logins that were ended before their time: their cookies, which somebody may have copied, are refused.

Bounded for each user: beyond, the user's logins that began no later than the one that is forgotten are all refused. So
whoever logs in and out without end has to log in anew, and nobody else has. Nodes that share them know the same.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.core.clock import Clock
from gateway.core.identity import Login

__all__ = ["MAXIMUM_ENDED", "Ended", "EndedLogins"]

MAXIMUM_ENDED: Final = 100
"""How many are known one by one, of one user."""


class Ended(NamedTuple):
    """A login that has ended; without an id, all of a user that began no later."""

    user: str
    id: str | None
    since: float
    """When it began, in seconds since the Unix epoch."""
    until: float
    """Until when its cookies could hold."""


@dataclass(slots=True)
class _OfUser:
    logins: dict[str, Ended] = field(default_factory=dict)
    """By id."""
    none_before: Ended | None = None
    """Those that began so early have ended."""


class EndedLogins:
    """Remembers them until their cookies have expired anyway. There are no more entries than users."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._users: dict[str, _OfUser] = {}
        self.told: Callable[[list[Ended], list[Ended]], None] | None = None
        """Called when one has ended here, with what is to be known now, and what needn't be any more."""
        self.prolonged: Callable[[str, Login, float], None] | None = None
        """Called when one of a user, which hasn't ended, lasts until then by what was done here."""
        self.learn: Callable[[], Awaitable[None]] | None = None
        """What is to be awaited before any login is believed; None if all is known that other nodes know."""

    def __len__(self) -> int:
        """How many logins are known one by one."""
        return sum(len(ended.logins) for ended in self._users.values())

    def add(self, user: str, login: Login, until: float) -> None:
        """A login has ended here; its cookies could hold until then, in seconds since the Unix epoch."""
        known, new = set(self._of(user)), Ended(user, login.id, login.since, until)
        self.hear(new)
        if self.told is not None:
            knows = set(self._of(user))
            self.told(list(knows - known), list(known - knows))

    def hear(self, ended: Ended) -> bool:
        """A login has ended, here or elsewhere; whether that is news."""
        of_user = self._users.setdefault(ended.user, _OfUser())
        if ended.id is None:
            of_user.none_before = _wider(of_user.none_before, ended)
            return False
        if of_user.logins.get(ended.id) == ended:
            return False
        now = self._clock.time()
        of_user.logins = {each: known for each, known in of_user.logins.items() if known.until > now}
        of_user.logins[ended.id] = ended
        while len(of_user.logins) > MAXIMUM_ENDED:
            earliest = min(of_user.logins.values(), key=lambda each: each.since)
            del of_user.logins[earliest.id or ""]
            of_user.none_before = _wider(of_user.none_before, earliest._replace(id=None))
        return True

    def _of(self, user: str) -> Iterator[Ended]:
        of_user = self._users.get(user, _OfUser())
        yield from of_user.logins.values()
        if of_user.none_before is not None:
            yield of_user.none_before

    def all(self) -> Iterator[Ended]:
        """All that is known."""
        for user in self._users:
            yield from self._of(user)

    def has(self, user: str, login: Login) -> bool:
        """Whether a login has ended."""
        of_user = self._users.get(user)
        if of_user is None:
            return False
        before = of_user.none_before
        return login.id in of_user.logins or (before is not None and login.since <= before.since)


def _wider(before: Ended | None, another: Ended) -> Ended:
    """What has ended by either of them."""
    if before is None:
        return another
    return another._replace(since=max(before.since, another.since), until=max(before.until, another.until))
