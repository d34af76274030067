from contextlib import suppress

import pytest

from gateway.core.errors import TidegateError
from gateway.core.identity import Identity
from gateway.core.idle import IdleWatch
from gateway.core.limits import Limits
from gateway.core.publishing import Sending
from gateway.core.session import TransportName
from tests.unit.conftest import HandClock, ListSink, World, make_world


def idle_world(idle_seconds: float | None = 10) -> World:
    return make_world(limits=Limits(idle_seconds=idle_seconds))


@pytest.mark.parametrize("transport", ["websocket", "socketio"])
def test_a_connection_that_is_of_no_use_ends(transport: TransportName) -> None:
    world, sink = idle_world(), ListSink()
    session = world.namespace.open(transport, sink)
    world.clock.advance(9.9)
    assert not session.ended
    world.clock.advance(0.2)
    assert session.ended
    bye = sink.written[-1]
    assert (bye["type"], bye["code"], bye["retry"]) == ("bye", "idle", True)
    assert world.counters.limited["idle_seconds"] == 1
    assert world.clock.waiting == 0


def test_whatever_it_sends_keeps_it() -> None:
    world = idle_world()
    session = world.namespace.open("websocket", ListSink())
    for _ in range(5):
        world.clock.advance(8)
        session.budget.spend(10)
    assert not session.ended
    world.clock.advance(10.1)
    assert session.ended


def test_a_subscription_keeps_it_and_its_end_lets_time_run() -> None:
    world = idle_world()
    session = world.namespace.open("websocket", ListSink())
    world.subscribe(session, "chat/x")
    world.clock.advance(100)
    assert not session.ended
    world.namespace.unsubscribe(session, "chat/x")
    world.clock.advance(20)
    assert session.ended


def test_a_stream_is_never_idle() -> None:
    world = idle_world()
    session = world.namespace.open("sse", ListSink())
    world.clock.advance(1000)
    assert not session.ended


def test_none_is_idle_without_a_limit() -> None:
    world = idle_world(None)
    session = world.namespace.open("websocket", ListSink())
    world.clock.advance(100_000)
    assert not session.ended


def test_one_that_leaves_is_not_watched_any_more() -> None:
    world = idle_world()
    session = world.namespace.open("websocket", ListSink())
    session.end()
    assert world.clock.waiting == 0


def test_a_request_that_waits_for_its_device_keeps_it() -> None:
    world = idle_world()
    session = world.namespace.open("websocket", ListSink())
    world.upstream.reply_topic = "replies"
    answers: list[object] = []
    world.namespace.requests.send(session.id, "devices/fan/commands", {}, answers.append, timeout_seconds=60)
    world.clock.advance(30)
    assert (session.ended, answers) == (False, [])


def test_it_is_held_to_the_limits_of_who_it_becomes() -> None:
    world = make_world(limits=Limits(idle_seconds=10), by_role={"crew": {"idle_seconds": None, "messages_burst": 7}})
    session = world.namespace.open("websocket", ListSink())
    world.namespace.identify(session, Identity("ann", frozenset({"crew"})))
    assert session.limits.messages_burst == 7
    world.clock.advance(1000)
    assert not session.ended


def test_it_ends_so_long_after_the_last_message_and_no_later() -> None:
    world = idle_world()
    session = world.namespace.open("websocket", ListSink())
    world.clock.advance(8)
    session.budget.spend(10)
    world.clock.advance(9.9)
    assert not session.ended
    world.clock.advance(0.1)
    assert session.ended


def test_what_is_refused_for_its_size_or_rate_was_sent_all_the_same() -> None:
    world = make_world(limits=Limits(idle_seconds=10, message_bytes=5, messages_burst=1, messages_per_second=0.001))
    session = world.namespace.open("websocket", ListSink())
    for size_bytes in (1, 2, 6):
        world.clock.advance(8)
        with suppress(TidegateError):
            session.budget.spend(size_bytes)
    world.clock.advance(8)
    assert not session.ended


def test_what_devices_and_others_send_keeps_nobody() -> None:
    world = idle_world()
    session = world.namespace.open("websocket", ListSink())
    world.clock.advance(8)
    world.device("lamps/hall", b"on")
    world.namespace.publish(Sending("chat/x", 1), lambda _: None)
    world.clock.advance(2)
    assert session.ended


def test_once_its_request_is_answered_time_runs_again() -> None:
    world = idle_world()
    session = world.namespace.open("websocket", ListSink())
    world.upstream.reply_topic = "replies"
    world.namespace.requests.send(session.id, "devices/fan/commands", {}, lambda _: None, timeout_seconds=25)
    world.clock.advance(24)
    assert not session.ended
    world.clock.advance(11)
    assert session.ended


def test_watching_one_that_has_ended_already_holds_nothing() -> None:
    clock = HandClock()
    world = idle_world(None)
    session = world.namespace.open("websocket", ListSink())
    session.budget.change(Limits(idle_seconds=10))
    session.end()
    watch = IdleWatch(lambda _: False, clock)
    watch.hold(session)
    assert (len(watch), clock.waiting) == (0, 0)


def test_one_timer_watches_it_however_often_its_limits_change() -> None:
    clock = HandClock()
    session = idle_world().namespace.open("websocket", ListSink())
    watch = IdleWatch(lambda _: False, clock)
    for _ in range(3):
        watch.hold(session)
    assert (len(watch), clock.waiting) == (1, 1)
    session.budget.change(Limits(idle_seconds=None))
    watch.hold(session)
    assert (len(watch), clock.waiting) == (0, 0)
