"""Who owns what only one node may have at a time: a lease in a store that all nodes share, as one of them sees it.

The store counts the time; the node judges by its own clock whether it still holds the lease, reckoning from the moment
at which it asked, so it stops before the store gives the lease to another. A node that was paused may learn too late
that its time is over: so each grant has a token, larger than all before it, under which the owner acts, and what comes
under an older one than has been seen is refused where it is stored. Nothing here awaits: the store calls back, the
clock wakes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

from gateway.core.clock import Clock, Timer

__all__ = ["Granted", "Lease", "LeaseStore", "Taken"]

RENEW: Final = 1 / 3
"""After which part of its time a lease is renewed."""
RETRY: Final = 1 / 6
"""After which part of a lease's time the store is asked again that didn't answer."""
EXPIRY_SECONDS: Final = 0.005
"""How long after its end, as far as is known, another node's lease is asked for: the store counts milliseconds."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease is this node's."""

    token: int
    """Larger than all before."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The lease is another node's."""

    holder: str
    token: int
    seconds: float
    """How long it is so, if it isn't renewed."""


class LeaseStore(Protocol):
    """Where leases are kept, on behalf of one node; its answers come in the order of the questions."""

    def acquire(self, name: str, least: int, done: Callable[[Granted | Taken | None], None]) -> None:
        """Take a lease that is free, or this node's own anew, with a token above `least`.

        `done` is called once, with None if there is no answer.
        """
        ...

    def renew(self, name: str, token: int, done: Callable[[bool | None], None]) -> None:
        """Let a lease last for its whole time again; False if it isn't that of this token any more."""
        ...

    def follow(self, name: str, hurry: Callable[[], None]) -> None:
        """Call back when a lease was given back, and when the store can be reached again."""
        ...

    def unfollow(self, name: str) -> None:
        """Don't, any more."""
        ...

    def release(self, name: str, token: int) -> None:
        """Give a lease back, and tell all nodes that wait for it; nothing happens if it is of another token."""
        ...


Gained: TypeAlias = Callable[[int], None]
"""Is told the token."""
Lost: TypeAlias = Callable[[str], None]
"""Is told why: whatever the lease is needed for has to end before it returns."""


class Lease:
    """One lease, which this node may hold."""

    def __init__(self, name: str, seconds: float, store: LeaseStore, clock: Clock, gained: Gained, lost: Lost) -> None:
        self.name = name
        self.token: int | None = None
        """Under which this node owns it; None while it doesn't."""
        self.holder: str | None = None
        """The other node that was seen to hold it last."""
        self._seconds = seconds
        self._store = store
        self._clock = clock
        self._gained = gained
        self._lost = lost
        self._wanted = False
        self._until = 0.0
        self._not_before = 0.0
        """Until when it is left to others."""
        self._highest = 0
        """The highest token seen: a store that lost its data must not give a lower one."""
        self._asking = False
        """Whether an answer to `acquire` is still to come: a second grant would undo the first."""
        self._timer: Timer | None = None

    @property
    def held(self) -> bool:
        """Whether this node holds it at this moment, by its own clock."""
        return self.token is not None and self._clock.monotonic() < self._until

    def seek(self) -> None:
        """Take it as soon as it is free, from now on."""
        if not self._wanted:
            self._wanted = True
            self._store.follow(self.name, self.hurry)
            self.hurry()

    def rest(self) -> None:
        """Don't take it from now on; if it is held, it stays so."""
        self._wanted = False

    def hurry(self) -> None:
        """Ask now, since it may have become free or the store can be reached again; unless it is left to others."""
        if self.token is not None and not self.held:
            self._lose(f"it couldn't be renewed for {self._seconds:g} s")
        if self.token is not None or (self._wanted and self._clock.monotonic() >= self._not_before):
            self._ask()

    def resign(self) -> None:
        """Give it back for good; whoever calls has ended what it was needed for."""
        self._wanted = False
        self._store.unfollow(self.name)
        self._cancel()
        token, self.token = self.token, None
        if token is not None:
            self._store.release(self.name, token)

    def give_up(self, reason: str, above: int = 0) -> None:
        """Lose it, for another to have, and seek it again after a while; `above` is a token seen elsewhere."""
        self._highest = max(self._highest, above)
        token = self.token
        if token is None:
            return
        self._lose(reason)
        self._store.release(self.name, token)
        self._not_before = self._clock.monotonic() + self._seconds * RENEW
        if self._wanted:
            self._wake_in(self._seconds * RENEW)

    def _ask(self) -> None:
        now = self._clock.monotonic()
        self._wake_in(self._seconds * RETRY)
        if self.token is not None:
            self._store.renew(self.name, self.token, partial(self._renewed, now, self.token))
        elif not self._asking:
            self._asking = True
            self._store.acquire(self.name, self._highest, partial(self._acquired, now))

    def _acquired(self, asked: float, answer: Granted | Taken | None) -> None:
        self._asking = False
        if isinstance(answer, Taken):
            self.holder = answer.holder
        if answer is not None:
            self._highest = max(self._highest, answer.token)
        if not self._wanted:
            if isinstance(answer, Granted):
                self._store.release(self.name, answer.token)
        elif isinstance(answer, Taken):
            self._wake_in(min(answer.seconds, self._seconds) + EXPIRY_SECONDS)
        elif answer is not None and self._clock.monotonic() >= asked + self._seconds:
            self._ask()  # so late that it may be another's by now
        elif answer is not None:
            self.token, self._until, self.holder = answer.token, asked + self._seconds, None
            self._wake_in(asked + self._seconds * RENEW - self._clock.monotonic())
            self._gained(answer.token)

    def _renewed(self, asked: float, token: int, answer: bool | None) -> None:
        if token != self.token or answer is None:
            return
        if answer:
            self._until = max(self._until, asked + self._seconds)
            self._wake_in(asked + self._seconds * RENEW - self._clock.monotonic())
        else:
            self._lose("it isn't this node's any more")
            self.hurry()

    def _wake_in(self, seconds: float) -> None:
        """Ask again then; or find that it is lost, if that comes first."""
        self._cancel()
        if self.token is not None:
            seconds = min(seconds, self._until - self._clock.monotonic())
        self._timer = self._clock.call_later(max(0.0, seconds), self.hurry)

    def _lose(self, reason: str) -> None:
        self._cancel()
        self.token = None
        self._lost(reason)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
