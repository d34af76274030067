"""The ways to a Redis: a cluster, TLS with a user and a password, sentinels; and what is said when there is none."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from redis.crc import key_slot

from bridges.redis_options import RedisOptions, RedisUnavailable
from bridges.redis_servers import connect
from gateway.core.engine import Wanted
from tests.certificates import Authority
from tests.real import free_port, listens, wait_until
from tests.redis import RedisServer, redis_cluster, redis_server
from tests.redis_node import node, until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


async def test_namespaces_are_spread_over_a_cluster(cluster: list[RedisServer]) -> None:
    seeds = tuple(("127.0.0.1", server.port) for server in cluster)
    tags = [f"ns{number}" for number in range(8)]
    owners = {tag: key_slot(tag.encode()) * 3 // 16384 for tag in tags}
    assert len(set(owners.values())) == 3
    for tag in tags:
        async with node(seeds, "a/#", "b", tag=tag) as one, node(seeds[2:], "a/+", tag=tag) as two:
            for number in range(20):
                (one if number % 2 else two).publish("a/x", b"%d" % number)
            await until(lambda: len(one.delivered) == len(two.delivered) == 20)
            assert one.numbers == two.numbers
            reading = await two.read_all({"a/#": Wanted(15, 15)})
            assert len(reading.messages) == 5
    held = []
    for server in cluster:
        with server.client() as client:
            held.append({key.split(b"{")[1].split(b"}")[0].decode() for key in client.scan_iter()})
    assert [sorted(tags_there) for tags_there in held] == [
        sorted(tag for tag in tags if owners[tag] == index) for index in range(3)
    ]


async def test_a_slot_that_moves_is_followed(cluster: list[RedisServer]) -> None:
    seeds = tuple(("127.0.0.1", server.port) for server in cluster)
    slot = key_slot(b"moving")
    async with node(seeds, "a", tag="moving") as one, node(seeds, "a", tag="moving") as two:
        one.publish("a", b"0")
        await until(lambda: two.delivered)
        owner = slot * 3 // 16384
        source, target = cluster[owner], cluster[(owner + 1) % 3]
        await asyncio.to_thread(_move, slot, source, target)
        for number in range(1, 6):
            one.publish("a", b"%d" % number)
        await until(lambda: len(two.delivered) == len(one.delivered) == 6)
        assert one.numbers == two.numbers == list(range(6))
        assert one.interrupted == two.interrupted == []


def _move(slot: int, source: RedisServer, target: RedisServer) -> None:
    """Move a slot with its keys, as `redis-cli --cluster reshard` does."""
    with source.client() as leaving, target.client() as coming:
        leaving_id, coming_id = (each.execute_command("CLUSTER MYID").decode() for each in (leaving, coming))
        coming.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", leaving_id)
        leaving.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", coming_id)
        while keys := leaving.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            leaving.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for each in (coming, leaving):
            each.execute_command("CLUSTER SETSLOT", slot, "NODE", coming_id)


async def test_tls_a_user_and_a_password(tmp_path: Path) -> None:
    authority = Authority()
    ca_file, files = tmp_path / "ca.pem", authority.issue(tmp_path)
    ca_file.write_bytes(authority.root_pem)
    lines = [
        f"tls-cert-file {files['tls_certificate_file']}",
        f"tls-key-file {files['tls_key_file']}",
        "tls-auth-clients no",
    ]
    port = free_port()
    user = "user tidegate on >secret ~tidegate:* &tidegate:* +@all -@dangerous +info"
    with redis_server(tmp_path, "port 0", f"tls-port {port}", *lines, user, "user default off"):
        wait_until(lambda: listens(port), "it listens")
        known = {"tls": True, "ca_file": ca_file, "username": "tidegate", "password": "secret"}
        async with node(port, "a", "b/#", **known) as one:  # type: ignore[arg-type]
            one.publish("a")
            one.engine.own("plant", 1, lambda: None, lambda: None)
            await until(lambda: one.delivered)
        for wrong, said in (
            ({"password": "other"}, "invalid username-password pair"),
            ({"ca_file": None}, "certificate verify failed"),
            ({"tls": False, "ca_file": None}, "127.0.0.1"),
        ):
            with pytest.raises(RedisUnavailable, match=said):
                await connect(RedisOptions((("127.0.0.1", port),), **{**known, **wrong}), "default")  # type: ignore[arg-type]


@contextmanager
def watched_pair(directory: Path) -> Iterator[tuple[list[RedisServer], int]]:
    """A primary with a replica, and a sentinel that watches them."""
    with ExitStack() as started:
        primary = started.enter_context(redis_server(directory, "appendonly yes"))
        replica = started.enter_context(
            redis_server(directory, f"replicaof 127.0.0.1 {primary.port}", "appendonly yes")
        )
        with replica.client() as client:
            wait_until(lambda: client.info()["master_link_status"] == "up", "the replica has caught up")
        lines = [
            f"sentinel monitor main 127.0.0.1 {primary.port} 1",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 2000",
        ]
        sentinel = RedisServer(directory, *lines, sentinel=True)
        sentinel.start()
        started.callback(sentinel.stop)
        with sentinel.client() as client:
            wait_until(lambda: client.execute_command("SENTINEL REPLICAS main"), "the sentinel knows the replica")
        yield [primary, replica], sentinel.port


async def test_sentinels_lead_to_whoever_is_the_primary(tmp_path: Path) -> None:
    with watched_pair(tmp_path) as (servers, sentinel):
        async with node(sentinel, "a", service="main") as one, node(sentinel, "a", service="main") as two:
            for number in range(5):
                one.publish("a", b"%d" % number)
            await until(lambda: len(two.delivered) == 5)
            with servers[0].client() as client:
                client.wait(1, 2000)  # the replica has them
            servers[0].send_signal(signal.SIGKILL)
            for number in range(5, 10):
                one.publish("a", b"%d" % number)
            await until(lambda: len(one.delivered) == len(two.delivered) == 10)
            assert one.numbers == two.numbers == list(range(10))
            assert one.interrupted == []


async def test_a_replica_and_an_old_server_are_refused_in_words(tmp_path: Path) -> None:
    with redis_server(tmp_path) as primary, redis_server(tmp_path, f"replicaof 127.0.0.1 {primary.port}") as replica:
        with pytest.raises(RedisUnavailable, match=f"127.0.0.1:{replica.port}: it is a replica: expected the primary"):
            await connect(RedisOptions((("127.0.0.1", replica.port),)), "default")
        connection = await connect(RedisOptions((("127.0.0.1", replica.port), ("127.0.0.1", primary.port))), "default")
        assert connection.port == primary.port
        await connection.disconnect()


async def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    port = free_port()
    for service in (None, "main"):
        with pytest.raises(RedisUnavailable, match="main" if service else f"127.0.0.1:{port}"):
            await connect(RedisOptions((("127.0.0.1", port),), service=service), "default")
