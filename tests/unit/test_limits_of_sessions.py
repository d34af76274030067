"""The limits that a session is held to: those of who it is now, and what its client is told of them."""

from typing import Any

import orjson
import pytest

from gateway.core.access import Access
from gateway.core.authentication import Authentication, hash_token
from gateway.core.connections import ConnectionLimiter
from gateway.core.conversation import Conversation
from gateway.core.errors import Forbidden, SlowConsumer, TidegateError
from gateway.core.identity import ANONYMOUS, Identity
from gateway.core.limit_errors import (
    Idle,
    RateLimited,
    TooManyConnectionsFromAddress,
    TooManyConnectionsOfUser,
    TooManySubscriptions,
)
from gateway.core.limits import Budget, Limits
from gateway.core.retention import NOTHING
from gateway.core.role_limits import RoleLimits
from gateway.core.room_rules import RoomRule
from gateway.core.session import Session
from gateway.core.tickets import Tickets
from tests.unit.conftest import HandClock, ListSink, World, make_world

CREW, GUEST = Identity("ann", frozenset({"crew"})), Identity("ann", frozenset({"guest"}))
GENERAL = Limits(
    idle_seconds=100, messages_burst=10, messages_per_second=1, subscriptions_per_connection=1, message_bytes=1000
)
OF_CREW: dict[str, Any] = {
    "message_bytes": 2000,
    "messages_per_second": 2.0,
    "messages_burst": 20,
    "bytes_per_second": 3000,
    "bytes_burst": 4000,
    "subscriptions_per_connection": 5,
    "requests_in_flight": 6,
    "idle_seconds": 700.0,
    "bytes_per_second_out": 8000,
}
TOLD = {
    "message_bytes": 2000,
    "messages_per_second": 2.0,
    "messages_burst": 20,
    "bytes_per_second": 3000,
    "subscriptions": 5,
    "requests_in_flight": 6,
    "idle_seconds": 700.0,
    "bytes_per_second_out": 8000,
}


def crewed() -> World:
    return make_world(GENERAL, by_role={"crew": OF_CREW})


def join(world: World, identity: Identity | None = None) -> tuple[Session, ListSink]:
    sink = ListSink()
    grants = None if identity is None else world.namespace.access.of(identity)
    return world.namespace.open("websocket", sink, grants), sink


def reload(world: World, identity: Identity) -> None:
    """Rules change, and everybody is `identity` now."""
    world.namespace.reconfigure(Access(), lambda before: identity)
    world.clock.advance(0)


def spent(budget: Budget, size_bytes: int = 0) -> int:
    """How many messages it lets through now."""
    for number in range(1000):
        try:
            budget.spend(size_bytes)
        except RateLimited:
            return number
    return 1000


def test_who_has_a_role_has_its_limits_from_the_start_and_is_told_of_them() -> None:
    world = crewed()
    session, sink = join(world, CREW)
    Conversation(session, world.namespace, world.counters).greet(25)
    assert sink.take()[0]["limits"] == TOLD
    assert spent(session.budget) == 20


def test_who_says_by_auth_that_it_has_a_role_is_told_of_its_limits_and_held_to_them() -> None:
    world = crewed()
    tickets = Tickets(30, world.clock, world.namespace._random)
    authentication = Authentication(world.clock, tickets, {hash_token("secret"): CREW}, None, ANONYMOUS)
    session, sink = join(world)
    talk = Conversation(session, world.namespace, world.counters, authentication)
    assert session.limits is GENERAL
    talk.receive(orjson.dumps({"type": "auth", "token": "secret", "id": 1}).decode())
    (ack,) = (each for each in sink.take() if each["type"] == "ack")
    assert ack["limits"] == TOLD
    assert session.limits.requests_in_flight == 6
    world.subscribe(session, "b")
    world.subscribe(session, "c")


def test_a_reload_that_changes_its_roles_changes_its_limits_both_ways() -> None:
    world = crewed()
    session, _ = join(world, GUEST)
    assert session.limits is GENERAL
    reload(world, CREW)
    assert (session.limits.messages_burst, session.identity) == (20, CREW)
    reload(world, GUEST)
    assert session.limits is GENERAL


def test_a_reload_that_changes_nothing_for_it_saves_up_nothing_new() -> None:
    world = crewed()
    session, _ = join(world, CREW)
    limits, timers = session.limits, world.clock.waiting
    assert spent(session.budget) == 20
    reload(world, CREW)
    assert session.limits is limits
    assert world.clock.waiting == timers
    assert spent(session.budget) == 0


def test_what_was_spent_is_not_given_back_by_other_limits() -> None:
    world = crewed()
    session, _ = join(world, GUEST)
    assert spent(session.budget) == 10
    world.namespace.identify(session, CREW)
    assert spent(session.budget) == 0
    world.clock.advance(1)
    assert spent(session.budget) == 2


def test_what_was_saved_up_is_no_more_than_the_new_burst() -> None:
    world = crewed()
    session, _ = join(world, CREW)
    world.namespace.identify(session, GUEST)
    assert spent(session.budget) == 10


def test_bytes_go_by_the_new_limits_too(clock: HandClock) -> None:
    budget = Budget(Limits(messages_burst=500, bytes_burst=100, bytes_per_second=10), clock)
    assert spent(budget, 10) == 10
    budget.change(Limits(messages_burst=500, bytes_burst=1000, bytes_per_second=100))
    assert spent(budget, 10) == 0
    clock.advance(1)
    assert spent(budget, 10) == 10
    clock.advance(100)
    budget.change(Limits(messages_burst=500, bytes_burst=50, bytes_per_second=10))
    assert spent(budget, 10) == 5


def test_time_that_passed_before_a_change_counts_at_the_rate_of_then(clock: HandClock) -> None:
    budget = Budget(Limits(messages_burst=10, messages_per_second=1), clock)
    assert spent(budget) == 10
    clock.advance(3)
    budget.change(Limits(messages_burst=100, messages_per_second=50))
    assert spent(budget) == 3


def test_the_time_it_may_be_idle_is_that_of_its_new_roles() -> None:
    world = crewed()
    session, _ = join(world, GUEST)
    reload(world, CREW)
    world.clock.advance(699)
    assert not session.ended
    world.clock.advance(1)
    assert session.ended


def test_bytes_out_are_limited_and_freed_with_its_roles_and_what_it_asked_for_stays() -> None:
    world = crewed()
    session, _ = join(world, GUEST)
    world.namespace.recovery.limit_bandwidth(session, 9000)
    talk = Conversation(session, world.namespace, world.counters)
    for identity, most in ((CREW, 8000), (GUEST, 9000)):
        world.namespace.identify(session, identity)
        assert talk._limits()["bytes_per_second_out"] == most


def test_limits_that_change_leave_a_subscription_as_it_was() -> None:
    world = crewed()
    session, sink = join(world, CREW)
    for room in ("sites/+/x/y", "chat/a", "chat/b"):
        world.subscribe(session, room)
    world.namespace.identify(session, GUEST)
    assert len(session.rooms) == 3
    with pytest.raises(TooManySubscriptions):
        world.subscribe(session, "chat/c")
    sink.take()
    world.device("sensors/a/x/y", b"1")
    assert [each["type"] for each in sink.take()] == ["message"]


def test_rooms_asked_for_before_there_is_a_session_are_counted_by_its_roles() -> None:
    world = crewed()
    namespace = world.namespace
    namespace.check_rooms(["a", "b"], namespace.access.of(CREW))
    with pytest.raises(TooManySubscriptions):
        namespace.check_rooms(["a", "b"], namespace.access.of(GUEST))


def test_one_that_has_ended_is_held_to_nothing_new() -> None:
    world = crewed()
    session, _ = join(world, GUEST)
    session.end()
    session.grants = world.namespace.access.of(CREW)
    world.namespace.limit(session)
    assert (session.limits, world.clock.waiting) == (GENERAL, 0)


def test_one_that_is_refused_a_place_is_nobody_new() -> None:
    world = make_world(GENERAL, by_role={"crew": {**OF_CREW, "connections_per_user": 1}})
    connections = ConnectionLimiter(world.namespace.role_limits)
    connections.acquire("192.0.2.1").identify(CREW)
    session, _ = join(world)
    session.seat = connections.acquire("192.0.2.2")
    with pytest.raises(TooManyConnectionsOfUser):
        world.namespace.identify(session, CREW)
    assert (session.user, session.limits) == (None, GENERAL)


def test_one_that_turns_out_to_have_too_many_from_its_address_stays_who_it_was() -> None:
    world = make_world(GENERAL, by_role={"crew": OF_CREW})
    limits = RoleLimits(Limits(connections_per_address=9), {"guest": {"connections_per_address": 1}})
    connections = ConnectionLimiter(limits)
    connections.acquire("192.0.2.1")
    session, _ = join(world, CREW)
    session.seat = connections.acquire("192.0.2.1")
    with pytest.raises(TooManyConnectionsFromAddress):
        world.namespace.identify(session, GUEST)
    assert session.identity == CREW
    with pytest.raises(Forbidden):
        world.namespace.identify(session, Identity("bob", frozenset({"crew"})))


@pytest.mark.parametrize(
    ("error", "offends"),
    [(RateLimited(""), 1), (Idle(""), 0), (SlowConsumer(""), 0), (Forbidden(""), 0), (None, 0)],
)
def test_only_a_session_that_went_on_regardless_is_an_offence_of_its_address(
    error: TidegateError | None, offends: int
) -> None:
    world, offences = crewed(), list[None]()
    session, _ = join(world)
    session.seat = ConnectionLimiter(world.namespace.role_limits).acquire("192.0.2.1", lambda: offences.append(None))
    session.end(error)
    assert len(offences) == offends


def test_a_reload_that_changes_nothing_for_it_lets_it_be_idle_no_longer() -> None:
    world = crewed()
    session, _ = join(world, CREW)
    world.clock.advance(690)
    reload(world, CREW)
    world.namespace.identify(session, CREW)
    world.clock.advance(10)
    assert session.ended


def test_what_a_session_sends_and_asks_goes_by_the_limits_of_its_roles() -> None:
    general = Limits(idle_seconds=None, rooms_per_address=1, request_timeout_max_seconds=5)
    world = make_world(general, by_role={"crew": {"rooms_per_address": 2, "request_timeout_max_seconds": 50}})
    world.upstream.reply_topic = "replies"
    request = {"type": "request", "room": "devices/fan/commands", "data": 1, "timeout_seconds": 50, "id": 1}
    publishes = [{"type": "publish", "room": room, "data": 1, "id": room} for room in ("chat/a", "chat/b", "chat/c")]

    def said(identity: Identity) -> list[object]:
        session, sink = join(world, identity)
        talk = Conversation(session, world.namespace, world.counters)
        for message in (*publishes, request):
            talk.receive(orjson.dumps(message).decode())
        return [each.get("code", each["type"]) for each in sink.take()]

    assert said(CREW) == ["ack", "ack", "too_many_rooms"]
    world.clock.advance(1000)
    assert said(GUEST) == ["ack", "too_many_rooms", "too_many_rooms", "bad_message"]


def test_a_state_may_be_as_large_as_its_roles_say() -> None:
    rules = [RoomRule("#", NOTHING, presence=True)]
    world = make_world(Limits(presence_state_bytes=5), rules=rules, by_role={"crew": {"presence_state_bytes": 10}})
    say = orjson.dumps({"type": "presence", "room": "chat/a", "state": "8 bytes", "id": 1}).decode()
    for identity, answer in ((CREW, "reply"), (GUEST, "error")):
        session, sink = join(world, identity)
        world.subscribe(session, "chat/a")
        sink.take()
        Conversation(session, world.namespace, world.counters).receive(say)
        assert [each["type"] for each in sink.take() if "id" in each] == [answer]
