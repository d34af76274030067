"""Events that one client is to acknowledge to another: who asked whom, by number, and until when.

The number stands in the message that carries the event, and is the acknowledgement's in the receiver's packet. What is
answered by anybody else than the one who was asked goes nowhere.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final

from gateway.core.clock import Clock, Timer
from gateway.core.errors import BadMessage, RequestTimeout, TidegateError
from gateway.core.limit_errors import TooManyRequests
from gateway.core.session import Session

__all__ = ["Answers"]

DEFAULT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Asked:
    asker: str
    receiver: str
    done: Callable[[list[Any] | TidegateError], None]
    timer: Timer


class Answers:
    """What is waited for in one namespace; an asker has at most `limits.requests_in_flight` of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = count(1)
        self._asked: dict[int, _Asked] = {}
        self._by_asker: Counter[str] = Counter()

    def expect(
        self,
        asker: Session,
        receiver: str,
        timeout_seconds: object,
        done: Callable[[list[Any] | TidegateError], None],
    ) -> int:
        """The number of an event that `receiver` is to acknowledge; `done` is called once, unless it is forgotten.

        Raises:
            BadMessage: the time-out is none.
            TooManyRequests: the asker waits for too many.
        """
        limits = asker.limits
        if timeout_seconds is None:
            timeout_seconds = min(DEFAULT_SECONDS, limits.request_timeout_max_seconds)
        most = limits.request_timeout_max_seconds
        if type(timeout_seconds) not in (int, float) or not 0 < timeout_seconds <= most:  # type: ignore[operator]
            raise BadMessage(f"timeout_seconds: expected a number of seconds above 0, of at most {most:g}")
        if self._by_asker[asker.id] >= limits.requests_in_flight:
            raise TooManyRequests(f"too many requests: expected at most {limits.requests_in_flight} under way")
        number = next(self._numbers)
        late = RequestTimeout(f"the client did not acknowledge within {timeout_seconds:g} s")
        timer = self._clock.call_later(float(timeout_seconds), partial(self._settle, number, late))  # type: ignore[arg-type]
        self._asked[number] = _Asked(asker.id, receiver, done, timer)
        self._by_asker[asker.id] += 1
        return number

    def expects(self, number: int, asker: str) -> bool:
        """Whether this session waits for an answer of this number."""
        asked = self._asked.get(number)
        return asked is not None and asked.asker == asker

    def take(self, number: int, receiver: str, answer: list[Any]) -> None:
        """A session has acknowledged something."""
        asked = self._asked.get(number)
        if asked is not None and asked.receiver == receiver:
            self._settle(number, answer)

    def forget(self, number: int) -> None:
        """Wait for an answer no more."""
        asked = self._asked.pop(number, None)
        if asked is not None:
            asked.timer.cancel()
            self._by_asker[asked.asker] -= 1
            if not self._by_asker[asked.asker]:
                del self._by_asker[asked.asker]

    def left(self, session: str) -> None:
        """A session is over: it waits for nothing, and answers nothing."""
        for number, asked in tuple(self._asked.items()):
            if asked.asker == session:
                self.forget(number)
            elif asked.receiver == session:
                self._settle(number, RequestTimeout("the client left without having acknowledged"))

    def _settle(self, number: int, answer: list[Any] | TidegateError) -> None:
        asked = self._asked[number]
        self.forget(number)
        asked.done(answer)

    def __len__(self) -> int:
        """How many are waited for."""
        return len(self._asked)
