"""What is asked of every request before anything answers it: whether its address is refused, and whether it is small.

ASGI middleware behind `Forwarded`, so that the address is the client's, whichever server and proxies are in front. The
gateway's own server asks the same of a connection when it is made, where that costs least (`gate`, `http_connection`).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from gateway.core.errors import HeadersTooLarge, TidegateError
from gateway.core.limit_errors import RateLimited, UrlTooLong
from gateway.core.limits import Limits
from gateway.core.offenders import Offenders
from gateway.core.plain_http import HttpRequests
from gateway.refusal import refuse

__all__ = ["MAXIMUM_FIELDS", "Entrance", "HeadBounds"]

MAXIMUM_FIELDS: Final = 2000
"""The most `name=value` of a query: each takes time to read, even if it is nothing, and nobody is known before."""


@dataclass(frozen=True, slots=True)
class HeadBounds:
    """What may come before a request is understood, where no limit of a namespace holds yet."""

    handshake_seconds: float
    """How long it may take."""
    header_bytes: int
    url_bytes: int
    lag_seconds: float
    """How long a client may take nothing of an answer."""

    @classmethod
    def of(cls, limits: Sequence[Limits]) -> Self:
        """The most that any namespace puts up with."""
        return cls(
            max(each.handshake_seconds for each in limits),
            max(each.header_bytes for each in limits),
            max(each.url_bytes for each in limits),
            max(each.lag_seconds for each in limits),
        )

    def check(self, url_bytes: int, head_bytes: int) -> TidegateError | None:
        """Why a request of this size is refused."""
        if url_bytes > self.url_bytes:
            return UrlTooLong(f"expected at most {self.url_bytes} bytes of path and query")
        if head_bytes > self.header_bytes:
            return HeadersTooLarge(f"expected at most {self.header_bytes} bytes of request line and headers")
        return None


class Entrance:
    """Refuses what isn't to be answered at all."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        bounds: HeadBounds,
        offenders: Offenders,
        requests: HttpRequests,
        refused: Callable[[TidegateError, str | None], None],
    ) -> None:
        self._app = app
        self._bounds = bounds
        self._offenders = offenders
        self._requests = requests
        self._refused = refused

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one connection or request."""
        if scope["type"] in ("http", "websocket"):
            address = scope["client"][0] if scope.get("client") else ""
            error = self._check(scope, address)
            if error is not None:
                # A flood of requests is blamed as it is counted, and each of them weighs less.
                self._refused(error, None if isinstance(error, RateLimited) else address)
                await refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Mapping[str, Any], address: str) -> TidegateError | None:
        try:
            self._offenders.check(address)
            if scope["type"] == "http" and address:
                self._requests.check(address)
        except TidegateError as error:
            return error
        query = scope["query_string"]
        if query.count(b"&") >= MAXIMUM_FIELDS:
            return UrlTooLong(f"expected at most {MAXIMUM_FIELDS} fields in the query")
        url_bytes = len(scope.get("raw_path") or scope["path"].encode()) + (len(query) + 1 if query else 0)
        head_bytes = url_bytes + sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        return self._bounds.check(url_bytes, head_bytes)
