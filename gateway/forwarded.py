"""What proxies say of a request's origin, taken only from those that are trusted (RFC 7239).

ASGI middleware: it puts the client's address and scheme into the scope, as if the client had come directly.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from gateway.core.addresses import TrustedProxies

__all__ = ["Forwarded"]

MAXIMUM_HOPS: Final = 100
"""Hops that are looked at, the nearest ones: what clients put before them is never believed, and takes time."""
SECURE: Final = {"http": "https", "ws": "wss"}
PLAIN: Final = {secure: plain for plain, secure in SECURE.items()}


class Forwarded:
    """Believes `X-Forwarded-For` and `X-Forwarded-Proto`, or else `Forwarded`, of trusted proxies.

    Only one of the two kinds is believed: a proxy that writes one lets the other through as the client sent it.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], proxies: TrustedProxies, *, standard: bool) -> None:
        self._app = app
        self._proxies = proxies
        self._read = _standard if standard else _usual

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one connection or request."""
        peer = scope.get("client")
        if peer and self._proxies.trusts(peer[0]):
            scope = {**scope, **self._told(scope, peer)}
        await self._app(scope, receive, send)

    def _told(self, scope: Mapping[str, Any], peer: tuple[str, int]) -> dict[str, Any]:
        hops, schemes = self._read(scope["headers"])
        address, named_by = self._proxies.client(peer[0], hops)
        if named_by is None:
            return {"scheme": _scheme(scope["scheme"], schemes[-1:])}
        # As many schemes as hops: the one of the hop. Otherwise the nearest proxy's, which no client can have written.
        at = named_by if len(schemes) == len(hops) else len(schemes) - 1
        return {"client": (address, 0), "scheme": _scheme(scope["scheme"], schemes[at : at + 1])}


def _scheme(now: str, told: list[str]) -> str:
    match told:
        case ["https" | "wss"]:
            return SECURE.get(now, now)
        case ["http" | "ws"]:
            return PLAIN.get(now, now)
    return now


def _values(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    """A list's last elements, though it may stand in several lines (RFC 9110 §5.3)."""
    joined = ",".join(value.decode("latin-1") for name, value in headers if name == wanted)
    return [element.strip() for element in joined.rsplit(",", MAXIMUM_HOPS)[-MAXIMUM_HOPS:]] if joined else []


def _usual(headers: list[tuple[bytes, bytes]]) -> tuple[list[str], list[str]]:
    schemes = [scheme.lower() for scheme in _values(headers, b"x-forwarded-proto")]
    return _values(headers, b"x-forwarded-for"), schemes


def _standard(headers: list[tuple[bytes, bytes]]) -> tuple[list[str], list[str]]:
    """The elements of `Forwarded`. A comma or semicolon within quotes is in no address: what it splits is none."""
    elements = [_pairs(element) for element in _values(headers, b"forwarded")]
    return [pairs.get("for", "") for pairs in elements], [pairs.get("proto", "").lower() for pairs in elements]


def _pairs(element: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in element.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
