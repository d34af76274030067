"""Clients' addresses: how they are written, whom they count for, and what proxies that are trusted say of them."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

__all__ = ["Network", "TrustedProxies", "network_of", "parse_address"]

Network = IPv4Network | IPv6Network

PREFIX_BITS: Final = 64
"""What one site gets of IPv6 at least (RFC 6177 §2): who has one address has all of these."""


def parse_address(text: str) -> str | None:
    """An IP address as it is always written, IPv4 within IPv6 as IPv4 (RFC 4291 §2.5.5.2); None if it isn't one."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


@lru_cache(4096)
def network_of(address: str) -> str:
    """What limits per address count: an IPv4 address, or the /64 of an IPv6 address."""
    parsed = parse_address(address)
    if parsed is None or ":" not in parsed:
        return parsed or address
    return str(ip_network((parsed, PREFIX_BITS), strict=False))


class TrustedProxies:
    """The networks of proxies whose word on where a request comes from is taken."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)

    def trusts(self, address: str) -> bool:
        """Whether a proxy stands there."""
        parsed = parse_address(address)
        if parsed is None:
            return False
        found = ip_address(parsed)
        return any(found in network for network in self._networks)

    def client(self, peer: str, hops: Sequence[str]) -> tuple[str, int | None]:
        """The client's address, and which hop named it: the last that no trusted proxy has, for all before it may lie.

        Args:
            peer: Who is connected.
            hops: What proxies have written down, each of the one before it: the nearest one's word last.

        A hop that is no address ends the way: then it is the proxy that is known.
        """
        client, named_by = peer, None
        for index in range(len(hops) - 1, -1, -1):
            if not self.trusts(client):
                break
            address = parse_address(without_port(hops[index]))
            if address is None:
                break
            client, named_by = address, index
        return client, named_by


def without_port(text: str) -> str:
    """The address of `192.0.2.1:80`, `[2001:db8::1]:80`, or of one that stands alone (RFC 7239 §6)."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
