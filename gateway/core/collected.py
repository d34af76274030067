"""One answer to a caller from several that it waits for."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.errors import TidegateError

__all__ = ["Collected"]


@dataclass(slots=True)
class Collected:
    """Calls `done` once, after so many calls of `one`: with the first error that came, if any."""

    waiting: int
    done: Callable[[TidegateError | None], None]
    error: TidegateError | None = None

    def one(self, error: TidegateError | None) -> None:
        """One of them has come."""
        self.error = self.error or error
        self.waiting -= 1
        if not self.waiting:
            self.done(self.error)
