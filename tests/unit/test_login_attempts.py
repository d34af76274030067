"""How long tries of passwords wait: by user and address, and never so that one locks the other out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import login_attempts
from gateway.core.limit_errors import RateLimited
from gateway.core.login_attempts import USER_DELAY_SECONDS, WIDER, Attempt, LoginAttempts, LoginLimits
from tests.unit.conftest import HandClock

LIMITS = LoginLimits(3, 1.0, 60.0)


def wait(attempts: LoginAttempts, user: str, network: str) -> float:
    """How long a try would wait; one that wouldn't isn't made."""
    try:
        attempt = attempts.begin(user, network)
    except RateLimited as error:
        assert error.retry_after_seconds is not None
        return error.retry_after_seconds
    attempts.withdraw(attempt)
    return 0.0


def fail(attempts: LoginAttempts, clock: HandClock, user: str, network: str) -> None:
    """A wrong password, as soon as one may be tried."""
    clock.advance(wait(attempts, user, network))
    attempts.begin(user, network)


@pytest.fixture
def attempts(clock: HandClock) -> LoginAttempts:
    return LoginAttempts(LIMITS, clock)


def test_waits_begin_after_the_free_failures_and_double_up_to_the_longest(
    attempts: LoginAttempts, clock: HandClock
) -> None:
    waits = []
    for _ in range(12):
        waits.append(wait(attempts, "ann", "a"))
        fail(attempts, clock, "ann", "a")
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_who_comes_too_early_waits_no_longer_for_it(attempts: LoginAttempts, clock: HandClock) -> None:
    for _ in range(5):
        fail(attempts, clock, "ann", "a")
    assert [wait(attempts, "ann", "a") for _ in range(100)] == [4] * 100
    clock.advance(3)
    assert wait(attempts, "ann", "a") == 1
    clock.advance(1)
    assert wait(attempts, "ann", "a") == 0


def test_a_right_password_forgets_what_the_user_did_wrong_from_there(attempts: LoginAttempts, clock: HandClock) -> None:
    for _ in range(5):
        fail(attempts, clock, "ann", "a")
    clock.advance(4)
    attempts.succeeded(attempts.begin("ann", "a"))
    for _ in range(LIMITS.failures):
        assert wait(attempts, "ann", "a") == 0
        attempts.begin("ann", "a")


def test_tries_at_once_gain_nothing(attempts: LoginAttempts) -> None:
    for _ in range(LIMITS.failures):
        attempts.begin("ann", "a")  # none of which has an outcome yet
    with pytest.raises(RateLimited):
        attempts.begin("ann", "a")


def test_what_was_not_looked_at_does_not_count(attempts: LoginAttempts) -> None:
    for _ in range(100):
        attempts.withdraw(attempts.begin("ann", "a"))
    assert len(attempts) == 0


def test_a_right_password_makes_nobody_else_wait_longer(attempts: LoginAttempts, clock: HandClock) -> None:
    for number in range(LIMITS.failures * WIDER + 3):
        fail(attempts, clock, f"user {number}", "a")
    clock.advance(wait(attempts, "ann", "a"))
    attempts.succeeded(attempts.begin("ann", "a"))
    assert wait(attempts, "bob", "a") == 0


def test_one_address_that_tries_many_users_waits_in_full_too(attempts: LoginAttempts, clock: HandClock) -> None:
    for number in range(LIMITS.failures * WIDER):
        assert wait(attempts, f"user {number}", "a") == 0
        fail(attempts, clock, f"user {number}", "a")
    for number in range(20):
        fail(attempts, clock, f"other {number}", "a")
    assert wait(attempts, "another", "a") == LIMITS.delay_max_seconds
    assert wait(attempts, "another", "b") == 0


def test_a_success_of_its_own_wins_an_address_no_tries_with_others(attempts: LoginAttempts, clock: HandClock) -> None:
    for number in range(LIMITS.failures * WIDER):
        attempts.succeeded(attempts.begin("mallory", "a"))
        attempts.begin(f"user {number}", "a")
    assert wait(attempts, "another", "a") > 0


def attack(attempts: LoginAttempts, clock: HandClock, user: str, networks: int) -> None:
    for number in range(networks):
        fail(attempts, clock, user, f"attacker {number}")


def test_nobody_can_lock_a_user_out(attempts: LoginAttempts, clock: HandClock) -> None:
    attempts.succeeded(attempts.begin("ann", "home"))
    attack(attempts, clock, "ann", 200)
    assert wait(attempts, "ann", "home") == 0
    assert 0 < wait(attempts, "ann", "elsewhere") <= USER_DELAY_SECONDS
    assert wait(attempts, "bob", "home") == 0


def test_what_is_long_ago_is_forgotten(attempts: LoginAttempts, clock: HandClock) -> None:
    for _ in range(10):
        fail(attempts, clock, "ann", "a")
    clock.advance(2 * LIMITS.delay_max_seconds)
    assert wait(attempts, "ann", "a") == 0
    assert len(attempts) == 0


def test_a_delay_is_never_too_large_a_number(clock: HandClock) -> None:
    attempts = LoginAttempts(LoginLimits(1, 86_400, 86_400), clock)
    for _ in range(2000):
        clock.advance(86_400)
        fail(attempts, clock, "ann", "a")
    assert wait(attempts, "ann", "a") == 86_400


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "succeed", "withdraw", "wait"]),
        st.sampled_from(["ann", "bob", "eve"]),
        st.sampled_from(["a", "b", "c", "d"]),
        st.floats(0, 200),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_comes_waits_are_bounded_and_truly_told(steps: list[tuple[str, str, str, float]]) -> None:
    clock = HandClock()
    attempts = LoginAttempts(LIMITS, clock)
    under_way: list[Attempt] = []
    for what, user, network, seconds in steps:
        outcome = attempts.succeeded if what == "succeed" else attempts.withdraw
        if what == "begin":
            told = wait(attempts, user, network)
            assert 0 <= told <= LIMITS.delay_max_seconds
            clock.advance(told)
            under_way.append(attempts.begin(user, network))  # who waits as told is let try
        elif what == "wait":
            clock.advance(seconds)
        elif under_way:
            outcome(under_way.pop())


@given(STEPS)
def test_no_more_is_kept_than_may_be(steps: list[tuple[str, str, str, float]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(login_attempts, "MAXIMUM_ENTRIES", 2)
        clock = HandClock()
        attempts = LoginAttempts(LIMITS, clock)
        for what, user, network, seconds in steps:
            clock.advance(seconds)
            if wait(attempts, user, network) == 0:
                attempt = attempts.begin(user, network)
                if what == "succeed":
                    attempts.succeeded(attempt)
            assert len(attempts) <= 4 * 2


@given(st.lists(st.sampled_from("abcdefgh"), max_size=100))
def test_from_many_addresses_as_few_tries_fit_into_a_time_as_the_short_delay_lets(networks: list[str]) -> None:
    clock = HandClock()
    attempts = LoginAttempts(LIMITS, clock)
    begun = clock.now
    for network in networks:
        fail(attempts, clock, "ann", network)
    beyond = len(networks) - LIMITS.failures * WIDER - 4  # those of the doubling take less
    assert clock.now - begun >= max(0, beyond) * USER_DELAY_SECONDS
