"""Two gateways that share what devices send: each message once, in whichever of them; each gateway has its session."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Device, browser
from tests.integration.test_requests import Responders, metric, responder
from tests.integration.test_takeover import history, is_up, state
from tests.real import GatewayProcess, Mosquitto, configuration, wait_until
from tests.redis import RedisServer, redis_server

__all__ = ["responder"]

ROUTES: list[dict[str, Any]] = [
    {"topic": "kept/{name}", "room": "kept/{name}", "qos": 1, "history": {"messages": 5000}},
    {"topic": "{kind}/x", "room": "kinds/{kind}", "qos": 1},
    {
        "topic": "old/{device}",
        "room": "old/{device}",
        "direction": "to_device",
        "qos": 1,
        "reply": "old/{device}/reply",
    },
]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


Start = Callable[[str], GatewayProcess]


@pytest.fixture
def start(broker: Mosquitto, redis: RedisServer, start_gateway: Callable[..., GatewayProcess]) -> Start:
    def run(node: str) -> GatewayProcess:
        cluster = {"engine": {"url": redis.url}, "cluster": {"node": node, "lease_seconds": 1}}
        config = configuration(broker.port, routes=ROUTES, upstream={"ingest": "shared"}, **cluster)
        running = start_gateway(config)
        wait_until(lambda: is_up(running), "the gateway receives its share")
        return running

    return run


def publish(device: Device, numbers: range) -> None:
    for number in numbers:
        device.publish("kept/x", str(number), 1)


def share(gateway: GatewayProcess) -> float:
    return metric(gateway, "tidegate_device_messages_total")


async def all_come(gateway: GatewayProcess, count: int) -> None:
    """Each once; which comes before which isn't said."""
    await asyncio.to_thread(wait_until, lambda: len(history(gateway)) >= count, f"{count} messages are stored")
    assert sorted(history(gateway)) == list(range(count))


async def test_each_gets_a_part_and_together_all_and_each_once(
    start: Start, device: Device, responder: Responders
) -> None:
    one, two = start("one"), start("two")
    assert (state(one), state(two)) == ({"state": "up", "owner": "one"}, {"state": "up", "owner": "two"})
    watcher = responder("tidegate/status/+", v5=True)
    async with browser(one) as client:
        await client.ask(type="subscribe", room="kept/x")
        publish(device, range(200))
        told = [message["data"] for message in await client.messages(200)]
        assert sorted(told) == list(range(200))
        await all_come(two, 200)
        assert min(share(one), share(two)) > 50
        assert share(one) + share(two) == 200, "though the filters overlap"
    await asyncio.to_thread(watcher.wait_for, 2)
    assert {(each.topic, bytes(each.payload)) for each in watcher.asked} == {
        ("tidegate/status/one", b"online"),
        ("tidegate/status/two", b"online"),
    }
    for number, gateway in enumerate((one, two)):
        asked = responder("old/x", v5=False)
        async with browser(gateway) as client:
            asking = asyncio.create_task(client.ask(type="request", room="old/x", data=number))
            await asyncio.to_thread(asked.wait_for, 1)
            await asyncio.to_thread(asked.answer, 0, b"%d" % number)
            assert (await asking)["data"] == number
        asked.stop()


async def test_what_the_broker_holds_for_one_that_died_comes_once_when_it_is_back(start: Start, device: Device) -> None:
    """Its session is its own, so nobody else can have it; brokers that give it to others do so by themselves."""
    one, two = start("one"), start("two")
    publish(device, range(100))
    await all_come(one, 100)
    two.process.kill()
    publish(device, range(100, 200))
    two = start("two")
    await all_come(two, 200)
    assert share(two) > 0


async def test_who_leaves_lets_the_others_have_all_that_comes(start: Start, device: Device) -> None:
    one, two = start("one"), start("two")
    publish(device, range(100))
    await all_come(one, 100)
    two.send_signal(signal.SIGTERM)
    assert two.wait() == 0
    publish(device, range(100, 200))
    await all_come(one, 200)
