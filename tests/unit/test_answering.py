"""`subscribed` with more last values than one object says."""

from typing import Any

import orjson
import pytest

from gateway.core import recovery
from gateway.core.answering import PART_BYTES, STALE_SECONDS
from gateway.core.session import Session
from gateway.core.wire_requests import Subscribe
from tests.unit.conftest import ListSink, World, make_world
from tests.unit.test_recovery import HISTORY, pause, publish, unpause

VALUE = "x" * 3000


def filled(count: int = 40) -> World:
    """A gateway whose rooms have more last values than fit into one `subscribed`."""
    world = make_world(rules=HISTORY)
    for number in range(count):
        publish(world, f"kept/{number:02}", [number, VALUE])
    return world


def numbers(sent: dict[str, Any]) -> list[int]:
    return [message["data"][0] for message in sent["last"]]


def slow(world: World, after: int) -> tuple[Session, ListSink]:
    session, sink, _ = world.join()
    sink.session, sink.full_after = session, after
    return session, sink


def test_all_last_values_are_said_once_in_parts_of_which_only_the_last_says_where_to_come_back_to() -> None:
    world = filled()
    session, sink, _ = world.join()
    world.namespace.subscribe(session, Subscribe("id", ("kept/#",), None))
    parts: list[Any] = sink.take()
    assert len(parts) > 5
    assert sorted(number for part in parts for number in numbers(part)) == list(range(40))
    assert all(len(orjson.dumps(part)) < PART_BYTES + 1000 for part in parts)
    assert {(part["type"], part["room"], part["recovered"]) for part in parts} == {("subscribed", "kept/#", False)}
    assert [part.get("more") for part in parts] == [True] * (len(parts) - 1) + [None]
    assert [part.get("cursor") for part in parts] == [None] * (len(parts) - 1) + ["epoch-40"]
    assert [part.get("id") for part in parts] == [None] * (len(parts) - 1) + ["id"]


def test_a_value_larger_than_a_part_is_one_of_its_own() -> None:
    world = make_world(rules=HISTORY)
    for room, size in (("kept/a", 10), ("kept/b", 3 * PART_BYTES), ("kept/c", 10)):
        publish(world, room, "x" * size)
    session, sink, _ = world.join()
    world.subscribe(session, "kept/#")
    sent: list[Any] = sink.take()
    assert sorted(len(part["last"]) for part in sent) == [1, 1, 1]


def test_who_takes_no_more_in_the_midst_waits_with_one_part_and_hears_the_others_then_what_came_meanwhile() -> None:
    world = filled()
    session, sink = slow(world, after=2)
    world.subscribe(session, "kept/#")
    assert len(sink.written) == 2
    publish(world, "kept/00", ["meanwhile"])
    assert len(sink.written) == 2
    sink.full_after = 4
    unpause(sink, session)
    assert len(sink.written) == 4
    sink.full_after = 10**9
    unpause(sink, session)
    *parts, message = sink.take()
    assert sorted(number for part in parts for number in numbers(part)) == list(range(40))
    assert (message["type"], message["data"]) == ("message", ["meanwhile"])


def test_other_rooms_of_the_same_client_wait_and_lack_nothing() -> None:
    world = filled()
    session, sink = slow(world, after=3)
    world.subscribe(session, "kept/other")
    world.subscribe(session, "kept/#")
    publish(world, "kept/other", 1)
    world.subscribe(session, "kept/third")
    sink.full_after = 10**9
    unpause(sink, session)
    sent: list[Any] = sink.take()
    rooms = [(each["type"], each["room"]) for each in sent if not each.get("more")]
    assert rooms == [
        ("subscribed", "kept/other"),
        ("subscribed", "kept/#"),
        ("subscribed", "kept/third"),
        ("message", "kept/other"),
    ]


def test_who_is_behind_hears_only_the_last_values_that_it_was_not_told() -> None:
    world = filled(count=3)
    session, sink, _ = world.join()
    world.subscribe(session, "#")
    sink.take()
    pause(sink, session)
    publish(world, "none/x", "gone")
    publish(world, "kept/01", [100])
    unpause(sink, session)
    (sent,) = sink.take()
    assert (sent["type"], sent["recovered"]) == ("subscribed", False)
    assert numbers(sent) == [100]


def test_the_parts_are_over_in_the_end_though_something_is_lost_all_the_time() -> None:
    world = filled()
    session, sink = slow(world, after=1)
    world.subscribe(session, "#")
    heard: list[Any] = []
    for _ in range(30):
        publish(world, "none/x", "gone")
        heard += sink.take()
        unpause(sink, session)
    last = [number for sent in heard if sent["type"] == "subscribed" for number in numbers(sent)]
    assert sorted(last) == list(range(40))


def test_what_was_listed_long_ago_is_listed_anew_and_nothing_is_lacking_in_the_end() -> None:
    world = filled()
    session, sink = slow(world, after=2)
    world.subscribe(session, "kept/#")
    heard: list[Any] = sink.take()
    for number in (0, 39):
        publish(world, f"kept/{number:02}", [number + 100, VALUE])
    world.clock.advance(STALE_SECONDS + 1)
    sink.full_after = 10**9
    unpause(sink, session)
    heard += sink.take()
    values = [number for sent in heard if sent["type"] == "subscribed" for number in numbers(sent)]
    assert sorted(values) == sorted([*range(39), 100, 139])
    assert [sent["data"][0] for sent in heard if sent["type"] == "message"] == []
    assert heard[-1]["cursor"] == "epoch-42"


def test_who_waits_longest_is_ended_once_too_much_is_to_be_told_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    world = filled()
    monkeypatch.setattr(recovery, "MAXIMUM_UNTOLD", 60)
    (first, _), (second, sink) = slow(world, after=1), slow(world, after=1)
    reads, _, _ = world.join()
    for session in (first, second, reads):
        world.subscribe(session, "kept/#")
    assert (first.ended, second.ended, reads.ended) == (True, False, False)
    sink.full_after = 10**9
    unpause(sink, second)
    third, _ = slow(world, after=1)
    world.subscribe(third, "kept/#")
    assert (second.ended, third.ended) == (False, False)
