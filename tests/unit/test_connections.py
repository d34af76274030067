import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.connections import ConnectionLimiter, Seat
from gateway.core.errors import TidegateError
from gateway.core.identity import ANONYMOUS, Identity
from gateway.core.limit_errors import TooManyConnections, TooManyConnectionsFromAddress, TooManyConnectionsOfUser
from gateway.core.limits import Limits
from gateway.core.role_limits import RoleLimits
from tests.unit.conftest import ListSink, make_world

ANN, BOB = Identity("ann"), Identity("bob")
CREW = Identity("eve", frozenset({"crew"}))
CREW_NO_MORE = Identity("eve")


def limiter(by_role: dict[str, dict[str, int]] | None = None, **limits: int) -> ConnectionLimiter:
    return ConnectionLimiter(RoleLimits(Limits(**limits), by_role))


def test_a_user_may_have_so_many_connections_wherever_they_come_from() -> None:
    connections = limiter(connections_per_user=2)
    seats = [connections.acquire(f"192.0.2.{number}") for number in range(3)]
    seats[0].identify(ANN)
    seats[1].identify(ANN)
    with pytest.raises(TooManyConnectionsOfUser, match="at most 2") as refused:
        seats[2].identify(ANN)
    assert refused.value.retry_after_seconds
    seats[2].identify(BOB)
    seats[0].free()
    connections.acquire("192.0.2.9").identify(ANN)


def test_who_has_no_name_counts_for_no_user() -> None:
    connections = limiter(connections_per_user=1)
    for _ in range(3):
        connections.acquire("192.0.2.1").identify(ANONYMOUS)
        connections.acquire("192.0.2.1").identify(None)


def test_a_session_that_shows_a_newer_token_counts_once() -> None:
    connections = limiter(connections_per_user=1)
    seat = connections.acquire("192.0.2.1")
    for _ in range(3):
        seat.identify(ANN)
    seat.free()
    assert len(connections) == 0


def test_who_was_let_in_is_not_held_to_a_limit_that_others_fill_later() -> None:
    connections = limiter({"crew": {"connections_per_address": 9}}, connections_per_address=2)
    seat = connections.acquire("192.0.2.1")
    seat.identify(ANN)
    for _ in range(4):
        connections.acquire("192.0.2.1").identify(CREW)
    seat.identify(ANN)
    last = connections.acquire("192.0.2.1")
    with pytest.raises(TooManyConnectionsFromAddress):
        last.identify(BOB)
    last.identify(CREW)
    with pytest.raises(TooManyConnectionsFromAddress):
        last.identify(CREW_NO_MORE)


def test_a_seat_is_given_back_once() -> None:
    connections = limiter(connections=2)
    first = connections.acquire("192.0.2.1")
    connections.acquire("192.0.2.1")
    first.free()
    first.free()
    connections.acquire("192.0.2.1")
    with pytest.raises(TooManyConnections):
        connections.acquire("192.0.2.1")


def test_a_seat_that_was_given_back_takes_nothing_again() -> None:
    connections = limiter()
    seat = connections.acquire("192.0.2.1")
    seat.free()
    seat.identify(ANN)
    assert len(connections) == 0


def test_a_role_may_have_more_connections_from_one_address_but_others_may_not() -> None:
    connections = limiter({"crew": {"connections_per_address": 3}}, connections_per_address=1)
    connections.acquire("192.0.2.1").identify(CREW)
    with pytest.raises(TooManyConnectionsFromAddress, match="at most 1"):
        connections.acquire("192.0.2.1").identify(ANN)
    connections.acquire("192.0.2.1").identify(CREW)
    with pytest.raises(TooManyConnectionsFromAddress, match="at most 3"):
        connections.acquire("192.0.2.1")


def test_a_role_may_have_more_connections_of_one_user() -> None:
    connections = limiter({"crew": {"connections_per_user": 2}}, connections_per_user=1)
    for _ in range(2):
        connections.acquire("192.0.2.1").identify(CREW)
    with pytest.raises(TooManyConnectionsOfUser):
        connections.acquire("192.0.2.1").identify(CREW)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "tell", "go"]), st.integers(0, 5), st.sampled_from("ab"), st.sampled_from("xyz")
    ),
    max_size=80,
)


@given(STEPS)
def test_connections_are_counted_as_a_naive_list_has_them(steps: list[tuple[str, int, str, str]]) -> None:
    connections = limiter(connections=5, connections_per_address=3, connections_per_user=2)
    seats: list[Seat] = []
    for what, number, address, user in steps:
        chosen = seats[number % len(seats)] if seats else None
        try:
            if what == "come":
                seats.append(connections.acquire(address))
            elif what == "tell" and chosen is not None:
                chosen.identify(Identity(user))
            elif chosen is not None:
                seats.remove(chosen)
                chosen.free()
        except TidegateError:
            full = len(seats) == 5 or sum(seat.address == address for seat in seats) == 3
            assert full if what == "come" else sum(seat.user == user for seat in seats) == 2
        assert len(seats) <= 5
        assert all(sum(seat.address == each for seat in seats) <= 3 for each in "ab")
        assert all(sum(seat.user == each for seat in seats) <= 2 for each in "xyz")
    for seat in seats:
        seat.free()
    assert (len(connections), connections._total) == (0, 0)


def test_who_says_by_auth_who_it_is_counts_from_then_on() -> None:
    world = make_world()
    connections = limiter(connections_per_user=1)
    sessions = []
    for _ in range(2):
        session = world.namespace.open("websocket", ListSink())
        session.seat = connections.acquire("192.0.2.1")
        sessions.append(session)
    world.namespace.identify(sessions[0], ANN)
    with pytest.raises(TooManyConnectionsOfUser):
        world.namespace.identify(sessions[1], ANN)
    assert sessions[1].user is None
    world.namespace.identify(sessions[1], BOB)


def test_who_is_one_too_many_is_told_when_to_try_again() -> None:
    connections = limiter(connections=1)
    connections.acquire("192.0.2.1")
    with pytest.raises(TooManyConnections, match="at most 1") as refused:
        connections.acquire("192.0.2.2")
    assert refused.value.retry_after_seconds == 5


def test_a_user_that_is_one_too_many_keeps_its_place_by_address_until_it_leaves() -> None:
    connections = limiter(connections_per_user=1, connections_per_address=2)
    connections.acquire("192.0.2.1").identify(ANN)
    second = connections.acquire("192.0.2.1")
    with pytest.raises(TooManyConnectionsOfUser):
        second.identify(ANN)
    with pytest.raises(TooManyConnectionsFromAddress):
        connections.acquire("192.0.2.1")
    second.free()
    third = connections.acquire("192.0.2.1")
    with pytest.raises(TooManyConnectionsOfUser):
        third.identify(ANN)


def test_a_refused_connection_leaves_no_trace() -> None:
    connections = limiter(connections=1)
    seat = connections.acquire("192.0.2.1")
    for number in range(2, 9):
        with pytest.raises(TooManyConnections):
            connections.acquire(f"192.0.2.{number}")
    assert len(connections) == 1
    seat.free()
    assert len(connections) == 0
