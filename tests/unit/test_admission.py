"""What is asked of callers before they are served: connections, rates, and who goes on regardless."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from gateway.core.address_budgets import AddressBudgets
from gateway.core.admission import Admission, Caller
from gateway.core.authentication import Authentication
from gateway.core.counters import Counters
from gateway.core.errors import HeadersTooLarge, MessageTooLarge, OriginRefused, TidegateError, error_table
from gateway.core.identity import Identity
from gateway.core.limit_errors import RateLimited, TooManyHandshakes, UrlTooLong
from gateway.core.limits import Limits
from gateway.core.offenders import OffenceBounds, Offenders
from gateway.core.origins import Origins
from gateway.core.role_limits import RoleLimits
from gateway.core.tickets import Tickets
from gateway.entrance import HeadBounds
from tests.unit.conftest import HandClock

HERE = Caller(None, "localhost", "192.0.2.1")
CREW = Identity("eve", frozenset({"crew"}))


class Door:
    """An admission with everything around it in reach."""

    def __init__(self, clock: HandClock, by_role: dict[str, dict[str, Any]] | None = None, **limits: Any) -> None:
        self.counters = Counters()
        self.offenders = Offenders(OffenceBounds(offences=3), clock)
        authentication = Authentication(clock, Tickets(30, clock, Random(1)))
        self.admission = Admission(
            Origins(), RoleLimits(Limits(**limits), by_role), clock, self.counters, authentication, self.offenders
        )


def test_a_connection_is_held_as_long_as_its_context(clock: HandClock) -> None:
    door = Door(clock, connections=1)
    with door.admission.connection(HERE), pytest.raises(TidegateError), door.admission.connection(HERE):
        pass
    with door.admission.connection(HERE):
        pass


def test_a_connection_whose_door_fails_is_given_back(clock: HandClock) -> None:
    door = Door(clock, connections=1)
    for _ in range(3):
        with pytest.raises(RuntimeError), door.admission.connection(HERE):
            raise RuntimeError


def test_a_page_from_elsewhere_takes_no_place(clock: HandClock) -> None:
    door = Door(clock, connections=1, handshakes_burst=1)
    with pytest.raises(OriginRefused), door.admission.connection(replace(HERE, origin="https://evil.example")):
        pass
    with door.admission.connection(HERE):
        pass


def test_connections_that_come_too_fast_are_refused_and_offend(clock: HandClock) -> None:
    door = Door(clock, handshakes_burst=2, handshakes_per_address_per_second=1)
    for _ in range(2):
        with door.admission.connection(HERE):
            pass
    for _ in range(31):
        with pytest.raises(TooManyHandshakes), door.admission.connection(HERE):
            pass
    assert door.offenders.refused_for(HERE.address) > 0


def test_what_closes_a_connection_for_its_client_is_an_offence_of_its_address(clock: HandClock) -> None:
    door = Door(clock)
    for _ in range(4):
        with door.admission.connection(HERE) as seat:
            seat.offend()
    assert door.offenders.refused_for(HERE.address) > 0


def test_requests_without_a_connection_spend_the_budget_of_their_address(clock: HandClock) -> None:
    door = Door(clock, messages_burst=2, messages_per_second=1, message_bytes=10)
    with pytest.raises(MessageTooLarge):
        door.admission.spend(HERE, None, 11)
    for _ in range(2):
        door.admission.spend(HERE, None, 5)
    with pytest.raises(RateLimited) as refused:
        door.admission.spend(HERE, None)
    assert refused.value.retry_after_seconds == 1
    door.admission.spend(replace(HERE, address="192.0.2.2"), None)


def test_a_role_has_a_budget_of_its_own(clock: HandClock) -> None:
    door = Door(clock, {"crew": {"messages_burst": 5}}, messages_burst=1)
    door.admission.spend(HERE, None)
    for _ in range(5):
        door.admission.spend(HERE, CREW)
    with pytest.raises(RateLimited):
        door.admission.spend(HERE, CREW)


def test_who_goes_on_though_refused_offends_and_who_heeds_it_does_not(clock: HandClock) -> None:
    door = Door(clock, messages_burst=1, messages_per_second=1, refusals=10)

    def ask() -> None:
        with pytest.raises(RateLimited):
            door.admission.spend(HERE, None)

    for _ in range(50):
        door.admission.spend(HERE, None)
        for _ in range(9):
            ask()
        clock.advance(1)
    assert len(door.offenders) == 0
    door.admission.spend(HERE, None)
    for _ in range(9 + 31):
        ask()
    assert door.offenders.refused_for(HERE.address) > 0


def test_the_limit_that_was_gone_over_is_counted_by_its_name(clock: HandClock) -> None:
    door = Door(clock, messages_burst=1, bytes_burst=10, bytes_per_second=1)
    door.admission.spend(HERE, None, 10)
    with pytest.raises(RateLimited), door.admission.counted():
        door.admission.spend(HERE, None)
    clock.advance(1)
    with pytest.raises(RateLimited), door.admission.counted():
        door.admission.spend(HERE, None, 10)
    assert door.counters.limited == {"messages_per_second": 1, "bytes_per_second": 1}


def test_every_error_that_names_a_limit_names_one_that_there_is() -> None:
    named = {error.limit for error in error_table()} - {None}
    assert {limit for limit in named if not hasattr(Limits(), str(limit))} == {"offences"}
    assert len(named) > 12


def test_heads_may_be_as_large_as_any_namespace_takes_them() -> None:
    head = HeadBounds.of([Limits(header_bytes=100, url_bytes=10), Limits(header_bytes=50, url_bytes=20)])
    assert head.check(20, 100) is None
    assert isinstance(head.check(21, 100), UrlTooLong)
    assert isinstance(head.check(20, 101), HeadersTooLarge)
    assert head.handshake_seconds == 10


def test_a_64_of_ipv6_has_one_budget_and_one_count_of_connections(clock: HandClock) -> None:
    door = Door(clock, messages_burst=1, connections_per_address=1)
    here, there = (replace(HERE, address=f"2001:db8::{number}") for number in (1, 2))
    door.admission.spend(here, None)
    with pytest.raises(RateLimited):
        door.admission.spend(there, None)
    with door.admission.connection(here), pytest.raises(TidegateError), door.admission.connection(there):
        pass


def test_the_budget_that_was_used_least_recently_is_forgotten_first(clock: HandClock) -> None:
    budgets, limits = AddressBudgets(clock, capacity=2), Limits(messages_burst=1)
    budgets.of("a", limits).spend(1)
    budgets.of("b", limits).spend(1)
    with pytest.raises(RateLimited):
        budgets.of("a", limits).spend(1)
    budgets.of("c", limits)
    with pytest.raises(RateLimited):
        budgets.of("a", limits).spend(1)
    budgets.of("b", limits).spend(1)


def test_a_request_that_is_refused_weighs_less_than_a_connection_that_was_closed(clock: HandClock) -> None:
    door = Door(clock, messages_burst=1, messages_per_second=0.001, refusals=1)
    door.admission.spend(HERE, None)
    for _ in range(30):
        with pytest.raises(RateLimited):
            door.admission.spend(HERE, None)
    assert door.offenders.refused_for(HERE.address) == 0
