"""How often passwords may be tried: after some failures each further try has to wait, twice as long as the one before.

Counted three ways. What one address does to one user counts in full. So does what an address does to all users, after
more failures, since several people may sit behind one. What all addresses do to one user makes tries wait for a little
only, so that nobody locks anybody else out; and an address from which the user has logged in doesn't wait for that.

A try counts as failed from its beginning until it has succeeded, so that many at once gain nothing. One that is refused
for having come too early doesn't count: who waits is let try. Nodes count together, and know together who has logged in
from where.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.clock import Clock
from gateway.core.limit_errors import RateLimited
from gateway.core.limits import Spent
from gateway.core.shared_limits import SharedLimits, shared_key

__all__ = ["MAXIMUM_ENTRIES", "USER_DELAY_SECONDS", "WIDER", "Attempt", "LoginAttempts", "LoginLimits"]

MAXIMUM_ENTRIES: Final = 10_000
"""Of each way to count, and of known addresses; beyond, the one that failed (or logged in) longest ago is forgotten."""
WIDER: Final = 4
"""How many times as many failures are free to one address with any user, and to one user from any address."""
USER_DELAY_SECONDS: Final = 5.0
"""The longest that a try waits for what other addresses did to its user."""
DOUBLINGS: Final = 60
"""After so many the delay is the longest, whatever the settings are."""


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """How many failures are free, and how long the next tries wait."""

    failures: int = 5
    delay_seconds: float = 1.0
    delay_max_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A password that is being tried."""

    user: str
    network: str
    at: float
    before: tuple[float, float, float]
    """When the failures before it were, each way it is counted."""


class _Failures:
    """Failures by some key: how many, and when the last one was. Those long ago are forgotten."""

    def __init__(
        self, free: int, first_seconds: float, longest_seconds: float, memory_seconds: float, clock: Clock
    ) -> None:
        self._clock = clock
        self._failed: Spent | None = None
        self._free = free
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._memory_seconds = memory_seconds
        self._found: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """In the order of the last failure, about."""

    def __len__(self) -> int:
        return len(self._found)

    def share(self, name: str, shared: SharedLimits) -> None:
        self._failed = shared.rate(name, self._free, self._memory_seconds, self._hear)

    def _hear(self, key: str, failures: float) -> None:
        """So many more were elsewhere; less than 0 if they were none after all."""
        now = self._clock.monotonic()
        count, at = self._found.pop(key, (0, now))
        count += round(failures)
        if count > 0:
            self._put(key, count, now if failures > 0 else at)

    def wait_seconds(self, key: str, now: float) -> float:
        self._forget_old(now)
        count, at = self._found.get(key, (0, now))
        if count < self._free:
            return 0.0
        delay = self._first_seconds * 2.0 ** min(count - self._free, DOUBLINGS)
        return max(0.0, at + min(delay, self._longest_seconds) - now)

    def add(self, key: str, now: float) -> float:
        """Count one more; when the one before was."""
        count, before = self._found.pop(key, (0, now))
        self._put(key, count + 1, now)
        if self._failed is not None:
            self._failed(key, 1)
        return before

    def _put(self, key: str, count: int, at: float) -> None:
        self._found[key] = (count, at)
        if len(self._found) > MAXIMUM_ENTRIES:
            self._found.popitem(last=False)

    def take_back(self, key: str, at: float, before: float) -> None:
        """The one of then was none."""
        if self._failed is not None:
            self._failed(key, -1)
        count, latest = self._found.get(key, (0, at))
        if count > 1:
            self._found[key] = (count - 1, before if latest == at else latest)
        else:
            self._found.pop(key, None)

    def forgive(self, key: str) -> None:
        """All that there were count no more."""
        count, _ = self._found.pop(key, (0, 0.0))
        if self._failed is not None:
            self._failed(key, -count)

    def _forget_old(self, now: float) -> None:
        while self._found and next(iter(self._found.values()))[1] <= now - self._memory_seconds:
            self._found.popitem(last=False)


class LoginAttempts:
    """Who may try a password now. Networks are those of `addresses.network_of`."""

    def __init__(self, limits: LoginLimits, clock: Clock) -> None:
        free, first, longest = limits.failures, limits.delay_seconds, limits.delay_max_seconds
        self._clock = clock
        self._pairs = _Failures(free, first, longest, 2 * longest, clock)
        self._networks = _Failures(free * WIDER, first, longest, 2 * longest, clock)
        self._users = _Failures(free * WIDER, first, min(longest, USER_DELAY_SECONDS), 2 * longest, clock)
        self._known: OrderedDict[str, None] = OrderedDict()
        """Users with networks from which they have logged in."""
        self._note: Callable[[str, Any], None] | None = None

    def share(self, shared: SharedLimits) -> None:
        """Count together with other nodes."""
        self._pairs.share("failed_logins/pairs", shared)
        self._networks.share("failed_logins/addresses", shared)
        self._users.share("failed_logins/users", shared)
        self._note = shared.notes("known_logins", lambda pair, _: self._trust(pair), self._trusted)

    def _trusted(self) -> Iterator[tuple[str, Any]]:
        for pair in self._known:
            yield pair, True

    def _trust(self, pair: str) -> None:
        """A user has logged in from a network."""
        self._known[pair] = None
        self._known.move_to_end(pair)
        if len(self._known) > MAXIMUM_ENTRIES:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        """How many entries are kept, in all."""
        return len(self._pairs) + len(self._networks) + len(self._users) + len(self._known)

    def begin(self, user: str, network: str) -> Attempt:
        """A password is about to be tried. Say then what came of it, unless it failed.

        Raises:
            RateLimited: too early; it says when to try again.
        """
        now, user = self._clock.monotonic(), shared_key(user)
        pair = _pair(user, network)
        waits = [self._pairs.wait_seconds(pair, now), self._networks.wait_seconds(network, now)]
        if pair not in self._known:
            waits.append(self._users.wait_seconds(user, now))
        wait_seconds = max(waits)
        if wait_seconds > 0:
            raise RateLimited(
                "too many logins failed: expected the next one later",
                retry_after_seconds=math.ceil(wait_seconds * 1000) / 1000,
                limit="failed_logins",
            )
        before = (self._pairs.add(pair, now), self._networks.add(network, now), self._users.add(user, now))
        return Attempt(user, network, now, before)

    def succeeded(self, attempt: Attempt) -> None:
        """The password was right: what the user did wrong from there is forgotten, what others did isn't."""
        self.withdraw(attempt)
        pair = _pair(attempt.user, attempt.network)
        self._pairs.forgive(pair)
        self._trust(pair)
        if self._note is not None:
            self._note(pair, True)

    def withdraw(self, attempt: Attempt) -> None:
        """The password wasn't looked at."""
        of_pair, of_network, of_user = attempt.before
        self._pairs.take_back(_pair(attempt.user, attempt.network), attempt.at, of_pair)
        self._networks.take_back(attempt.network, attempt.at, of_network)
        self._users.take_back(attempt.user, attempt.at, of_user)


def _pair(user: str, network: str) -> str:
    return f"{network} {user}"
