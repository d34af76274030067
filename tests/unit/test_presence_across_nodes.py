"""Presence over several nodes: one order, and what happens when nodes go away and come back."""

from collections.abc import Callable, Iterator

import pytest

from gateway.core.errors import PresenceFull
from gateway.core.presence import Joined, Left, Member, PresenceBounds, Who
from tests.presence_nodes import (
    ANN,
    BOB,
    EVE,
    FAN,
    LAMP,
    LEASE_SECONDS,
    THERE,
    Make,
    PresenceNode,
    PresenceWorld,
    crowd,
    worlds,
)
from tests.real import wait_until
from tests.redis import RedisServer, redis_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("presence")) as running:
        yield running


@pytest.fixture
def make() -> Iterator[Make]:
    with worlds() as made:
        yield made


def test_all_nodes_are_told_the_same_in_one_order_each_change_once(server: RedisServer, make: Make) -> None:
    world, nodes = make(server, bounds=PresenceBounds(grace_seconds=0, members_told=1000))

    def act() -> None:
        for number in range(40):
            for node in nodes:
                node.presence.enter("hall", Who("session", f"{node.life}.{number}"), "s")
                if number % 3 == 0:
                    node.presence.leave("hall", Who("session", f"{node.life}.{number}"), "s")
                node.presence.enter("hall", Who("user", str(number)), node.life)

    world.do(act)
    told = [node.take() for node in nodes]
    assert told[0] == told[1] == told[2]
    assert sum(isinstance(change, Joined) for change in told[0]) == 40 * 3 + 40
    assert sum(isinstance(change, Left) for change in told[0]) == 14 * 3


def test_a_user_at_two_nodes_is_one_and_there_until_the_last_session_ends(server: RedisServer, make: Make) -> None:
    world, (first, second, third) = make(server, bounds=PresenceBounds(grace_seconds=0))
    for node in (first, second):
        world.do(lambda node=node: node.presence.enter("hall", ANN, "s1"))  # type: ignore[misc]
    world.do(lambda: first.presence.leave("hall", ANN, "s1"))
    assert third.take() == [Joined("hall", Member(ANN))]
    world.do(lambda: second.presence.leave("hall", ANN, "s1"))
    assert third.take() == [Left("hall", ANN)]


def test_whose_node_dies_leaves_after_the_grace_period_but_not_who_came_back_elsewhere(
    server: RedisServer, make: Make
) -> None:
    world, nodes = make(server)
    crowd(world, nodes)
    world.kill(nodes[1])
    world.kill(nodes[2])
    world.do(lambda: nodes[0].presence.enter("hall", EVE, "another session"))
    world.advance(4.9)
    assert nodes[0].take() == []
    world.advance(0.2)
    assert nodes[0].take() == [Left("hall", BOB)]
    assert world.attendees(nodes[0], "hall").members == (Member(ANN), Member(EVE), Member(FAN))


def test_of_nodes_that_died_while_nobody_was_there_the_next_one_takes_out_what_they_had(
    server: RedisServer, make: Make
) -> None:
    world, nodes = make(server)
    crowd(world, nodes)
    for node in nodes:
        world.loop.run_until_complete(node.die())
    world.nodes.clear()
    world.lives.clear()
    node = world.join()
    assert world.attendees(node, "hall").members == THERE
    node.take()
    world.do(world.hear)
    world.advance(5.1)
    assert {change.who for change in node.take() if isinstance(change, Left)} == {ANN, BOB, EVE}


def test_devices_that_arent_heard_of_again_after_all_nodes_were_away_are_forgotten(
    server: RedisServer, make: Make
) -> None:
    world, (node,) = make(server, 1)
    for device in (FAN, LAMP):
        world.do(lambda device=device: node.presence.enter("hall", device, "plant t"))  # type: ignore[misc]
    world.loop.run_until_complete(node.die())
    world.nodes.clear()
    world.lives.clear()
    with server.client() as client:
        assert 0 < client.pttl(world.key("presence:alive")) <= LEASE_SECONDS * 1000
        client.delete(world.key("presence:alive"))  # as it is after that time
    node = world.join()
    assert world.attendees(node, "hall").members == (Member(FAN), Member(LAMP))
    world.do(lambda: node.presence.enter("hall", FAN, "plant t"))
    world.do(world.hear)
    world.advance(5.1)
    assert world.attendees(node, "hall").members == (Member(FAN),)
    world.do(lambda: node.presence.leave("hall", FAN, "plant t", at_once=True))
    assert world.attendees(node, "hall").members == ()


def test_nobody_is_taken_out_by_a_list_that_is_younger_than_a_lease_or_misses_them_once(
    server: RedisServer, make: Make
) -> None:
    world, nodes = make(server, bounds=PresenceBounds(grace_seconds=0))
    crowd(world, nodes)
    known = world.lives.pop(nodes[1].life)
    world.do(nodes[0].list.hear)
    world.lives[nodes[1].life] = known
    world.do(nodes[0].list.hear)
    del world.lives[nodes[1].life]
    nodes[0].list.is_settled = False
    for _ in range(3):
        world.do(nodes[0].list.hear)
    assert nodes[0].take() == []


def test_a_node_that_was_taken_for_gone_enters_its_sessions_anew_and_nobody_is_told(
    server: RedisServer, make: Make
) -> None:
    world, nodes = make(server)
    crowd(world, nodes)
    known = world.lives.pop(nodes[1].life)
    world.do(nodes[0].list.hear)
    world.do(nodes[0].list.hear)
    world.lives[nodes[1].life] = known
    world.advance(60)
    world.do(lambda: nodes[1].presence.leave("hall", BOB, "bob"))
    assert [node.take() for node in nodes] == [[], [], []]
    world.advance(6)
    assert [node.take() for node in nodes] == [[Left("hall", BOB)]] * 3


def test_a_node_that_isnt_in_the_list_enters_nobody_until_it_is(server: RedisServer, make: Make) -> None:
    world, nodes = make(server, bounds=PresenceBounds(grace_seconds=0))
    crowd(world, nodes)
    world.advance(1)
    nodes[1].list.is_listed = False
    del world.lives[nodes[1].life]

    async def let_it_go() -> None:
        for _ in range(2):
            nodes[0].list.hear()
        await nodes[0].settle()
        await nodes[1].link.call("PING")

    world.loop.run_until_complete(let_it_go())
    assert nodes[0].take() == [Left("hall", BOB)]
    nodes[1].list.is_listed = True
    world.do(nodes[1].list.hear)
    assert nodes[0].take() == [Joined("hall", Member(BOB))]


def test_whose_node_was_cut_off_for_longer_comes_back_as_they_were(server: RedisServer, make: Make) -> None:
    world, nodes = make(server)
    crowd(world, nodes)
    world.do(nodes[1].go_away)
    known = world.lives.pop(nodes[1].life)
    world.do(nodes[0].list.hear)
    world.do(nodes[0].list.hear)
    world.advance(5.1)
    assert nodes[0].take() == [Left("hall", BOB)]
    world.lives[nodes[1].life] = known
    world.do(nodes[1].come_back)
    assert (nodes[0].take(), nodes[1].take()) == ([Joined("hall", Member(BOB, b'"busy"'))], [])


def away_and_back(world: PresenceWorld, node: PresenceNode, meanwhile: Callable[[], None]) -> None:
    """Let a node miss something."""
    world.do(node.go_away)
    world.do(meanwhile)
    world.do(node.come_back)


def test_what_a_node_missed_is_told_there_once_as_a_difference(server: RedisServer, make: Make) -> None:
    world, (first, second) = make(server, 2, PresenceBounds(grace_seconds=0))
    fay, gus = Who("user", "fay"), Who("user", "gus")

    def begin() -> None:
        for who in (ANN, BOB, fay):
            first.presence.enter("hall", who, who.name)

    def meanwhile() -> None:
        for who in (ANN, gus, EVE):
            first.presence.enter("hall", who, f"{who.name} again")
        first.presence.set_state("hall", gus, b"2")
        first.presence.set_state("hall", ANN, b"1")
        for who in (BOB, fay, EVE):
            first.presence.leave("hall", who, who.name)
        first.presence.enter("hall", fay, "fay again")
        first.presence.leave("hall", EVE, "eve again")

    world.do(begin)
    second.take()
    away_and_back(world, second, meanwhile)
    assert second.take() == [
        Joined("hall", Member(ANN, b"1"), updated=True),
        Left("hall", BOB),
        Joined("hall", Member(gus, b"2")),
    ]


def test_what_its_own_sessions_did_while_a_node_was_away_is_told_when_it_is_back(
    server: RedisServer, make: Make
) -> None:
    world, (first, second) = make(server, 2)

    def begin() -> None:
        first.presence.enter("hall", ANN, "s1")
        first.presence.enter("hall", BOB, "s2")

    def meanwhile() -> None:
        first.presence.leave("hall", ANN, "s1")
        first.presence.enter("hall", EVE, "s3")
        first.presence.set_state("hall", EVE, b"1")
        first.presence.set_state("hall", BOB, b"2")

    world.do(begin)
    second.take()
    away_and_back(world, first, meanwhile)
    expected = [
        Joined("hall", Member(EVE)),
        Joined("hall", Member(EVE, b"1"), updated=True),
        Joined("hall", Member(BOB, b"2"), updated=True),
    ]
    assert second.take() == expected
    world.advance(5.1)
    assert second.take() == [Left("hall", ANN)]


def test_who_finds_no_place_as_others_were_faster_is_told_so_later(server: RedisServer, make: Make) -> None:
    world, nodes = make(server, bounds=PresenceBounds(grace_seconds=0, members=2))

    def act() -> None:
        for node in nodes:
            node.presence.enter("hall", Who("session", node.life), "s")

    world.do(act)
    refused = [node for node in nodes if node.refused]
    assert len(refused) == 1
    assert (refused[0].refused, refused[0].counters.drops["presence_full"]) == ([("hall", "s")], 1)
    assert [world.attendees(node, "hall").count for node in nodes] == [2, 2, 2]
    with pytest.raises(PresenceFull):
        world.do(lambda: refused[0].presence.enter("hall", ANN, "s2"))
    other = next(node for node in nodes if not node.refused)
    world.do(lambda: other.presence.leave("hall", Who("session", other.life), "s"))
    world.do(lambda: refused[0].presence.enter("hall", ANN, "s2"))
    assert [world.attendees(node, "hall").count for node in nodes] == [2, 2, 2]


def test_a_node_that_joins_knows_all_in_the_order_in_which_they_came(server: RedisServer, make: Make) -> None:
    world, (first,) = make(server, 1, PresenceBounds(members_told=3000))

    def fill() -> None:
        for number in range(1300):
            who = Who("member", str(number * 7919 % 1300))
            first.presence.enter("hall", who, "s")
            if number % 100 == 0:
                first.presence.set_state("hall", who, b"%d" % number)
            first.presence.enter("hall", Who("device", str(number)), f"plant {number}")

    world.do(fill)
    second = world.join()
    assert world.attendees(second, "hall") == world.attendees(first, "hall")
    assert world.attendees(second, "hall").count == 2600
    assert second.take() == [Joined("hall", member) for member in world.attendees(first, "hall").members or ()]
    world.kill(first)
    world.advance(5.1)
    wait_until(lambda: world.attendees(second, "hall").count == 1300, "all are taken out, some at a time")
