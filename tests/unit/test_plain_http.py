"""What an address may use by HTTP alone: connections and requests."""

from contextlib import suppress
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.addresses import TrustedProxies
from gateway.core.limit_errors import RateLimited, TooManyConnections, TooManyConnectionsFromAddress
from gateway.core.limits import Limits
from gateway.core.offenders import OffenceBounds, Offenders
from gateway.core.plain_http import HttpConnections, HttpRequests, Place
from gateway.core.role_limits import RoleLimits
from tests.unit.conftest import HandClock

HERE, THERE, PROXY = "192.0.2.1", "192.0.2.2", "10.0.0.1"
PROXIES = TrustedProxies([ip_network(PROXY)])


def fill(connections: HttpConnections, peer: str, count: int) -> list[Place]:
    return [connections.enter(peer) for _ in range(count)]


def test_so_many_connections_may_be_open_from_one_address_and_in_all() -> None:
    connections = HttpConnections(5, 2, PROXIES)
    first, _ = fill(connections, HERE, 2)
    with pytest.raises(TooManyConnectionsFromAddress):
        connections.enter(HERE)
    for peer in (THERE, PROXY, PROXY):
        connections.enter(peer)
    with pytest.raises(TooManyConnections) as refused:
        connections.enter("192.0.2.3")
    assert refused.value.retry_after_seconds
    first.free()
    first.free()
    connections.enter(HERE)
    with pytest.raises(TooManyConnections):
        connections.enter("192.0.2.3")


def test_a_trusted_proxy_speaks_for_many_and_counts_in_all_only() -> None:
    connections = HttpConnections(5, 2, PROXIES)
    fill(connections, PROXY, 5)
    with pytest.raises(TooManyConnections):
        connections.enter(PROXY)


def test_a_64_of_ipv6_is_one_address() -> None:
    connections = HttpConnections(5, 2, PROXIES)
    for number in range(2):
        connections.enter(f"2001:db8::{number}")
    with pytest.raises(TooManyConnectionsFromAddress):
        connections.enter("2001:db8::2")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([HERE, THERE, PROXY])), max_size=40))
def test_what_has_left_is_forgotten(events: list[tuple[bool, str]]) -> None:
    connections, here = HttpConnections(10, 4, PROXIES), list[tuple[str, Place]]()
    for comes, peer in events:
        if comes:
            with suppress(TooManyConnections, TooManyConnectionsFromAddress):
                here.append((peer, connections.enter(peer)))
        elif here:
            here.pop(0)[1].free()
        assert len(connections) == len(here) <= 10
        assert max(sum(peer == each for peer, _ in here) for each in (HERE, THERE)) <= 4
    for _, place in here:
        place.free()
    assert (len(connections), len(connections._by_network)) == (0, 0)


def test_there_may_be_twice_as_many_as_all_namespaces_take() -> None:
    one = RoleLimits(Limits(connections=10, connections_per_address=2), {"many": {"connections_per_address": 3}})
    connections = HttpConnections.within([one, RoleLimits(Limits(connections=5, connections_per_address=1))], PROXIES)
    fill(connections, HERE, 8)
    with pytest.raises(TooManyConnectionsFromAddress):
        connections.enter(HERE)
    fill(connections, PROXY, 22)
    with pytest.raises(TooManyConnections):
        connections.enter(PROXY)


def test_requests_come_as_fast_as_connections_and_all_messages_together(clock: HandClock) -> None:
    limits = [
        RoleLimits(
            Limits(messages_per_second=3, messages_burst=5, handshakes_per_address_per_second=10, handshakes_burst=100),
            {"fast": {"messages_per_second": 4, "messages_burst": 6}},
        ),
        RoleLimits(
            Limits(messages_per_second=1, messages_burst=2, handshakes_per_address_per_second=20, handshakes_burst=50)
        ),
    ]
    requests = HttpRequests.within(limits, Offenders(OffenceBounds(), clock), clock)
    assert (requests.rate_per_second, requests.burst) == (20 + 4 + 1, 100 + 6 + 2)


def test_a_flood_of_requests_is_refused_and_then_its_address(clock: HandClock) -> None:
    offenders = Offenders(OffenceBounds(offences=1), clock)
    requests = HttpRequests(10, 3, offenders, clock)
    for _ in range(3):
        requests.check(HERE)
    with pytest.raises(RateLimited, match=rf"too many requests from {HERE}: expected at most 10 a second") as refused:
        requests.check(HERE)
    assert refused.value.retry_after_seconds == 0.1
    requests.check(THERE)
    for _ in range(20):
        with pytest.raises(RateLimited):
            requests.check(HERE)
    assert offenders.refused_for(HERE) > 0
