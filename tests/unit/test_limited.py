"""Whatever limit is gone over is counted by its name: `tidegate_limited_total` says which, and forgets none."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridges.http_batch import lines_of
from gateway.core.connections import ConnectionLimiter
from gateway.core.counters import Counters
from gateway.core.doorkeeper import Handshakes
from gateway.core.errors import BadMessage, HandshakeTimeout, MessageTooLarge, SlowConsumer, TidegateError
from gateway.core.identity import Identity
from gateway.core.limit_errors import AddressRefused
from gateway.core.limits import Limits
from gateway.core.login_attempts import LoginAttempts, LoginLimits
from gateway.core.offenders import OffenceBounds, Offenders
from gateway.core.retention import NOTHING
from gateway.core.role_limits import RoleLimits
from gateway.core.room_rules import RoomRule
from gateway.core.routing import Direction, RouteSpec
from gateway.entrance import HeadBounds
from tests.unit.conftest import HandClock, ListSink, make_world

Provoke = Callable[[Limits], Counters]
DOCUMENT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
ROUTES = [RouteSpec("commands/{device}", "devices/{device}", Direction.TO_DEVICE, reply="commands/{device}/reply")]
SUBSCRIBE, PING = {"type": "subscribe", "room": "a"}, {"type": "ping"}


def makes(act: Callable[[Limits], object]) -> Provoke:
    """Counts what `act` raises, as the doors do."""

    def provoke(limits: Limits) -> Counters:
        counters = Counters()
        with pytest.raises(TidegateError) as refused:
            act(limits)
        counters.refuse(refused.value)
        return counters

    return provoke


def says(*messages: dict[str, Any]) -> Provoke:
    """Counts what becomes of a session that says this."""

    def provoke(limits: Limits) -> Counters:
        world = make_world(limits, ROUTES, [RoomRule("#", NOTHING, presence=True)])
        _, _, talk = world.join()
        for message in messages:
            talk.receive(orjson.dumps(message).decode())
        return world.counters

    return provoke


def publish(room: str) -> dict[str, Any]:
    return {"type": "publish", "room": room, "data": 1}


def seats(limits: Limits) -> None:
    connections = ConnectionLimiter(RoleLimits(limits))
    for _ in range(2):
        connections.acquire("192.0.2.1").identify(Identity("ann"))


def handshakes(limits: Limits) -> None:
    clock = HandClock()
    door = Handshakes(limits, Offenders(OffenceBounds(), clock), clock)
    for _ in range(2):
        door.check("192.0.2.1")


def head(url_bytes: int, head_bytes: int) -> Provoke:
    def act(limits: Limits) -> None:
        error = HeadBounds.of([limits]).check(url_bytes, head_bytes)
        assert error is not None
        raise error

    return makes(act)


def wrong_passwords(limits: Limits) -> None:
    attempts = LoginAttempts(LoginLimits(limits.failed_logins, 1.0, 60.0), HandClock())
    for _ in range(2):
        attempts.begin("ann", "192.0.2.1")


def silence(limits: Limits) -> Counters:
    world = make_world(limits)
    world.join()
    world.clock.advance(11)
    return world.counters


def slowness(limits: Limits) -> Counters:
    world = make_world(limits)
    session, sink, _ = world.join()
    world.subscribe(session, "sites/#")
    sink.paused = True
    session.pause()
    world.clock.advance(2)
    assert session.ended
    return world.counters


def overflow(limits: Limits) -> Counters:
    world = make_world(limits)
    world.join()[0].overflow()
    return world.counters


def no_place(limits: Limits) -> Counters:
    world = make_world(limits, rules=[RoomRule("#", NOTHING, presence=True)])
    for _ in range(2):
        world.subscribe(world.join()[0], "chat/x")
    return world.counters


def raises(error: TidegateError) -> Provoke:
    def act(limits: Limits) -> None:
        raise error

    return makes(act)


REQUEST = {"type": "request", "room": "devices/x", "id": 1, "data": 1}
GONE_OVER: dict[str, tuple[dict[str, Any], Provoke]] = {
    "connections": ({"connections": 1}, makes(seats)),
    "connections_per_address": ({"connections_per_address": 1}, makes(seats)),
    "connections_per_user": ({"connections_per_user": 1}, makes(seats)),
    "handshakes_per_address_per_second": ({"handshakes_burst": 1}, makes(handshakes)),
    "handshake_seconds": ({}, raises(HandshakeTimeout(""))),
    "header_bytes": ({"header_bytes": 100}, head(1, 101)),
    "url_bytes": ({"url_bytes": 100}, head(101, 102)),
    "idle_seconds": ({"idle_seconds": 10}, silence),
    "subscriptions_per_connection": (
        {"subscriptions_per_connection": 1}, says(SUBSCRIBE, {"type": "subscribe", "room": "b"}),
    ),
    "rooms": ({"rooms": 1}, says(publish("a"), publish("b"))),
    "rooms_per_address": ({"rooms_per_address": 1}, says(publish("a"), publish("b"))),
    "publishes_per_room_per_second": ({"publishes_per_room_burst": 1}, says(publish("a"), publish("a"))),
    "message_bytes": ({"message_bytes": 10}, says(SUBSCRIBE)),
    "batch_bytes": ({}, raises(MessageTooLarge("", limit="batch_bytes"))),
    "batch_messages": ({"batch_messages": 1}, makes(lambda limits: lines_of(b"1\n2\n", limits.batch_messages))),
    "messages_per_second": ({"messages_burst": 1}, says(PING, PING)),
    "bytes_per_second": ({"bytes_burst": 1}, says(PING, PING)),
    "refusals": ({"messages_burst": 1, "refusals": 1}, says(PING, PING)),
    "write_buffer_bytes": ({}, overflow),
    "lag_seconds": ({"lag_seconds": 1}, slowness),
    "requests_in_flight": ({"requests_in_flight": 1}, says(REQUEST, REQUEST)),
    "request_timeout_max_seconds": (
        {"request_timeout_max_seconds": 5}, says({**REQUEST, "timeout_seconds": 6}),
    ),
    "failed_logins": ({"failed_logins": 1}, makes(wrong_passwords)),
    "presence_members": ({"presence_members": 1}, no_place),
    "presence_state_bytes": (
        {"presence_state_bytes": 2}, says(SUBSCRIBE, {"type": "presence", "room": "a", "state": "long"}),
    ),
}  # fmt: skip
NOBODY_IS_REFUSED = {
    "handshakes_burst": "counted as handshakes_per_address_per_second",
    "publishes_per_room_burst": "counted as publishes_per_room_per_second",
    "messages_burst": "counted as messages_per_second",
    "bytes_burst": "counted as bytes_per_second",
    "failed_login_delay_seconds": "how long, not how much",
    "failed_login_delay_max_seconds": "how long, not how much",
    "last_values": "the stalest is forgotten, which is a drop",
    "log_bytes": "the oldest is forgotten, which is a drop",
    "presence_members_told": "only their number is told",
    "bytes_per_second_out": "it is told later",
}


def test_of_every_limit_it_is_known_what_becomes_of_who_goes_over_it() -> None:
    assert not GONE_OVER.keys() & NOBODY_IS_REFUSED.keys()
    assert GONE_OVER.keys() | NOBODY_IS_REFUSED.keys() == {field.name for field in fields(Limits)}


@pytest.mark.parametrize("name", GONE_OVER)
def test_who_goes_over_a_limit_is_counted_once_by_its_name(name: str) -> None:
    changes, provoke = GONE_OVER[name]
    assert provoke(Limits(**{"idle_seconds": None, **changes})).limited[name] == 1


def test_who_stays_within_the_limits_is_not_counted() -> None:
    assert says(SUBSCRIBE, publish("a"), PING, REQUEST)(Limits(idle_seconds=None)).limited == {}


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_every_limit_is_in_the_documentation(name: str) -> None:
    section = DOCUMENT.partition("## `limits`\n")[2].partition("\n## ")[0]
    assert f"| `{name}` | " in section


def test_an_error_that_is_none_of_a_limit_is_counted_but_under_no_limit() -> None:
    counters = Counters()
    counters.refuse(BadMessage(""))
    counters.close(BadMessage(""))
    assert (counters.refusals, counters.closed, counters.limited) == ({"bad_message": 1}, {"bad_message": 1}, {})


def test_a_session_that_ends_over_a_limit_and_one_refused_at_the_door_are_both_counted() -> None:
    counters = Counters()
    counters.close(SlowConsumer(""))
    counters.refuse(AddressRefused(""))
    assert counters.limited == {"write_buffer_bytes": 1, "offences": 1}
    assert (counters.closed, counters.refusals) == ({"slow_consumer": 1}, {"address_refused": 1})


def test_pings_that_close_a_connection_are_counted_as_messages_that_do() -> None:
    world = make_world(Limits(idle_seconds=None, messages_burst=1, refusals=2))
    session = world.namespace.open("websocket", ListSink())
    for _ in range(3):
        session.aside(1)
    assert session.ended
    assert world.counters.limited["refusals"] == 1
