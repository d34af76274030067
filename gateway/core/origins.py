"""Which pages may ask: those of the gateway's own origin, and those of origins that the configuration lists.

A browser says truly where a page comes from (RFC 6454 §7); who says nothing is no browser, with no user to betray, or a
browser whose page asks its own origin. So what is asked for must be right too: whoever owns a name may let it lead to
this machine, and so make a page of theirs look like the gateway's own (DNS rebinding). The names in `Host` can be
bounded, and on the loopback they always are. An address is nobody's to be led elsewhere, and nor is `localhost`.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from gateway.core.errors import BadMessage, HostRefused, OriginRefused

__all__ = ["Origins", "is_loopback"]

_HOST: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_-][A-Za-z0-9._-]{0,253}))(?::[0-9]{0,5})?", re.ASCII
)
"""A host, perhaps with a port (RFC 9110 §7.2), without the signs that no name in use has."""


class Origins:
    """The allow-list.

    Args:
        allowed: Origins whose pages may ask, besides the gateway's own.
        hosts: The names that the gateway is known by, besides those of `allowed`; none stands for any, on the loopback
            for those of the loopback.
        local: Whether the gateway listens on the loopback alone.
    """

    __slots__ = ("_allowed", "_allowed_names", "_hosts", "_local")

    def __init__(self, allowed: Iterable[str] = (), hosts: Iterable[str] = (), *, local: bool = False) -> None:
        self._allowed = frozenset(allowed)
        self._allowed_names = frozenset(urlsplit(origin).hostname for origin in self._allowed)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._local = local

    def become(self, newer: "Origins") -> None:
        """Decide as a newer one does, for all who hold this one."""
        self._allowed, self._allowed_names = newer._allowed, newer._allowed_names
        self._hosts, self._local = newer._hosts, newer._local

    def lists(self, origin: str) -> bool:
        """Whether it is one of those besides the gateway's own."""
        return origin in self._allowed

    def check(self, origin: str | None, host: str | None, *, encrypted: bool = False) -> None:
        """Check a request's `Origin` against its `Host`, which `check_host` has let through.

        If TLS is known to have led here, the page must have come over TLS too: one that didn't may be anybody's on the
        way. Otherwise the scheme says nothing, since a proxy may have ended TLS.

        Raises:
            OriginRefused: the page comes from elsewhere.
        """
        if origin is None or origin in self._allowed:
            return
        try:
            page = urlsplit(origin)
            own = bool(host) and page.netloc.lower() == (host or "").lower() and page.scheme in ("http", "https")
            own = own and (page.scheme == "https" or not encrypted)
        except ValueError:
            own = False
        if not own:
            raise OriginRefused(f"pages of {origin[:200]!r} may not ask here: expected an origin listed in `origins`")

    def check_host(self, given: Sequence[str], *, required: bool) -> None:
        """Check the values of a request's `Host`. Ports are passed over: the one asked for is the one that answered.

        Args:
            given: All of them.
            required: Whether there must be one, as in HTTP/1.1; who leaves it out is no browser.

        Raises:
            BadMessage: none, more than one, or what isn't a host (RFC 9112 §3.2).
            HostRefused: the gateway isn't known by that name.
        """
        if not given and not required:
            return
        found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if found is None:
            shown = f"{given[0][:80]!r}" if len(given) == 1 else len(given)
            raise BadMessage(f"Host: expected one name or address, perhaps with a port, found {shown}")
        name = (found[1] or found[2]).lower().removesuffix(".")
        if not self._knows(name):
            raise HostRefused(f"{name[:200]!r} isn't served here: expected a name listed in `hosts`, or an address")

    def _knows(self, name: str) -> bool:
        if not (self._hosts or self._local) or name in self._hosts or is_loopback(name) or _is_address(name):
            return True
        return name in self._allowed_names


@lru_cache(4096)
def is_loopback(host: str) -> bool:
    """Whether a name or address always stands for the machine itself (RFC 6761 §6.3)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
