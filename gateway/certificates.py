"""The certificate that the gateway shows, renewed while it runs: later handshakes see the new one, connections stay."""

import asyncio
import logging
import ssl
from pathlib import Path

from gateway.config.certificates import server_context
from gateway.file_watch import FileWatch

__all__ = ["Certificates"]

logger = logging.getLogger(__name__)


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
        self._watch = FileWatch(lambda: files)
        self._newest = self.context = server_context(*files)
        self.context.sni_callback = self._hand_over

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:  # noqa: ARG002
        """Called in each handshake, whether the client names a server or not (RFC 6066 §3)."""
        connection.context = self._newest

    async def watch(self) -> None:
        """Take the files each time that they have changed. Never returns."""
        while True:
            await self._watch.changed()
            await asyncio.to_thread(self.take)

    def take(self) -> None:
        """Take the files as they are. What is bad is logged, and the old certificate stays in use."""
        try:
            newest = server_context(self._certificate, self._key)
        except ValueError as error:
            logger.warning("the new certificate in %s is not used, the old one stays: %s", self._certificate, error)
        else:
            self._newest = newest
            logger.info("new connections see the new certificate in %s", self._certificate)
