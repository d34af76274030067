"""What every answer tells browsers, whoever made it: to come over TLS only."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from gateway.config import ListenSettings

__all__ = ["ResponseHeaders", "headers_for"]

Message = MutableMapping[str, Any]
STARTS: Final = ("http.response.start", "websocket.http.response.start", "websocket.accept")


def headers_for(listen: ListenSettings) -> dict[bytes, bytes]:
    """The headers of a gateway that listens so."""
    if listen.tls_files is None:
        return {}
    return {b"strict-transport-security": b"max-age=%d" % listen.hsts_seconds}  # RFC 6797 §6.1


class ResponseHeaders:
    """ASGI middleware that adds headers to each answer which doesn't have them."""

    def __init__(self, app: Callable[..., Awaitable[None]], headers: Mapping[bytes, bytes]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(
        self, scope: Mapping[str, Any], receive: Any, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Serve one connection or request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] in STARTS:
                given = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                message["headers"] = given + [pair for pair in self._headers.items() if pair[0] not in names]
            await send(message)

        await self._app(scope, receive, send_with_headers)
