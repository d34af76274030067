"""Presence over several nodes when Redis is away, comes back with its data, without, or with older ones."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.presence import Attendees, Joined, Left, Member, PresenceBounds, Who
from tests.presence_nodes import ANN, BOB, EVE, FAN, LAMP, LEASE_SECONDS, THERE, Make, PresenceNode, crowd, worlds
from tests.real import DEADLINE_SECONDS
from tests.redis import RedisServer, redis_server

GONE_SECONDS = LEASE_SECONDS + 5.0 + 0.1
"""After so long whoever was put back and isn't there has left."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("presence")) as running:
        yield running


@pytest.fixture
def make() -> Iterator[Make]:
    with worlds() as made:
        yield made


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, that keeps all that it has said."""
    with redis_server(tmp_path, "appendonly yes", "appendfsync always") as running:
        yield running


def test_while_redis_is_away_nothing_is_told_and_what_is_known_is_answered_at_once(
    server: RedisServer, make: Make
) -> None:
    world, (node,) = make(server, 1)
    world.do(lambda: node.presence.enter("hall", ANN, "s1"))
    node.take()
    world.do(node.go_away)
    found: list[Attendees] = []
    node.presence.enter("hall", BOB, "s2")
    node.presence.ask("hall", found.append)
    assert (found, node.take()) == ([Attendees(1, (Member(ANN),))], [])
    world.do(node.come_back)
    assert node.take() == [Joined("hall", Member(BOB))]


def test_who_came_back_while_redis_was_away_was_never_gone(server: RedisServer, make: Make) -> None:
    world, nodes = make(server)
    crowd(world, nodes)
    world.do(lambda: nodes[0].presence.leave("hall", ANN, "ann"))
    for node in nodes:
        world.do(node.go_away)
    world.advance(20)
    with server.client() as client:
        client.delete(world.key("presence:alive"))
    world.do(nodes[1].come_back)
    world.advance(1)
    world.do(lambda: nodes[1].presence.enter("hall", ANN, "another"))
    world.do(nodes[0].come_back)
    world.do(nodes[2].come_back)
    world.advance(60)
    assert [node.take() for node in nodes] == [[], [], []]


def test_who_comes_back_while_redis_is_paused_is_heard_before_a_grace_period_ends(
    own_server: RedisServer, make: Make
) -> None:
    world, (first, second) = make(own_server, 2)
    world.do(lambda: first.presence.enter("hall", ANN, "s1"))
    world.do(lambda: first.presence.leave("hall", ANN, "s1"))
    world.shift(6)

    async def pause() -> None:
        own_server.send_signal(signal.SIGSTOP)
        try:
            world.clock.advance(6)
            await asyncio.sleep(0.05)  # what is sent at first is there at first
            second.presence.enter("hall", ANN, "s2")
            await asyncio.sleep(0.05)
        finally:
            own_server.send_signal(signal.SIGCONT)

    world.do(pause)
    assert second.take() == [Joined("hall", Member(ANN))]


def test_a_redis_that_has_kept_its_data_changes_nothing(own_server: RedisServer, make: Make) -> None:
    world, nodes = make(own_server)
    crowd(world, nodes)
    own_server.kill()
    own_server.start()
    world.advance(60)
    assert [node.take() for node in nodes] == [[], [], []]
    assert [world.attendees(node, "hall").members for node in nodes] == [THERE] * 3


def test_a_newcomer_that_is_first_after_redis_was_away_loses_nobody(server: RedisServer, make: Make) -> None:
    world, nodes = make(server)
    crowd(world, nodes)
    for node in nodes:
        world.do(node.go_away)
    with server.client() as client:
        client.delete(world.key("presence:alive"))  # as it is after a lease
    newcomer = world.join()
    for node in nodes:
        world.do(node.come_back)
    world.do(world.hear)
    world.advance(GONE_SECONDS)
    assert [node.take() for node in nodes] == [[], [], []]
    assert world.attendees(newcomer, "hall").members == THERE
    world.do(lambda: nodes[0].presence.leave("hall", FAN, "plant status/fan", at_once=True))
    assert newcomer.take()[-1] == Left("hall", FAN)


@pytest.mark.parametrize("newcomer", [False, True])
def test_a_redis_without_its_data_is_told_by_a_node_that_knew_it(
    own_server: RedisServer, make: Make, newcomer: bool
) -> None:
    world, nodes = make(own_server)
    crowd(world, nodes)
    for node in nodes:
        world.do(node.go_away)
    own_server.kill()
    own_server.forget()
    own_server.start()
    if newcomer:
        assert world.attendees(world.join(), "hall").members == ()
    nodes[2].presence.leave("hall", EVE, "eve")
    for node in nodes:  # one after the other: those who come later aren't missed meanwhile
        world.do(node.come_back)
    assert [node.take() for node in nodes] == [[], [], []]
    world.advance(GONE_SECONDS)
    assert [node.take() for node in nodes] == [[Left("hall", EVE)]] * 3
    assert [world.attendees(node, "hall").members for node in world.nodes] == [(THERE[0], THERE[1], THERE[3])] * len(
        world.nodes
    )
    world.do(lambda: nodes[0].presence.leave("hall", FAN, "plant status/fan", at_once=True))
    assert nodes[1].take() == [Left("hall", FAN)]


def test_a_node_that_dies_while_it_puts_back_what_it_knew_is_followed_by_another(
    own_server: RedisServer, make: Make
) -> None:
    world, nodes = make(own_server)
    crowd(world, nodes)
    for node in nodes:
        world.do(node.go_away)
    own_server.kill()
    own_server.forget()
    own_server.start()
    with own_server.client() as client:  # as the script leaves it behind
        client.hset(world.key("presence"), mapping={"life": "new", "restorer": "dead/1", "deadline": 10**15})
        nodes[0].come_back()
        world.loop.run_until_complete(_asks_again(nodes[0]))
        client.hset(world.key("presence"), "deadline", 1)
    world.do(lambda: None)
    world.do(nodes[1].come_back)
    world.do(nodes[2].come_back)
    assert [node.take() for node in nodes] == [[], [], []]
    assert world.attendees(nodes[0], "hall").members == THERE


async def _asks_again(node: PresenceNode) -> None:
    """Until a node has been told to wait, and asks once more."""
    hellos = 0
    send = node.link.send

    def count(done: Any, *command: Any) -> None:
        nonlocal hellos
        hellos += node.presence._scripts.hello.sha in command
        send(done, *command)

    node.link.send = count  # type: ignore[method-assign]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while hellos < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not node.presence._is_loaded


def test_a_flushed_redis_is_noticed_by_the_next_change(server: RedisServer, make: Make) -> None:
    world, nodes = make(server)
    crowd(world, nodes)
    with server.client() as client:
        client.delete(*client.keys(f"{world.prefix}:*"))
    world.do(lambda: nodes[0].presence.enter("attic", ANN, "s9"))
    world.do(lambda: nodes[1].presence.enter("attic", ANN, "s9"))
    world.do(lambda: nodes[2].presence.enter("attic", ANN, "s9"))
    assert [node.take() for node in nodes] == [[Joined("attic", Member(ANN))]] * 3
    world.advance(GONE_SECONDS)
    assert [node.take() for node in nodes] == [[], [], []]


def test_a_redis_that_comes_back_older_than_it_was_is_told_the_newest_words(tmp_path: Path, make: Make) -> None:
    with redis_server(tmp_path) as server:
        world, nodes = make(server)
        crowd(world, nodes)
        with server.client() as client:
            client.save()
        world.do(lambda: nodes[0].presence.leave("hall", FAN, "plant status/fan", at_once=True))
        world.do(lambda: nodes[1].presence.set_state("hall", BOB, b"2"))
        assert [node.take() for node in nodes] == [
            [Left("hall", FAN), Joined("hall", Member(BOB, b"2"), updated=True)]
        ] * 3
        server.kill()
        server.start()
        world.do(lambda: None)
        assert world.attendees(nodes[2], "hall").members == (Member(ANN), Member(BOB, b"2"), Member(EVE))


def test_a_devices_word_that_a_node_couldnt_pass_on_holds_unless_another_has_a_newer_one(
    server: RedisServer, make: Make
) -> None:
    world, (first, second) = make(server, 2)
    for device in (FAN, LAMP):
        world.do(lambda device=device: first.presence.enter("hall", device, "t"))  # type: ignore[misc]
    first.take()
    world.do(second.go_away)
    for device in (FAN, LAMP):
        second.presence.leave("hall", device, "t", at_once=True)
    world.advance(1)
    world.do(lambda: first.presence.leave("hall", FAN, "t", at_once=True))
    world.do(lambda: first.presence.enter("hall", FAN, "t"))
    first.take()
    world.do(second.come_back)
    assert first.take() == [Left("hall", LAMP)]


def test_a_state_that_wasnt_passed_on_isnt_that_of_who_came_later(server: RedisServer, make: Make) -> None:
    world, (first, second) = make(server, 2, PresenceBounds(grace_seconds=0))
    world.do(lambda: second.presence.enter("hall", ANN, "s1"))
    world.do(second.go_away)
    second.presence.set_state("hall", ANN, b"1")
    second.presence.leave("hall", ANN, "s1")
    world.do(second.come_back)
    world.do(lambda: first.presence.enter("hall", ANN, "s2"))
    assert world.attendees(first, "hall").members == (Member(ANN),)
    assert len(second.presence._words) == 0


def test_words_that_nobody_can_be_told_have_a_bound_and_are_counted(server: RedisServer, make: Make) -> None:
    world, (node,) = make(server, 1, PresenceBounds(members=3))
    world.do(node.go_away)
    for number in range(5):
        node.presence.enter("hall", Who("device", str(number)), "t")
    assert (len(node.presence._words), node.counters.drops["presence_unsaid"]) == (3, 2)
    world.do(node.come_back)
    assert world.attendees(node, "hall").count == 3
