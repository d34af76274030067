from ipaddress import ip_network

import pytest

from gateway.core.addresses import TrustedProxies
from gateway.core.doorkeeper import Doorkeeper, Handshakes
from gateway.core.errors import TidegateError
from gateway.core.limit_errors import AddressRefused, TooManyConnectionsFromAddress, TooManyHandshakes
from gateway.core.limits import Limits
from gateway.core.offenders import OffenceBounds, Offenders
from gateway.core.plain_http import HttpConnections
from tests.unit.conftest import HandClock

LIMITS = Limits(handshakes_per_address_per_second=2, handshakes_burst=3)
HERE = "192.0.2.1"


def make(clock: HandClock, offences: int | None = 1) -> tuple[Doorkeeper, Handshakes, Offenders]:
    offenders = Offenders(OffenceBounds(offences=offences), clock)
    handshakes = Handshakes(LIMITS, offenders, clock)
    proxies = TrustedProxies([ip_network("10.0.0.1")])
    return Doorkeeper(handshakes, offenders, proxies, HttpConnections(200, 50, proxies)), handshakes, offenders


def answer(keeper: Doorkeeper, peer: str) -> TidegateError | None:
    """Why a connection isn't taken."""
    try:
        keeper.admit(peer)
    except TidegateError as error:
        return error
    return None


def test_so_many_connections_may_come_at_once_and_then_so_many_a_second(clock: HandClock) -> None:
    _, handshakes, _ = make(clock)
    for _ in range(3):
        handshakes.check(HERE)
    with pytest.raises(TooManyHandshakes, match="at most 2 a second") as refused:
        handshakes.check(HERE)
    assert refused.value.retry_after_seconds == 0.5
    handshakes.check("192.0.2.2")
    clock.advance(0.5)
    handshakes.check(HERE)


def test_a_64_of_ipv6_comes_as_one(clock: HandClock) -> None:
    _, handshakes, _ = make(clock)
    for number in range(3):
        handshakes.check(f"2001:db8::{number}")
    with pytest.raises(TooManyHandshakes):
        handshakes.check("2001:db8::9")


def test_a_flood_of_connections_adds_up_to_an_offence(clock: HandClock) -> None:
    keeper, _, offenders = make(clock)
    answers = [answer(keeper, HERE) for _ in range(40)]
    assert answers[:3] == [None] * 3
    assert isinstance(answers[3], TooManyHandshakes)
    assert isinstance(answers[-1], AddressRefused)
    assert offenders.refusals == 1
    assert answer(keeper, "192.0.2.2") is None


def test_a_trusted_proxy_is_never_refused_nor_counted(clock: HandClock) -> None:
    keeper, handshakes, _ = make(clock)
    assert [answer(keeper, "10.0.0.1") for _ in range(100)] == [None] * 100
    assert len(handshakes) == 0


def test_no_more_addresses_are_remembered_than_may_be(clock: HandClock) -> None:
    handshakes = Handshakes(LIMITS, Offenders(OffenceBounds(), clock), clock, capacity=2)
    for number in (1, 2, 1, 3):
        handshakes.check(f"192.0.2.{number}")
    assert len(handshakes) == 2
    handshakes.check(HERE)
    with pytest.raises(TooManyHandshakes):
        handshakes.check(HERE)


def test_a_connection_has_a_place_until_it_ends(clock: HandClock) -> None:
    keeper, _, _ = make(clock)
    places = []
    for _ in range(50):
        clock.advance(1)
        places.append(keeper.admit(HERE))
    clock.advance(1)
    assert isinstance(answer(keeper, HERE), TooManyConnectionsFromAddress)
    for _ in range(2):
        places[0].free()
    clock.advance(1)
    assert answer(keeper, HERE) is None
    clock.advance(1)
    assert isinstance(answer(keeper, HERE), TooManyConnectionsFromAddress)
