"""What Redis keeps is bounded, whatever clients send."""

from pathlib import Path

from gateway.core.log import LogBounds
from gateway.core.retention import Retention
from tests.redis import redis_server
from tests.redis_node import node, until


async def test_long_names_take_no_more_than_messages_may(tmp_path: Path) -> None:
    """Names are in the index once for each message, and a client may choose one of 64 KB."""
    with redis_server(tmp_path) as server, server.client() as client:
        async with node(server.port, bounds=LogBounds(bytes=1_000_000)) as one:
            index = one.link.key("index")
            for number in range(200):
                one.publish("x" * 60_000, b"%d" % number, retention=Retention())
            await until(lambda: len(one.said) == 200)
            assert client.memory_usage(index, samples=0) < 1_500_000
            assert client.xlen(index) >= 10
            for _ in range(3000):
                one.publish("y", retention=Retention())
            await until(lambda: len(one.said) == 3200)
            assert 1_000_000 // 600 <= client.xlen(index) <= 1_000_000 // 600 + 100
            assert client.hget(one.link.key("meta"), "named") == b"%d" % client.xlen(index)
