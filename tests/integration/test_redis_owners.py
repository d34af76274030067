"""Of those who have owned an upstream only the latest is heard."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.redis import RedisServer, redis_server
from tests.redis_node import Node, node, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def prefix(numbers: Iterator[int]) -> str:
    """Keys of a test's own."""
    return f"test{next(numbers)}"


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return count()


@pytest.fixture
async def three(server: RedisServer, prefix: str) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(node(server.port, "a/#", prefix=prefix)) for _ in range(3)]


async def test_only_the_latest_owner_of_an_upstream_is_heard(three: list[Node]) -> None:
    one, two, _ = three
    owned: list[str] = []
    one.engine.own("plant", 1, lambda: owned.append("one"), lambda: owned.append("one fenced"))
    await until(lambda: owned)
    one.publish("a/x", b"1", ("plant", 7, b"seven"), upstream="plant")
    await until(lambda: one.said == [None])
    two.engine.own("plant", 2, lambda: owned.append("two"), lambda: owned.append("two fenced"))
    await until(lambda: len(owned) == 2)
    assert list(two.engine.receipts.entries()) == [("plant", 7, b"seven")]

    one.publish("a/x", b"2", ("plant", 8, b"eight"), upstream="plant")
    one.publish("a/x", b"3", upstream="plant")
    two.publish("a/x", b"4", ("plant", 8, b"eight"), upstream="plant")
    one.publish("a/x", b"5")  # a browser's
    await until(lambda: len(one.delivered) == 3)
    assert {*one.numbers} == {1, 4, 5}
    assert one.said == [None, None]  # the broker isn't told that it has the others
    assert owned == ["one", "two", "one fenced", "one fenced"]
    assert one.counters.drops["fenced"] == 2

    two.engine.acknowledged("plant", 7)
    await until(lambda: not two.engine.waiting)
    two.publish("a/x", b"6")
    await until(lambda: len(two.delivered) == 4)
    one.engine.own("plant", 3, lambda: owned.append("one again"), lambda: None)
    await until(lambda: owned[-1] == "one again")
    assert list(one.engine.receipts.entries()) == [("plant", 8, b"eight")]
    one.engine.forget("plant")
    one.publish("a/x", b"7")
    await until(lambda: len(one.delivered) == 5)
    two.engine.own("plant", 4, lambda: owned.append("two again"), lambda: None)
    await until(lambda: owned[-1] == "two again")
    assert list(two.engine.receipts.entries()) == []


async def own(node: Node, token: int) -> list[str]:
    """Let a node own the upstream `plant`; what it is told later."""
    told: list[str] = []
    node.engine.own("plant", token, lambda: told.append("owns"), lambda: told.append("fenced"))
    await until(lambda: told)
    return told


async def test_who_comes_with_an_earlier_token_doesnt_own_it(three: list[Node]) -> None:
    one, two, _ = three
    assert await own(one, 5) == ["owns"]
    assert await own(two, 4) == ["fenced"]


async def test_an_earlier_owner_can_forget_nothing_of_what_the_later_one_needs(three: list[Node]) -> None:
    """It may have been paused, with the broker's answers unread; the identifier means another packet since."""
    one, two, third = three
    await own(one, 1)
    for packet_id in (7, 8):
        one.publish("a/x", b"1", ("plant", packet_id, b"digest"), upstream="plant")
    await until(lambda: len(one.said) == 2)
    await own(two, 2)
    one.engine.acknowledged("plant", 7)
    one.engine.forget("plant")
    one.publish("a/x")
    await until(lambda: len(one.said) == 3)
    await own(third, 3)
    assert list(third.engine.receipts.entries()) == [("plant", 7, b"digest"), ("plant", 8, b"digest")]


async def test_what_was_refused_is_not_taken_for_stored_when_the_answer_is_lost(
    three: list[Node], server: RedisServer
) -> None:
    one, two, _ = three
    told = await own(one, 1)
    one.publish("a/x", b"1", ("plant", 7, b"seven"), upstream="plant")
    await until(lambda: one.said)
    await own(two, 2)
    publishing = one.engine._publishing
    answers: list[Any] = []
    publishing._take = lambda batch, reply: answers.append(reply)  # type: ignore[method-assign]
    one.publish("a/x", b"2", ("plant", 8, b"eight"), upstream="plant")
    one.publish("a/x", b"3")
    await until(lambda: answers)
    del publishing._take
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: told == ["owns", "fenced"])
    await until(lambda: len(one.said) == 2)
    assert sorted(one.numbers) == [1, 3]
    assert sorted(two.numbers) == [1, 3], "what was stored wasn't stored again"


async def test_a_later_owner_is_remembered_though_redis_lost_its_data(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client() as client:
        async with node(server.port, "a") as one, node(server.port, "a") as two:
            told = await own(one, 1)
            await own(two, 2)
            client.flushall()
            two.publish("a", b"1", upstream="plant")
            await until(lambda: two.said == [None])
            one.publish("a", b"2", upstream="plant")
            await until(lambda: told == ["owns", "fenced"])
            assert two.numbers == [1]


async def test_who_owns_it_anew_is_not_told_of_what_it_did_before(three: list[Node]) -> None:
    one, two, _ = three
    before = await own(one, 1)
    await own(two, 2)
    one.publish("a/x", b"1", upstream="plant")
    again = await own(one, 3)
    one.publish("a/x", b"2", upstream="plant")
    await until(lambda: one.said == [None])
    assert one.numbers == [2]
    assert (before, again) == (["owns"], ["owns"])
    assert one.counters.drops["fenced"] == 1
