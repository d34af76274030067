"""Which pages may ask: those of the gateway's own origin, and those of origins that the configuration lists.

A browser says truly where a page comes from (RFC 6454 §7); what says nothing is no browser and has no user to betray.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from gateway.core.errors import OriginRefused

__all__ = ["Origins"]


class Origins:
    """The allow-list."""

    __slots__ = ("_allowed",)

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(allowed)

    def check(self, origin: str | None, host: str | None) -> None:
        """Check a request's `Origin` against its `Host`, without regard to the scheme, which a proxy may have ended.

        Raises:
            OriginRefused: the page comes from elsewhere.
        """
        if origin is None or origin in self._allowed:
            return
        try:
            own = bool(host) and urlsplit(origin).netloc.lower() == (host or "").lower()
        except ValueError:
            own = False
        if not own:
            raise OriginRefused(f"pages of {origin[:200]!r} may not ask here: expected an origin listed in `origins`")
