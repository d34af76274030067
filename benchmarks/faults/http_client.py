"""One connection for HTTP requests, one after the other, as cheap as can be."""

import asyncio
from typing import Any, Final, Self, cast

import httptools

__all__ = ["HttpClient", "HttpError"]

ANSWER_SECONDS: Final = 60.0


class HttpError(Exception):
    """A request was answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:200].decode(errors='replace')}")
        self.status = status


class HttpClient(asyncio.Protocol):
    """Asks, and waits for the answer; a connection that is lost is an `OSError`."""

    def __init__(self) -> None:
        self._parser: Any = None
        self._parts: list[bytes] = []
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def connect(cls, port: int, source: str) -> Self:
        """Connect from a certain address.

        Raises:
            OSError: nobody listens.
        """
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(cls, "127.0.0.1", port, local_addr=(source, 0))
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection ended before the answer"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), b"".join(self._parts)))

    async def ask(
        self, method: str, target: str, body: bytes = b"", *headers: str, seconds: float = ANSWER_SECONDS
    ) -> bytes:
        """Send a request; the body of its answer.

        Raises:
            OSError: the connection is lost.
            TimeoutError: there was no answer in this time; the connection is of no use then.
            HttpError: the answer says so.
        """
        if self.transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._parser, self._parts = httptools.HttpResponseParser(self), []
        self._answer = asyncio.get_running_loop().create_future()
        length = [f"Content-Length: {len(body)}"] if method == "POST" else []
        lines = "\r\n".join((f"{method} {target} HTTP/1.1", "Host: localhost", *headers, *length, "", ""))
        self.transport.write(lines.encode() + body)
        async with asyncio.timeout(seconds):
            status, answer = await self._answer
        if status >= 300:
            raise HttpError(status, answer)
        return answer

    def close(self) -> None:
        """End the connection."""
        self.transport.abort()
