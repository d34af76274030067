"""SIGHUP: an operator's word for "read your configuration anew", and a terminal's for "I am gone"."""

import asyncio
import os
import signal
from collections.abc import Callable

__all__ = ["Terminal", "on_hangup"]


class Terminal:
    """The terminal that this process was started on, if it was on one."""

    def __init__(self) -> None:
        self._was_there = _has_terminal()

    @property
    def is_gone(self) -> bool:
        """Whether it was closed."""
        return self._was_there and not _has_terminal()


def on_hangup(reload: Callable[[], None], end: Callable[[], None]) -> None:
    """From now on let SIGHUP call `reload`; or `end`, if the terminal it was started on is gone."""
    terminal = Terminal()

    def hung_up() -> None:
        if terminal.is_gone:
            end()
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)


def _has_terminal() -> bool:
    """Whether a standard stream is a terminal; one whose other side is gone is none any more."""
    return any(os.isatty(descriptor) for descriptor in (0, 1, 2))
