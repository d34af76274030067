"""The way from a namespace to a webhook: a slow client that the log stands behind."""

from random import Random
from typing import Any

import orjson

from gateway.core.access import Access
from gateway.core.errors import SlowConsumer
from gateway.core.identity import Identity
from gateway.core.limits import Limits
from gateway.core.message import Audience
from gateway.core.publishing import Sending
from gateway.core.retention import Retention
from gateway.core.room_rules import RoomRule
from gateway.core.webhook_tap import Tap
from gateway.core.webhooks import EventName, Webhook, WebhookOptions
from tests.unit.conftest import ListSink, World, make_world

RULES = [RoomRule("chat/#", Retention(True, 1000), presence=True), RoomRule("bare/#", Retention(last=False))]


class Tapped:
    """A webhook of a world."""

    def __init__(self, *events: EventName, limits: Limits | None = None, **options: Any) -> None:
        self.world: World = make_world(limits or Limits(idle_seconds=None, publishes_per_room_burst=10**6), rules=RULES)
        namespace, clock = self.world.namespace, self.world.clock
        wanted = WebhookOptions("hook", frozenset(events), options.pop("rooms", ("chat/#", "bare/#")), **options)
        self.webhook = Webhook(wanted, "default", clock, Random(3), namespace.counters)
        self.tap = Tap(namespace, self.webhook, clock, Random(4))
        self.tap.open()

    def publish(self, *values: object, room: str = "chat/hall", **more: Any) -> None:
        for value in values:
            sending = Sending(room, value, **more)
            self.world.namespace.publish(sending, lambda error: None, self.world.namespace.access.of(None))

    def drain(self) -> list[dict[str, Any]]:
        """All that is told until nothing waits."""
        told: list[dict[str, Any]] = []
        while (call := self.webhook.call()) is not None:
            told += orjson.loads(call.body)["data"]["events"]
            self.webhook.delivered()
            self.world.clock.advance(0)
        return told

    def numbers(self) -> list[Any]:
        return [event["data"] for event in self.drain()]


def test_messages_of_its_rooms_are_told_as_clients_are_told_them() -> None:
    tapped = Tapped("message")
    tapped.publish(1)
    tapped.publish(2, room="elsewhere")
    (event,) = tapped.drain()
    assert event == {
        "type": "message", "room": "chat/hall", "data": 1, "cursor": "epoch-1", "time": event["time"],
    }  # fmt: skip


def test_what_was_there_before_is_not_told() -> None:
    world = make_world(rules=RULES)
    world.namespace.publish(Sending("chat/hall", 1), lambda error: None, world.namespace.access.of(None))
    webhook = Webhook(WebhookOptions("h", rooms=("#",)), "default", world.clock, Random(3), world.counters)
    Tap(world.namespace, webhook, world.clock, Random(4)).open()
    assert len(webhook) == 0


def test_it_is_no_client_in_any_room_or_count() -> None:
    tapped = Tapped("message", "joined", "left", rooms=("chat/hall",))
    assert tapped.world.namespace.sessions == {}
    assert not any(tapped.world.namespace.attendance.presence.kinds.values())


def test_messages_for_one_session_or_user_are_not_told() -> None:
    tapped = Tapped("message")
    tapped.publish(1, audience=Audience(user="ann"))
    tapped.publish(2, audience=Audience(sender=False))
    assert tapped.numbers() == [2]


def test_limits_of_clients_bandwidth_do_not_hold_for_it() -> None:
    tapped = Tapped("message", limits=Limits(bytes_per_second_out=1, publishes_per_room_burst=10**6))
    tapped.publish(*range(100))
    assert tapped.numbers() == list(range(100))


def test_while_much_waits_messages_wait_in_the_log() -> None:
    tapped = Tapped("message", queue_events=10, batch_events=2)
    tapped.publish(*range(500))
    assert len(tapped.webhook) == 5
    assert tapped.numbers() == list(range(500))
    tapped.publish(500)
    assert tapped.numbers() == [500]
    assert not tapped.world.counters.drops


def test_a_webhook_that_waits_for_long_comes_back_with_its_cursor() -> None:
    tapped = Tapped("message", queue_events=10)
    tapped.publish(*range(20))
    tapped.world.clock.advance(1000)
    tapped.publish(*range(20, 300))
    assert len(tapped.world.namespace.recovery) == 0
    assert tapped.numbers() == list(range(300))
    assert SlowConsumer.code not in tapped.world.counters.closed


def test_where_the_log_does_not_reach_it_is_said() -> None:
    tapped = Tapped("message", queue_events=10, rooms=("bare/#",))
    tapped.publish(*range(20), room="bare/x")
    told = tapped.drain()
    assert [event.get("data") for event in told[:5]] == list(range(5))
    assert [(event["type"], event["recovered"]) for event in told[5:]] == [("subscribed", False)]
    assert tapped.tap.feed.cursor == "epoch-20"  # so it isn't said again


def test_what_is_too_large_for_the_queue_is_told_all_the_same() -> None:
    tapped = Tapped("message", queue_bytes=1000)
    tapped.publish("x" * 5000, "y" * 5000, 3)
    assert [str(value)[0] for value in tapped.numbers()] == ["x", "y", "3"]


def test_sessions_are_told_once_it_is_known_who_they_are() -> None:
    tapped = Tapped("connect", "disconnect")
    namespace = tapped.world.namespace
    namespace.access = Access()
    session = namespace.open("sse", ListSink(), namespace.access.of(None))
    assert tapped.drain() == []
    namespace.identify(session, Identity("ann", frozenset({"guest"})))
    namespace.identify(session, Identity("ann", frozenset({"guest"})))
    tapped.world.clock.advance(2.5)
    session.end(SlowConsumer("too slow"))
    connect, disconnect = tapped.drain()
    known = {"session": session.id, "transport": "sse", "identity": {"user": "ann", "roles": ["guest"]}}
    assert connect == {"type": "connect", **known, "time": connect["time"]}
    assert disconnect == {
        "type": "disconnect", **known, "time": disconnect["time"], "seconds": 2.5, "code": "slow_consumer",
    }  # fmt: skip


def test_a_session_that_never_said_who_it_is_is_not_told() -> None:
    tapped = Tapped("connect", "disconnect")
    namespace = tapped.world.namespace
    namespace.open("websocket", ListSink(), namespace.access.of(None)).end()
    assert tapped.drain() == []


def test_only_the_events_that_are_wanted_are_told() -> None:
    tapped = Tapped("disconnect", "left")
    world = tapped.world
    session, _, _ = world.join()
    world.subscribe(session, "chat/hall")
    tapped.publish(1)
    session.end()
    world.clock.advance(10)
    assert [event["type"] for event in tapped.drain()] == ["disconnect", "left"]


def test_presence_of_other_rooms_is_not_told() -> None:
    tapped = Tapped("joined", rooms=("chat/a",))
    session, _, _ = tapped.world.join()
    tapped.world.subscribe(session, "chat/b")
    tapped.world.subscribe(session, "chat/a")
    assert [(event["type"], event["room"]) for event in tapped.drain()] == [("joined", "chat/a")]


def test_nothing_is_told_after_the_end_and_nothing_left_behind() -> None:
    tapped = Tapped("message", "joined", "left", "connect", "disconnect")
    tapped.tap.close()
    tapped.tap.close()
    session, _, _ = tapped.world.join()
    tapped.world.subscribe(session, "chat/hall")
    tapped.publish(1)
    session.end()
    assert tapped.drain() == []
    assert tapped.world.namespace.attendance.watchers == []
    assert tapped.world.namespace.engine.holdings.watched == 0


def test_an_endpoint_that_is_gone_is_left_alone() -> None:
    tapped = Tapped("message")
    tapped.publish(1)
    tapped.webhook.call()
    tapped.webhook.abandon("answers 410")
    tapped.publish(2)
    assert tapped.world.counters.drops["webhook_gone"] == 1
    assert tapped.world.namespace.engine.holdings.watched == 0
