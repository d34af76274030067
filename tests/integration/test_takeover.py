"""Two gateways, a broker and a Redis, while the gateway that receives dies, leaves, is paused or cut off: each once."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Browser, Device, browser
from tests.proxy import PUBACK, Proxy, Relay, relay, swallowing
from tests.real import GatewayProcess, configuration, wait_until
from tests.redis import RedisServer, redis_server

ROUTES = [{"topic": "kept/{name}", "room": "kept/{name}", "qos": 1, "history": {"messages": 5000}}]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
def to_redis(redis: RedisServer) -> Iterator[Relay]:
    """The first gateway's way to Redis."""
    with relay(redis.port) as running:
        yield running


@dataclass
class Pair:
    """The gateway that receives, and the one that waits."""

    owner: GatewayProcess
    other: GatewayProcess


def state(gateway: GatewayProcess) -> dict[str, str]:
    found: dict[str, str] = httpx.get(f"{gateway.url}/readyz").json()["upstreams"]["plant"]
    return found


def metrics(gateway: GatewayProcess) -> str:
    return httpx.get(f"{gateway.url}/metrics").text


def is_up(gateway: GatewayProcess) -> bool:
    return state(gateway)["state"] == "up"


@pytest.fixture
def lease_seconds() -> float:
    return 1.0


@pytest.fixture
def pair(
    between: Proxy,
    redis: RedisServer,
    to_redis: Relay,
    lease_seconds: float,
    start_gateway: Callable[..., GatewayProcess],
) -> Pair:
    """Both reach the broker by one proxy, and the first one Redis by another."""

    def start(node: str, redis_port: int) -> GatewayProcess:
        engine = {"url": f"redis://127.0.0.1:{redis_port}"}
        cluster = {"node": node, "lease_seconds": lease_seconds}
        return start_gateway(configuration(between.port, routes=ROUTES, engine=engine, cluster=cluster))

    owner = start("one", to_redis.port)
    wait_until(lambda: is_up(owner), "the first gateway receives")
    other = start("two", redis.port)
    assert state(other) == {"state": "standby", "owner": "one"}
    return Pair(owner, other)


class Numbers:
    """A device that counts, as fast as it is told to, until it is told to stop."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._stop = threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for number in count():
            self._device.publish("kept/x", str(number), 1)
            self.sent = number + 1
            if self._stop.wait(0.005):
                return

    def stop(self) -> int:
        """How many there are."""
        self._stop.set()
        self._thread.join()
        return self.sent


@pytest.fixture
def numbers(pair: Pair, device: Device) -> Iterator[Numbers]:
    running = Numbers(device)
    yield running
    running.stop()


@asynccontextmanager
async def listener(gateway: GatewayProcess) -> AsyncIterator[list[int]]:
    """All that a subscriber is told, as it comes."""
    told: list[int] = []

    async def listen(client: Browser) -> None:
        while True:
            heard = await client.hear()
            if heard["type"] == "message":
                told.append(heard["data"])

    async with browser(gateway) as client:
        assert (await client.ask(type="subscribe", room="kept/x"))["type"] == "subscribed"
        listening = asyncio.create_task(listen(client))
        try:
            yield told
        finally:
            listening.cancel()


async def until(condition: Callable[[], Any], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what)


def history(gateway: GatewayProcess) -> list[int]:
    """The log, page by page."""
    found: list[int] = []
    query: dict[str, Any] = {"room": "kept/x", "limit": 1000}
    while True:
        page = httpx.get(f"{gateway.url}/history", params=query).json()["messages"]
        found[:0] = [message["data"] for message in page]
        if len(page) < 1000:
            return found
        query["before"] = page[0]["cursor"]


async def each_came_once(gateway: GatewayProcess, numbers: Numbers, *told: list[int]) -> None:
    """Nothing is lost, nothing twice, and the order is the device's: in the log, and at whoever listened throughout."""
    some = numbers.sent + 20
    await until(lambda: numbers.sent > some, "more is published")
    sent = numbers.stop()
    await until(lambda: all(each and each[-1] == sent - 1 for each in told), "the last one is told")
    assert history(gateway) == list(range(sent))
    for each in told:
        assert each == list(range(each[0], sent))


async def test_the_owner_is_killed(pair: Pair, numbers: Numbers) -> None:
    async with listener(pair.other) as told:
        await until(lambda: len(told) > 50, "messages come")
        pair.owner.process.kill()
        await until(lambda: is_up(pair.other), "the other one receives")
        await each_came_once(pair.other, numbers, told)


async def test_the_owner_is_killed_after_it_stored_and_before_it_acknowledged(
    pair: Pair, numbers: Numbers, between: Proxy
) -> None:
    async with listener(pair.other) as told:
        await until(lambda: told, "messages come")
        between.alter = swallowing("up", PUBACK)
        swallowed = len(between.seen)
        await until(lambda: between.seen[swallowed:].count(("up", PUBACK)) > 5, "acknowledgements get lost")
        pair.owner.process.kill()
        between.pass_all()
        await until(lambda: is_up(pair.other), "the other one receives")
        await until(lambda: 'cause="redelivered"' in metrics(pair.other), "they come again")
        await each_came_once(pair.other, numbers, told)


@pytest.mark.parametrize("lease_seconds", [600.0])
async def test_the_owner_leaves_and_needs_nobodys_patience(pair: Pair, numbers: Numbers) -> None:
    async with listener(pair.other) as told:
        await until(lambda: len(told) > 50, "messages come")
        pair.owner.send_signal(signal.SIGTERM)
        await until(lambda: is_up(pair.other), "the other one receives")
        assert pair.owner.wait() == 0
        await each_came_once(pair.other, numbers, told)
        assert "fenced" not in pair.owner.text


async def test_the_owner_is_paused_for_longer_than_its_lease(pair: Pair, numbers: Numbers) -> None:
    """When it goes on, it has messages of the broker's that it hasn't read, and believes that it owns."""
    async with listener(pair.other) as told, listener(pair.owner) as told_by_owner:
        await until(lambda: len(told) > 50, "messages come")
        pair.owner.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: is_up(pair.other), "the other one receives")
        finally:
            pair.owner.send_signal(signal.SIGCONT)
        await until(lambda: state(pair.owner) == {"state": "standby", "owner": "two"}, "it finds that it doesn't own")
        await each_came_once(pair.owner, numbers, told, told_by_owner)


async def test_the_owner_is_cut_off_from_redis_and_later_owns_again(
    pair: Pair, numbers: Numbers, to_redis: Relay
) -> None:
    """What it has received meanwhile, and could not store, must not be stored when it is back, nor acknowledged."""
    async with listener(pair.owner) as told:
        await until(lambda: len(told) > 50, "messages come")
        to_redis.freeze()
        await until(lambda: is_up(pair.other), "the other one receives")
        await until(lambda: state(pair.owner)["state"] != "up", "the first one doesn't any more")
        to_redis.thaw()
        await until(lambda: state(pair.owner) == {"state": "standby", "owner": "two"}, "it is back")
        pair.other.process.kill()
        await until(lambda: is_up(pair.owner), "it receives again")
        await each_came_once(pair.owner, numbers, told)


async def test_an_owner_that_is_mistaken_is_refused_and_drops_it(
    pair: Pair, numbers: Numbers, redis: RedisServer
) -> None:
    """Its clock may be skewed: here Redis knows of a later owner, of which neither node has heard."""
    async with listener(pair.other) as told:
        await until(lambda: len(told) > 50, "messages come")
        with redis.client() as client:
            token = int(client.get("tidegate:{cluster}:lease-token:plant")) + 10**6
            client.set("tidegate:{cluster}:lease-token:plant", token)
            client.set("tidegate:{cluster}:lease:plant", f"{token} nobody 1", px=300)
            client.hset("tidegate:{ns:default}:meta", "fence:plant", token)
        await until(
            lambda: 'tidegate_upstream_fenced_total{upstream="plant"} 0.0' not in metrics(pair.owner), "refused"
        )
        await until(lambda: is_up(pair.other) or is_up(pair.owner), "one of them receives")
        await each_came_once(pair.other, numbers, told)
