"""Whether a request is for this gateway at all: asked before anything answers it, at every door and for every page."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from gateway.core.errors import TidegateError
from gateway.core.origins import Origins
from gateway.refusal import refuse

__all__ = ["HostCheck"]

ANY_HOST: Final = ("/healthz",)
"""Served under any name: probes ask by names of their own, and it tells nothing but that the process lives."""


class HostCheck:
    """ASGI middleware that refuses requests whose `Host` is none, or none of the gateway's (RFC 9110 §7.4)."""

    def __init__(
        self, app: Callable[..., Awaitable[None]], origins: Origins, refused: Callable[[TidegateError], None]
    ) -> None:
        self._app = app
        self._origins = origins
        self._refused = refused

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one connection or request."""
        try:
            if scope["type"] in ("http", "websocket") and scope["path"] not in ANY_HOST:
                given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
                self._origins.check_host(given, required=scope["http_version"] != "1.0")
        except TidegateError as error:
            self._refused(error)
            await refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)
