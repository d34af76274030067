"""Addresses of clients: whom they count for, and which word of proxies is taken."""

from ipaddress import IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.addresses import TrustedProxies, network_of, parse_address
from gateway.forwarded import Forwarded

PROXIES = TrustedProxies([ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_limits_count_an_ipv4_address_or_a_site_of_ipv6(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(1, 2**64 - 1))
def test_all_addresses_of_a_site_count_as_one_and_no_others(low: int, other_low: int, site: int) -> None:
    first, second = (str(IPv6Address((site << 64) | part)) for part in (low, other_low))
    assert network_of(first) == network_of(second) != network_of(str(IPv6Address(((site ^ 1) << 64) | (1 << 40) | low)))


@pytest.mark.parametrize(
    ("peer", "hops", "client"),
    [
        ("192.0.2.9", ["198.51.100.1"], "192.0.2.9"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["203.0.113.66", "198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["203.0.113.66", "198.51.100.1", "10.1.1.1"], "198.51.100.1"),
        ("127.0.0.1", ["10.2.2.2", "10.1.1.1"], "10.2.2.2"),
        ("127.0.0.1", ["203.0.113.66", "unknown"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.66", "unknown", "10.1.1.1"], "10.1.1.1"),
        ("127.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("fd00::1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("fd00::1", ["2001:DB8::1"], "2001:db8::1"),
        ("fd00::1", ["_hidden"], "fd00::1"),
        ("fd00::1", ["192.0.2.1.5"], "fd00::1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_client_is_the_last_whom_a_trusted_proxy_names(peer: str, hops: list[str], client: str) -> None:
    assert PROXIES.client(peer, hops)[0] == client


@given(st.lists(st.text(max_size=20), max_size=5), st.ip_addresses())
def test_what_a_client_writes_itself_changes_nothing(forged: list[str], real: Any) -> None:
    address = parse_address(str(real))
    if address is not None and not PROXIES.trusts(address):
        assert PROXIES.client("10.0.0.1", [*forged, str(real)])[0] == address


async def forwarded(
    headers: list[tuple[str, str]], *, standard: bool = False, peer: str = "10.0.0.1"
) -> tuple[Any, str]:
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.extend([scope["client"][0], scope["scheme"]])

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "scheme": "http", "client": (peer, 4711), "headers": raw}
    await Forwarded(app, PROXIES, standard=standard)(scope, None, None)
    return found[0], found[1]


async def test_each_kind_of_header_is_read_and_only_the_one_that_is_configured() -> None:
    usual = [("x-forwarded-for", "203.0.113.66"), ("x-forwarded-for", "198.51.100.1"), ("x-forwarded-proto", "HTTPS")]
    standard = [("forwarded", 'proto=http;for=203.0.113.66, For="[2001:db8::1]:80"; Proto=https;by=10.0.0.1')]
    assert await forwarded([*usual, ("forwarded", "for=1.1.1.1")]) == ("198.51.100.1", "https")
    assert await forwarded([*standard, *usual], standard=True) == ("2001:db8::1", "https")
    assert await forwarded(standard) == ("10.0.0.1", "http")
    assert await forwarded(usual, standard=True) == ("10.0.0.1", "http")
    assert await forwarded(usual, peer="192.0.2.1") == ("192.0.2.1", "http")


async def test_a_scheme_is_that_of_the_hop_or_of_the_nearest_proxy() -> None:
    hops = ("x-forwarded-for", "203.0.113.66, 198.51.100.1, 10.1.1.1")
    assert (await forwarded([hops, ("x-forwarded-proto", "http, https, http")]))[1] == "https"
    assert (await forwarded([hops, ("x-forwarded-proto", "http, https")]))[1] == "https"
    assert (await forwarded([hops, ("x-forwarded-proto", "nonsense")]))[1] == "http"
    assert (await forwarded([("x-forwarded-proto", "https")]))[1] == "https"


@pytest.mark.parametrize("quoted", ['for="198.51.100.1,for=203.0.113.66"', 'for="203.0.113.66'])
async def test_a_quote_that_a_client_leaves_open_swallows_nothing(quoted: str) -> None:
    assert (await forwarded([("forwarded", f"{quoted}, for=198.51.100.7")], standard=True))[0] == "198.51.100.7"


@pytest.mark.parametrize("standard", [False, True])
async def test_only_the_nearest_hops_are_looked_at(standard: bool) -> None:
    before = "for=" if standard else ""
    name = "forwarded" if standard else "x-forwarded-for"
    hops = [(name, ",".join([f"{before}203.0.113.66", *[f"{before}10.1.1.1"] * count])) for count in (99, 100)]
    found = [(await forwarded([each], standard=standard))[0] for each in hops]
    assert found == ["203.0.113.66", "10.1.1.1"]
