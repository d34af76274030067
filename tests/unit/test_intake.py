from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.counters import Counters
from gateway.core.delivery import Delivery
from gateway.core.intake import Intake
from gateway.core.namespace import Namespace
from gateway.core.publishing import Sending
from gateway.core.routing import Direction, PayloadKind, RouteSpec
from gateway.core.wire_requests import Subscribe
from tests.unit.conftest import ListSink, ListUpstream, last_values, make_namespace

SHARED = RouteSpec("shared/{x}", "rooms/{x}")
A_ROUTES = [RouteSpec("a/{x}", "rooms/{x}"), SHARED]
B_ROUTES = [RouteSpec("b/{x}", "rooms/{x}", qos=1), RouteSpec("shared/{x}", "rooms/{x}", qos=2)]


def make(*tables: list[RouteSpec]) -> tuple[Intake, list[Namespace]]:
    namespaces = [make_namespace(f"n{number}", routes)[0] for number, routes in enumerate(tables)]
    for namespace in namespaces:
        namespace.connect({"embedded": ListUpstream()})
    return Intake(namespaces, Counters()), namespaces


def watch(namespace: Namespace) -> ListSink:
    sink = ListSink()
    namespace.subscribe(namespace.open("websocket", sink), Subscribe(None, ("#",), None))
    sink.take()
    return sink


def heard(sink: ListSink) -> list[tuple[Any, Any]]:
    return [(message["room"], message["data"]) for message in sink.take()]


def test_an_upstream_is_asked_for_what_all_namespaces_want_with_the_highest_quality_of_service() -> None:
    to_devices = [RouteSpec("a/{x}", "out/{x}", Direction.TO_DEVICE, qos=2)]

    for tables in ([A_ROUTES, B_ROUTES, to_devices], [to_devices, B_ROUTES, A_ROUTES]):
        intake, _ = make(*tables)
        assert intake.subscriptions("embedded") == {"a/+": 0, "shared/+": 2, "b/+": 1}


def test_a_message_goes_to_every_namespace_that_has_a_route_for_it_and_to_no_other() -> None:
    intake, (a, b) = make(A_ROUTES, B_ROUTES)
    in_a, in_b = watch(a), watch(b)

    for topic, value in (("a/x", b"1"), ("b/x", b"2"), ("shared/x", b"3")):
        intake.receive(Delivery("embedded", topic, value, False), lambda: None)

    assert heard(in_a) == [("rooms/x", 1), ("rooms/x", 3)]
    assert heard(in_b) == [("rooms/x", 2), ("rooms/x", 3)]
    assert [len(last_values(namespace, "rooms/x")) for namespace in (a, b)] == [2, 2]


def test_a_devices_message_counts_once_however_many_namespaces_want_it() -> None:
    intake, namespaces = make(A_ROUTES, B_ROUTES)

    intake.receive(Delivery("embedded", "shared/x", b"12345", False), lambda: None)

    assert (intake.counters.device_messages, intake.counters.device_bytes) == ({"embedded": 1}, 5)
    assert all(namespace.counters.device_messages == {} for namespace in namespaces)


def test_a_message_is_unrouted_only_if_no_namespace_has_a_route_for_it() -> None:
    intake, namespaces = make(A_ROUTES, B_ROUTES)

    for topic in ("a/x", "b/x", "elsewhere/x"):
        intake.receive(Delivery("embedded", topic, b"1", False), lambda: None)

    assert intake.counters.drops == Counter(unrouted=1)
    assert all(namespace.counters.drops == {} for namespace in namespaces)


def test_a_bad_payload_is_the_concern_of_the_namespace_whose_route_says_so(caplog: pytest.LogCaptureFixture) -> None:
    intake, (a, b) = make([SHARED], [RouteSpec("shared/{x}", "rooms/{x}", payload=PayloadKind.JSON)])
    in_a, in_b = watch(a), watch(b)

    intake.receive(Delivery("embedded", "shared/x", b"{", False), lambda: None)

    assert (heard(in_a), heard(in_b)) == ([("rooms/x", "{")], [])
    assert (a.counters.drops, b.counters.drops, intake.counters.drops) == ({}, {"bad_payload": 1}, {})
    assert "namespace n1, route 0 (shared/{x})" in caplog.text


def test_a_fault_in_one_namespace_keeps_no_message_from_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    intake, (a, b) = make(A_ROUTES, B_ROUTES)
    in_b = watch(b)
    monkeypatch.setattr(a, "receive", lambda *_, **__: 1 / 0)

    stored: list[None] = []
    intake.receive(Delivery("embedded", "shared/x", b"1", False), lambda: stored.append(None))

    assert (intake.faults, len(stored)) == ({"embedded": 1}, 1)
    assert "ZeroDivisionError" in caplog.text
    assert heard(in_b) == [("rooms/x", 1)]
    assert intake.counters.drops == {}


def test_a_message_is_acknowledged_once_all_namespaces_have_stored_it(monkeypatch: pytest.MonkeyPatch) -> None:
    intake, namespaces = make(A_ROUTES, B_ROUTES)
    waiting: list[Callable[[], None]] = []

    def keep_waiting(_: Delivery, stored: Callable[[], None]) -> bool:
        waiting.append(stored)
        return True

    for namespace in namespaces:
        monkeypatch.setattr(namespace, "receive", keep_waiting)
    stored: list[None] = []
    intake.receive(Delivery("embedded", "shared/x", b"1"), lambda: stored.append(None))
    for number, call in enumerate((waiting[0], waiting[0], waiting[1], waiting[1])):
        call()
        assert len(stored) == (number > 1)


def test_what_clients_say_stays_in_their_namespace() -> None:
    _, (a, b) = make(A_ROUTES, B_ROUTES)
    in_a, in_b = watch(a), watch(b)

    a.publish(Sending("chat/hall", "hi"), lambda _: None)

    assert (heard(in_a), heard(in_b)) == ([("chat/hall", "hi")], [])
    assert last_values(b, "#") == []


@given(st.lists(st.tuples(st.sampled_from(["a/x", "b/x", "shared/x", "else/x"]), st.integers(), st.booleans())))
def test_a_namespace_hears_what_it_would_hear_alone(messages: list[tuple[str, int, bool]]) -> None:
    together, (a, b) = make(A_ROUTES, B_ROUTES)
    alone_a, (only_a,) = make(A_ROUTES)
    alone_b, (only_b,) = make(B_ROUTES)
    sinks = [watch(namespace) for namespace in (a, only_a, b, only_b)]

    for topic, value, retained in messages:
        for intake in (together, alone_a, alone_b):
            intake.receive(Delivery("embedded", topic, str(value).encode(), retained), lambda: None)

    in_a, in_only_a, in_b, in_only_b = (heard(sink) for sink in sinks)
    assert (in_a, in_b) == (in_only_a, in_only_b)
    unrouted = sum(topic == "else/x" for topic, _, _ in messages)
    assert together.counters.drops["unrouted"] == unrouted


def test_a_topic_with_too_many_levels_is_dropped_and_counted() -> None:
    intake, (namespace,) = make([RouteSpec("{all...}", "{all...}")])
    sink = watch(namespace)

    stored: list[None] = []
    for levels in (129, 128):
        intake.receive(Delivery("embedded", "/".join("a" * levels), b"1"), lambda: stored.append(None))

    assert len(stored) == 2
    assert heard(sink) == [("/".join("a" * 128), 1)]
    assert intake.counters.drops == {"too_deep": 1}
