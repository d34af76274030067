"""One HTTP request for a key set: a `GET` within bounds of time and size that follows nothing.

No redirect, no proxy of the environment, no other scheme: who may name the keys is only who answers at the address that
the configuration names, which TLS proves.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

__all__ = ["FetchFailed", "Fetcher"]

MAXIMUM_BYTES: Final = 256 * 1024
"""The largest document."""
MAXIMUM_HEAD_BYTES: Final = 64 * 1024
TIMEOUT_SECONDS: Final = 5.0


class FetchFailed(Exception):
    """There is no document; the text says why."""


class Fetcher:
    """Fetches one address, whenever it is called.

    Args:
        url: `https://…`, or `http://…` on the loopback; it was checked when the configuration was.
        ca_file: The authorities to trust (PEM) instead of the system's; read at each call, as they may be renewed.
        timeout_seconds: How long all of a call may take.
    """

    def __init__(self, url: str, ca_file: Path | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        parts = urlsplit(url)
        self.url = url
        self.timeout_seconds = timeout_seconds
        self._host = parts.hostname or ""
        self._encrypted = parts.scheme == "https"
        self._port = parts.port or (443 if self._encrypted else 80)
        self._ca_file = ca_file
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._request = (
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/jwk-set+json, application/json\r\n"
            "Accept-Encoding: identity\r\nUser-Agent: tidegate\r\nConnection: close\r\n\r\n"
        ).encode("ascii")

    async def __call__(self) -> bytes:
        """The document.

        Raises:
            FetchFailed: the address doesn't answer, or not with 200 and a document of a fit size.
        """
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._fetch()
        except TimeoutError:
            raise FetchFailed(f"no whole answer came within {self.timeout_seconds:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise FetchFailed(f"the certificate is not trusted: {error.verify_message}") from None
        except (OSError, UnicodeError) as error:  # the latter for names that no host can have
            raise FetchFailed(f"it can't be reached: {getattr(error, 'strerror', None) or error}") from None
        except HttpParserError:
            raise FetchFailed("expected an answer in HTTP/1.1") from None

    async def _fetch(self) -> bytes:
        context = await asyncio.to_thread(_context, self._ca_file) if self._encrypted else None
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=context)
        try:
            writer.write(self._request)
            return await _read(reader)
        finally:
            writer.transport.abort()


def _context(ca_file: Path | None) -> ssl.SSLContext:
    """What certificates are trusted; takes some milliseconds, as the system's authorities are many."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise FetchFailed(f"expected certificates (PEM) in {ca_file or 'the system'}: {error.strerror}") from None


async def _read(reader: asyncio.StreamReader) -> bytes:
    answer = _Answer()
    parser = HttpResponseParser(answer)
    left = MAXIMUM_HEAD_BYTES + MAXIMUM_BYTES
    while not answer.complete:
        data = await reader.read(65_536)
        left -= len(data)
        parser.feed_data(data)
        status = parser.get_status_code() if answer.head_complete else 200
        if status != 200:
            raise FetchFailed(f"expected an answer with status 200, found {status}: no redirect is followed")
        if answer.encoded:
            raise FetchFailed("expected an answer without `Content-Encoding`")
        if left < 0 or len(answer.body) > MAXIMUM_BYTES:
            raise FetchFailed(f"expected a document of at most {MAXIMUM_BYTES} bytes, found a larger one")
        if not data and not answer.complete:
            if answer.head_complete and not answer.framed:  # the end of the connection is that of the body
                break
            raise FetchFailed("the answer was broken off")
    return bytes(answer.body)


@dataclass(slots=True)
class _Answer:
    """What the parser calls as it reads."""

    body: bytearray = field(default_factory=bytearray)
    head_complete: bool = False
    complete: bool = False
    framed: bool = False
    """Whether the answer itself says where it ends (RFC 9112 §6.3)."""
    encoded: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        match name.lower():
            case b"content-length" | b"transfer-encoding":
                self.framed = True
            case b"content-encoding":
                self.encoded = value.strip().lower() not in (b"", b"identity")

    def on_headers_complete(self) -> None:
        """No more of them."""
        self.head_complete = True

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self.body += part

    def on_message_complete(self) -> None:
        """That was all."""
        self.complete = True
