import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.address_budgets import AddressBudgets
from gateway.core.connections import ConnectionLimiter
from gateway.core.errors import MessageTooLarge, OriginRefused, TidegateError
from gateway.core.limit_errors import RateLimited, TooManyConnections, TooManyConnectionsFromAddress
from gateway.core.limits import Budget, Limits, TokenBucket
from gateway.core.origins import Origins
from gateway.core.role_limits import RoleLimits
from tests.unit.conftest import HandClock


def test_bucket_gives_its_burst_then_its_rate(clock: HandClock) -> None:
    bucket = TokenBucket(rate_per_second=10, burst=5, clock=clock)
    assert [bucket.take() for _ in range(5)] == [0] * 5
    assert bucket.take() == pytest.approx(0.1)
    clock.now += 0.1
    assert bucket.take() == 0
    assert bucket.take() > 0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 8)), max_size=60))
def test_bucket_never_lets_through_more_than_burst_and_rate(steps: list[tuple[float, int]]) -> None:
    clock = HandClock()
    bucket, taken, start = TokenBucket(5, 10, clock), 0, clock.now
    for wait, amount in steps:
        clock.now += wait
        if bucket.take(amount) == 0:
            taken += amount
        assert taken <= 10 + 5 * (clock.now - start) + 1e-6


@given(st.integers(1, 30), st.integers(1, 10))
def test_who_waits_as_long_as_told_is_let_through(amount: int, before: int) -> None:
    clock = HandClock()
    bucket = TokenBucket(5, 10, clock)
    bucket.take(before)
    clock.now += bucket.take(amount)
    assert bucket.take(amount) == 0 or bucket.take(amount) > 0


def test_more_than_the_burst_passes_a_full_bucket_and_is_paid_back(clock: HandClock) -> None:
    bucket = TokenBucket(10, 10, clock)
    assert bucket.take(30) == 0
    assert bucket.take(1) == pytest.approx(2.1)


def test_budget_says_what_was_too_much_and_when_to_try_again(clock: HandClock) -> None:
    budget = Budget(Limits(messages_per_second=2, messages_burst=1, bytes_per_second=100, bytes_burst=50), clock)
    budget.spend(10)
    with pytest.raises(RateLimited, match="at most 2 a second") as refused:
        budget.spend(10)
    assert refused.value.retry_after_seconds == 0.5
    clock.now += 0.5
    budget.spend(500)
    clock.now += 0.5
    with pytest.raises(RateLimited, match="bytes"):
        budget.spend(50)


def test_budget_refuses_what_is_too_large(clock: HandClock) -> None:
    with pytest.raises(MessageTooLarge, match="101 bytes: expected at most 100"):
        Budget(Limits(message_bytes=100), clock).spend(101)


def test_budget_counts_refusals_in_a_row(clock: HandClock) -> None:
    budget = Budget(Limits(refusals=3), clock)
    assert [budget.refuse(), budget.refuse()] == [False, False]
    budget.accept()
    assert [budget.refuse(), budget.refuse(), budget.refuse()] == [False, False, True]


def test_addresses_have_budgets_of_their_own_and_the_oldest_is_forgotten(clock: HandClock) -> None:
    budgets, limits = AddressBudgets(clock, capacity=2), Limits(messages_burst=1)
    budgets.of("a", limits).spend(1)
    with pytest.raises(RateLimited):
        budgets.of("a", limits).spend(1)
    budgets.of("b", limits).spend(1)
    budgets.of("c", limits).spend(1)
    budgets.of("a", limits).spend(1)


def test_connections_are_limited_in_all_and_per_address_and_given_back() -> None:
    limiter = ConnectionLimiter(RoleLimits(Limits(connections=3, connections_per_address=2)))
    limiter.acquire("a")
    seat = limiter.acquire("a")
    with pytest.raises(TooManyConnectionsFromAddress) as refused:
        limiter.acquire("a")
    assert refused.value.retry_after_seconds
    limiter.acquire("b")
    with pytest.raises(TooManyConnections):
        limiter.acquire("c")
    seat.free()
    limiter.acquire("c")
    seat.free()
    with pytest.raises(TooManyConnections):
        limiter.acquire("c")


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "gate:8080", True),
        ("http://gate:8080", "gate:8080", True),
        ("https://gate:8080", "gate:8080", True),
        ("http://GATE:8080", "gate:8080", True),
        ("http://gate:8081", "gate:8080", False),
        ("http://gate", "gate:8080", False),
        ("https://dash.example", "gate:8080", True),
        ("http://dash.example", "gate:8080", False),
        ("https://dash.example.evil", "gate:8080", False),
        ("null", "gate:8080", False),
        ("", "", False),
        ("http://gate:8080", None, False),
        ("http://[", "gate:8080", False),
    ],
)
def test_origin_is_the_gateways_own_or_listed(origin: str | None, host: str | None, allowed: bool) -> None:
    origins = Origins(["https://dash.example"])
    if allowed:
        origins.check(origin, host)
    else:
        with pytest.raises(OriginRefused):
            origins.check(origin, host)


@pytest.mark.parametrize(
    ("scheme", "encrypted", "own"), [("http", True, False), ("https", True, True), ("https", False, True)]
)
def test_where_tls_leads_here_a_page_without_it_is_not_the_gateways_own(
    scheme: str, encrypted: bool, own: bool
) -> None:
    origins = Origins(["http://listed.example"])
    origins.check("http://listed.example", "gate.example", encrypted=encrypted)
    if own:
        origins.check(f"{scheme}://gate.example", "gate.example", encrypted=encrypted)
    else:
        with pytest.raises(OriginRefused):
            origins.check(f"{scheme}://gate.example", "gate.example", encrypted=encrypted)


def test_every_error_has_a_code_of_its_own_and_a_meaning() -> None:
    errors = TidegateError.__subclasses__()
    assert len({error.code for error in errors}) == len(errors)
    assert all(error.__doc__ and 400 <= error.http_status < 600 for error in errors)
