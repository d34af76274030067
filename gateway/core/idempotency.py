"""Keys that make a client's retry harmless: what is published under one key is sent to devices at most once.

The outcome is remembered and given again. Forgotten is only what is known not to have been sent. `upstream_timeout`
leaves open whether the broker has the message; it is remembered too, since sending again might double it: a client that
prefers that takes a new key.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.errors import BadMessage, EngineUnavailable, TidegateError, UpstreamUnavailable
from gateway.core.limit_errors import RateLimited
from gateway.core.upstream import Done

__all__ = ["KEYS", "KEY_SECONDS", "Idempotency"]

KEYS: Final = 10_000
"""How many keys are remembered; with more, the oldest is forgotten."""

KEY_SECONDS: Final = 600.0
"""How long a key is remembered."""

MAXIMUM_WAITING: Final = 100
"""How many may wait for the outcome of one key."""

RETRY_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Attempt:
    """What became of one key."""

    digest: bytes
    started: float
    waiting: list[Done] | None = field(default_factory=list)
    """Who wants to know; None once it is known."""
    outcome: TidegateError | None = None


class Idempotency:
    """The keys of one namespace; each belongs to a room."""

    def __init__(self, clock: Clock, counters: Counters, *, keys: int = KEYS, seconds: float = KEY_SECONDS) -> None:
        self._clock = clock
        self._counters = counters
        self._keys = keys
        self._seconds = seconds
        self._attempts: OrderedDict[tuple[str, str], _Attempt] = OrderedDict()

    def once(self, room: str, key: str, digest: bytes, send: Callable[[Done], None], done: Done) -> None:
        """Call `send` if it is the first time, and `done` once with the outcome, be it of this time or of the first.

        Raises:
            BadMessage: the key was used for other data.
            RateLimited: too many wait for this key.
            Exception: whatever `send` raises; nothing was sent then, and the key is forgotten.
        """
        self._forget_old()
        name = (room, key)
        attempt = self._attempts.get(name)
        if attempt is None:
            self._begin(name, digest, send, done)
        elif attempt.digest != digest:
            raise BadMessage("key: expected a new one for other data, found one that was used in this room")
        elif attempt.waiting is None:
            done(attempt.outcome)
        elif len(attempt.waiting) >= MAXIMUM_WAITING:
            raise RateLimited("too many wait for the outcome of this key", retry_after_seconds=RETRY_SECONDS)
        else:
            attempt.waiting.append(done)

    def _begin(self, name: tuple[str, str], digest: bytes, send: Callable[[Done], None], done: Done) -> None:
        attempt = self._attempts[name] = _Attempt(digest, self._clock.monotonic(), [done])

        def finish(error: TidegateError | None) -> None:
            waiting, attempt.waiting, attempt.outcome = attempt.waiting or [], None, error
            if isinstance(error, (UpstreamUnavailable, EngineUnavailable)):
                self._forget(name, attempt)  # nothing was sent, so it may be tried again
            for one in waiting:
                one(error)

        try:
            send(finish)
        except BaseException:
            self._forget(name, attempt)
            raise
        if len(self._attempts) > self._keys:
            self._attempts.popitem(last=False)
            self._counters.drops["key_evicted"] += 1

    def _forget(self, name: tuple[str, str], attempt: _Attempt) -> None:
        if self._attempts.get(name) is attempt:
            del self._attempts[name]

    def _forget_old(self) -> None:
        before = self._clock.monotonic() - self._seconds
        while self._attempts:
            attempt = next(iter(self._attempts.values()))
            if attempt.started > before:
                return
            self._attempts.popitem(last=False)

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._attempts)
