"""Files that are looked at again and again: what counts is a change that is over.

Editors and deployments write in steps: they truncate a file and then fill it, or put another in its place. So a change
is told of only when the files have looked the same twice in a row.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

__all__ = ["CHECK_SECONDS", "FileWatch"]

CHECK_SECONDS: Final = 1.0
"""How often the files are looked at."""

_State: TypeAlias = tuple[tuple[Path, int, int, int], ...]


class FileWatch:
    """Looks at files, without reading them.

    Args:
        files: Says which; asked each time.
    """

    def __init__(self, files: Callable[[], Iterable[Path]], check_seconds: float = CHECK_SECONDS) -> None:
        self._files = files
        self._check_seconds = check_seconds
        self._known = self._last = self._look()
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Let `changed` return at once, whether there is a change or not."""
        self._asked.set()

    async def changed(self) -> bool:
        """Wait until the files have changed and the change is over, or until `ask`; whether it was that."""
        while True:
            try:
                async with asyncio.timeout(self._check_seconds):
                    await self._asked.wait()
            except TimeoutError:
                if await asyncio.to_thread(self.settled):
                    return False
            else:
                self._asked.clear()
                await asyncio.to_thread(self.accept)
                return True

    def settled(self) -> bool:
        """Look once: whether the files have changed and look as they did the last time. A change is told of once."""
        state = self._look()
        settled = state == self._last != self._known
        self._last = state
        if settled:
            self._known = state
        return settled

    def accept(self) -> None:
        """Take the files as they are now for known."""
        self._known = self._last = self._look()

    def reconsider(self) -> None:
        """Other files count from now on, as they are now; what is known of those that counted before stays."""
        now = self._look()

        def with_others(known: _State) -> _State:
            before = {entry[0]: entry for entry in known}
            return tuple(before.get(entry[0], entry) for entry in now)

        self._known, self._last = with_others(self._known), with_others(self._last)

    def is_unchanged(self) -> bool:
        """Whether the files still look as they did when the last change was told of, or accepted."""
        return self._look() == self._known

    def _look(self) -> _State:
        """What changes when a file does; a file that can't be seen looks like no other."""
        return tuple((path, *_identity(path)) for path in dict.fromkeys(self._files()))


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_ino, found.st_size
