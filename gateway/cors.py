"""What lets browsers hand answers to pages of the listed origins (CORS), by the list as it is at each request."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from gateway.core.origins import Origins

__all__ = ["Cors"]


class Cors(CORSMiddleware):
    """Starlette's, but for where the list comes from."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        super().__init__(app, allow_methods=["GET", "POST"], allow_headers=["*"])
        self._origins = origins

    def is_allowed_origin(self, origin: str) -> bool:
        """Whether pages from there may read answers."""
        return self._origins.lists(origin)
