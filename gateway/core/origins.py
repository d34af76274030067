"""Which pages may ask: those of the gateway's own origin, and those of origins that the configuration lists.

A browser says truly where a page comes from (RFC 6454 §7); what says nothing is no browser and has no user to betray.
What it says of `Host` proves less: whoever owns a name may let it lead to this machine, and so make a page of theirs
look like the gateway's own (DNS rebinding). So the names that are the gateway's own can be bounded, and on the loopback
they always are.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.core.errors import OriginRefused

__all__ = ["Origins", "is_loopback"]


class Origins:
    """The allow-list.

    Args:
        allowed: Origins whose pages may ask, besides the gateway's own.
        hosts: The names that the gateway is known by; none stands for any, on the loopback for those of the loopback.
        local: Whether the gateway listens on the loopback alone.
    """

    __slots__ = ("_allowed", "_hosts", "_local")

    def __init__(self, allowed: Iterable[str] = (), hosts: Iterable[str] = (), *, local: bool = False) -> None:
        self._allowed = frozenset(allowed)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._local = local

    def become(self, newer: "Origins") -> None:
        """Decide as a newer one does, for all who hold this one."""
        self._allowed, self._hosts, self._local = newer._allowed, newer._hosts, newer._local

    def lists(self, origin: str) -> bool:
        """Whether it is one of those besides the gateway's own."""
        return origin in self._allowed

    def check(self, origin: str | None, host: str | None, *, encrypted: bool = False) -> None:
        """Check a request's `Origin` against its `Host`.

        If TLS is known to have led here, the page must have come over TLS too: one that didn't may be anybody's on the
        way. Otherwise the scheme says nothing, since a proxy may have ended TLS.

        Raises:
            OriginRefused: the page comes from elsewhere.
        """
        if origin is None or origin in self._allowed:
            return
        try:
            page = urlsplit(origin)
            own = bool(host) and page.netloc.lower() == (host or "").lower() and self._is_own(page.hostname or "")
            own = own and (page.scheme == "https" or not encrypted)
        except ValueError:
            own = False
        if not own:
            raise OriginRefused(f"pages of {origin[:200]!r} may not ask here: expected an origin listed in `origins`")

    def _is_own(self, name: str) -> bool:
        if self._local and is_loopback(name):
            return True
        return name in self._hosts if self._hosts or self._local else True


def is_loopback(host: str) -> bool:
    """Whether a name or address always stands for the machine itself (RFC 6761 §6.3)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
