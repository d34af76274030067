"""The certificate that the gateway shows, renewed while it runs: later handshakes see the new one, connections stay."""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

from gateway.config.certificates import server_context

__all__ = ["Certificates"]

logger = logging.getLogger(__name__)

CHECK_SECONDS: Final = 2.0
"""How often the files are looked at."""

_State = tuple[tuple[int, int, int], ...]


class Certificates:
    """Certificate and key in files.

    Each new pair gets a context of its own, to which handshakes are handed over: a context that takes another
    certificate would be without a matching key in between, and would keep the old one beside it if the kinds of their
    keys differ.

    Args:
        files: Certificate and key.

    Raises:
        ValueError: they can't be used.
    """

    def __init__(self, files: tuple[Path, Path]) -> None:
        self._certificate, self._key = files
        self._seen = self._look()
        self._newest = self.context = server_context(*files)
        self.context.sni_callback = self._hand_over

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:  # noqa: ARG002
        """Called in each handshake, whether the client names a server or not (RFC 6066 §3)."""
        connection.context = self._newest

    async def watch(self, check_seconds: float = CHECK_SECONDS) -> None:
        """Look at the files again and again, and take what is new and good. Never returns."""
        while True:
            await asyncio.sleep(check_seconds)
            await asyncio.to_thread(self.check)

    def check(self) -> None:
        """Take the files if they have changed. What is bad is logged once, and the old certificate stays in use."""
        state = self._look()
        if state == self._seen:
            return
        try:
            newest = server_context(self._certificate, self._key)
        except ValueError as error:
            logger.warning("the new certificate in %s is not used, the old one stays: %s", self._certificate, error)
        else:
            self._newest = newest
            logger.info("new connections see the new certificate in %s", self._certificate)
        self._seen = state

    def _look(self) -> _State:
        """What changes when a file does; a file that can't be seen looks like no other."""
        return tuple(_identity(path) for path in (self._certificate, self._key))


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_ino, found.st_size
