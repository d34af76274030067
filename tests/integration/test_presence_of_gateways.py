"""Three gateways with one Redis: one list of who is there, whichever of them dies, and whatever Redis does."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from tests.devices import Device
from tests.integration.conftest import Browser, browser
from tests.integration.test_presence import attendees, changes, config, member, names
from tests.integration.test_resume import until
from tests.integration.test_websocket import metric
from tests.real import GatewayProcess, Mosquitto, wait_until
from tests.redis import RedisServer, redis_server

GRACE_SECONDS = 1.0
LEASE_SECONDS = 2.0


def joined(key: str) -> tuple[str, Any]:
    return "joined", {"member": key}


def left(key: str) -> tuple[str, Any]:
    return "left", {"member": key}


def clustered(broker: Mosquitto, redis: RedisServer, node: str) -> dict[str, Any]:
    settings = config(broker, GRACE_SECONDS, engine={"url": redis.url})
    return {**settings, "cluster": {"node": node, "lease_seconds": LEASE_SECONDS}}


def knows(gateway: GatewayProcess, nodes: str) -> bool:
    found: bool = gateway.get("/readyz").json()["nodes"] == list(nodes)
    return found


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path, "appendonly yes") as running:
        yield running


@pytest.fixture
def three(tmp_path: Path, broker: Mosquitto, redis: RedisServer) -> Iterator[list[GatewayProcess]]:
    with ExitStack() as started:
        gateways = [
            started.enter_context(GatewayProcess(tmp_path / node, clustered(broker, redis, node))) for node in "abc"
        ]
        for gateway in gateways:
            gateway.wait_until_ready()
            wait_until(partial(knows, gateway, "abc"), "it knows three nodes")
        yield gateways


@asynccontextmanager
async def listening(gateway: GatewayProcess) -> AsyncIterator[Browser]:
    """One who hears of all and is in no room."""
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="crew/#")
        yield client


async def told_until(client: Browser, last: tuple[str, Any]) -> list[tuple[str, Any]]:
    """What a client is told of who comes and goes, up to this."""
    told = await changes(client, 1)
    while told[-1] != last:
        told += await changes(client, 1)
    return told


async def ready(gateways: list[GatewayProcess]) -> None:
    for gateway in gateways:
        await until(partial(is_ready, gateway), "it is ready")


def is_ready(gateway: GatewayProcess) -> bool:
    return gateway.get("/readyz").status_code == 200


async def test_all_gateways_tell_the_same_whichever_a_client_is_at_and_whichever_dies(
    three: list[GatewayProcess], broker: Mosquitto
) -> None:
    a, b, c = three
    device = Device(broker.port, "fan", will=("status/oslo/fan-4", b"offline"))
    async with listening(a) as at_a, listening(b) as at_b, member(a, "ann") as ann, AsyncExitStack() as at_c:
        await ann.ask(type="presence", room="crew/oslo")
        for key in ("eve", "fay"):
            client = await at_c.enter_async_context(member(c, key))
            reply = await client.ask(type="presence", room="crew/oslo", state={"at": key})
            assert {"member": key, "state": {"at": key}} in reply["data"]["members"]
        device.connect().publish("status/oslo/fan-4", b"online", qos=1)
        told = [await told_until(client, ("joined", {"device": "fan-4"})) for client in (at_a, at_b)]
        states = [("joined", {"member": key, "state": {"at": key}}) for key in ("eve", "fay")]
        assert (
            told[0]
            == told[1]
            == [
                *(joined("ann"), joined("eve"), states[0], joined("fay"), states[1]),
                ("joined", {"device": "fan-4"}),
            ]
        )
        assert attendees(a) == attendees(b)

        c.send_signal(signal.SIGKILL)
        c.wait()
        async with member(b, "fay") as fay:
            await fay.ask(type="presence", room="crew/oslo")
            assert await changes(at_a, 1) == await changes(at_b, 1) == [left("eve")]
        assert await changes(at_a, 1) == await changes(at_b, 1) == [left("fay")]
        assert metric(a, "tidegate_nodes") == metric(b, "tidegate_nodes") == 2
        assert metric(a, 'tidegate_redis_up{tag="cluster"}') == metric(a, 'tidegate_redis_up{tag="ns:default"}') == 1

        async with member(b, "bob"):
            assert await changes(at_a, 1) == [joined("bob")]
            b.send_signal(signal.SIGTERM)
            b.wait()
            assert await changes(at_a, 1) == [left("bob")]
        assert names(a) == ["ann", "fan-4"]
        await until(partial(knows, a, "a"), "one node is there")
        device.vanish()
        assert await changes(at_a, 1) == [("left", {"device": "fan-4"})]


async def test_nobody_is_told_to_have_left_because_redis_was_away(
    three: list[GatewayProcess], redis: RedisServer, broker: Mosquitto
) -> None:
    device = Device(broker.port, "fan", will=("status/oslo/fan-4", b"offline"))
    device.connect().publish("status/oslo/fan-4", b"online", qos=1)
    async with AsyncExitStack() as there:
        clients = []
        for gateway, key in zip(three, ("ann", "bob", "eve"), strict=True):
            clients.append(await there.enter_async_context(member(gateway, key)))
            await clients[-1].ask(type="presence", room="crew/oslo", state=key)
        await until(lambda: all(attendees(gateway)["count"] == 4 for gateway in three), "all know all")
        before = attendees(three[0])["members"]
        heard = [await there.enter_async_context(listening(gateway)) for gateway in three]

        redis.send_signal(signal.SIGSTOP)
        try:
            for gateway in three:  # which takes longer than the lease
                await until(lambda gateway=gateway: not is_ready(gateway), "it is noticed")  # type: ignore[misc]
        finally:
            redis.send_signal(signal.SIGCONT)
        await ready(three)
        for with_data in (True, False):
            redis.kill()
            if not with_data:
                redis.forget()
            redis.start()
            await ready(three)
        async with member(three[2], "zoe"):
            for client in heard:
                assert await changes(client, 1) == [joined("zoe")]
            assert [attendees(gateway)["members"][:4] for gateway in three] == [before] * 3
        for client in heard:
            assert await changes(client, 1) == [left("zoe")]


def refused(config: Path) -> str:
    ended = CliRunner().invoke(app, ["nodes", "--config", str(config)])
    assert ended.exit_code == 1
    return ended.stderr


def test_a_name_that_another_gateway_has_is_refused_and_nodes_are_listed(
    three: list[GatewayProcess],
    broker: Mosquitto,
    redis: RedisServer,
    start_gateway: Callable[..., GatewayProcess],
    tmp_path: Path,
) -> None:
    with pytest.raises(AssertionError, match=r"another gateway is called 'a', process .*`cluster.node`"):
        start_gateway(clustered(broker, redis, "a"))
    assert all(knows(gateway, "abc") for gateway in three)
    listed = CliRunner().invoke(app, ["nodes", "--config", str(tmp_path / "a" / "config.yaml")])
    assert [line.partition(": Tidegate ")[0] for line in listed.stdout.splitlines()] == ["a", "b", "c"]
    for gateway in three:
        gateway.stop()
    (tmp_path / "config.yaml").write_text("engine: {url: 'memory:'}\n")
    assert "expected an `engine.url` of Redis" in refused(tmp_path / "config.yaml")
    assert "no gateway is there" in refused(tmp_path / "a" / "config.yaml")
    redis.stop()
    assert "Redis can't be reached: 127.0.0.1" in refused(tmp_path / "a" / "config.yaml")
