"""The one source of time. Everything that waits or expires asks a `Clock`, so that tests never sleep."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Clock", "SystemClock", "Timer"]


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Let it not come; nothing happens if it has come already."""
        ...


class Clock(Protocol):
    """Time as the rules see it."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        ...

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def call_later(self, delay_seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back once, in so many seconds."""
        ...


class SystemClock:
    """The machine's own clock; calls come in the running event loop."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    def call_later(self, delay_seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back once, in so many seconds."""
        return asyncio.get_running_loop().call_later(delay_seconds, callback)
