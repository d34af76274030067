"""Reading the log in Redis by many patterns: nobody else waits long for it, and nothing is left out."""

from collections.abc import Iterator

import pytest

from bridges.redis_answers import named
from bridges.redis_scripts import load
from gateway.core.engine import Wanted
from gateway.core.reading import PRESENT
from gateway.core.retention import Retention
from tests.redis import RedisServer, redis_server
from tests.redis_node import node, until

ROOMS = 3000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.mark.parametrize("what", ["last", "after"])
async def test_one_run_does_only_so_much_however_many_patterns_there_are(server: RedisServer, what: str) -> None:
    """A client may subscribe to a hundred: the log isn't gone through a hundred times while all others wait."""
    async with node(server.port, prefix=what) as one:
        for number in range(ROOMS):
            one.publish(f"r/{number}", retention=Retention(), data=b"x")
        await until(lambda: len(one.said) == ROOMS)
        patterns = [f"+/{number}/#" for number in range(100)]
        words = [word for pattern in patterns for word in (*named(pattern), what, 0, 0)]
        _, _, answers = await one.link.call("EVALSHA", load("read").sha, 1, one.link.key("meta"), 9, 0, *words)
        places = [answer[0 if what == "last" else 1] for answer in answers]
        assert min(places) > 0, "each is read on"
        assert sum(places) <= 20_000
        reading = await one.read_all({pattern: Wanted(0, None if what == "last" else 0) for pattern in patterns})
        told = [m for messages in reading.incomplete.values() for m in messages] or reading.messages
        assert {message.room for message in told} == {f"r/{number}" for number in range(100)}


async def test_one_run_answers_only_so_much_of_large_values(server: RedisServer) -> None:
    async with node(server.port, prefix="large") as one:
        for number in range(200):
            one.publish(f"r/{number}", b"x" * 60_000)
        await until(lambda: len(one.said) == 200)
        for words in (("last", 0, 0), ("after", 0, 0), ("before", 1000, 0)):
            asked = (*named("#"), *words)
            _, _, found = await one.link.call("EVALSHA", load("read").sha, 1, one.link.key("meta"), 999, 0, *asked)
            assert 0 < len(found[0][2]) < 100
        reading = await one.read_all({"#": Wanted(0, None)})
        assert len(reading.incomplete["#"]) == 200
        assert len((await one.read_all({"#": Wanted(0, 0)})).messages) == 200


async def test_what_another_subscription_has_brought_hides_nothing_that_comes_after_it(server: RedisServer) -> None:
    async with node(server.port, prefix="hides") as one:
        for number in range(50):
            one.publish(f"sites/oslo/{number % 3}", b"%d" % number)
        one.publish("sites/bergen/1", b"50")
        await until(lambda: len(one.said) == 51)
        wanted = {"sites/oslo/#": Wanted(0, PRESENT), "sites/#": Wanted(0, 0)}
        reading = await one.read_all(wanted, limit=10)
        assert [message.data for message in reading.messages] == [b"50"]


async def test_a_last_value_is_there_once_however_many_patterns_match_it(server: RedisServer) -> None:
    """A hundred patterns may each match all that is kept."""
    async with node(server.port, prefix="once") as one:
        one.publish("sites/oslo/1")
        await until(lambda: one.said)
        wanted = {pattern: Wanted(0, None) for pattern in ("#", "sites/#", "+/oslo/#")}
        incomplete = (await one.read_all(wanted)).incomplete
        assert len({id(message) for messages in incomplete.values() for message in messages}) == 1
