"""What every answer tells browsers, whoever made it: what its page may do, and how to come here."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from gateway.config import ListenSettings

__all__ = ["CONTENT_SECURITY_POLICY", "ResponseHeaders", "headers_for"]

Message = MutableMapping[str, Any]
STARTS: Final = ("http.response.start", "websocket.http.response.start")

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
"""Pages load and reach nothing but the gateway, have no scripts or styles in their text, and stand in no frame."""


def headers_for(listen: ListenSettings) -> dict[bytes, bytes]:
    """The headers of a gateway that listens so."""
    headers = {
        b"content-security-policy": CONTENT_SECURITY_POLICY.encode(),
        b"x-content-type-options": b"nosniff",
        b"x-frame-options": b"DENY",  # for browsers that don't know `frame-ancestors`
        b"referrer-policy": b"no-referrer",
        b"cross-origin-opener-policy": b"same-origin",
        b"cache-control": b"no-cache",  # kept by browsers, and asked for by `ETag` each time: an update is seen at once
    }
    if listen.tls_files is not None:
        headers[b"strict-transport-security"] = b"max-age=%d" % listen.hsts_seconds  # RFC 6797 §6.1
    return headers


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
