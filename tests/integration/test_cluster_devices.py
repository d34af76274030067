"""Two gateways, of which one receives: what clients of either say to devices, and ask them, gets there and back."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Browser, browser
from tests.integration.test_requests import ROUTES, Responder, Responders, metric, responder
from tests.real import GatewayProcess, Mosquitto, configuration, wait_until
from tests.redis import RedisServer, redis_server

__all__ = ["responder"]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture(params=["5", "3.1.1"])
def pair(
    broker: Mosquitto,
    redis: RedisServer,
    start_gateway: Callable[..., GatewayProcess],
    request: pytest.FixtureRequest,
) -> list[GatewayProcess]:
    """The one that receives first."""

    def start(node: str) -> GatewayProcess:
        cluster = {"engine": {"url": redis.url}, "cluster": {"node": node, "lease_seconds": 2}}
        routes = [route for route in ROUTES if request.param == "5" or "modern" not in route["topic"]]
        upstream = {"protocol": request.param}
        return start_gateway(configuration(broker.port, routes=routes, upstream=upstream, **cluster))

    first = start("one")
    wait_until(lambda: first.get("/readyz").json()["upstreams"]["plant"]["state"] == "up", "the first one receives")
    return [first, start("two")]


async def answer_all(device: Responder, count: int) -> None:
    """Answer so many requests, each with what it asked."""
    for number in range(count):
        await asyncio.to_thread(device.wait_for, number + 1)
        await asyncio.to_thread(device.answer, number, bytes(device.asked[number].payload))


async def ask_many(client: Browser, room: str, numbers: range) -> list[Any]:
    """Ask all at once; the answers by the number of what was asked."""
    for number in numbers:
        await client.say(type="request", room=room, data=number, id=number)
    answers: dict[int, Any] = {}
    while len(answers) < len(numbers):
        heard = await client.hear()
        if heard.get("id") is not None:
            answers[heard["id"]] = heard.get("data", heard)
    return [answers[number] for number in numbers]


async def test_clients_of_either_gateway_command_and_ask_devices_whose_answers_come_to_rooms_once(
    pair: list[GatewayProcess], responder: Responders, request: pytest.FixtureRequest
) -> None:
    is_5 = "[5]" in request.node.name
    old = responder("old/x", v5=False)
    modern = responder("modern/x", v5=True) if is_5 else None
    raw = responder("raw/x", v5=False)
    one, two = pair
    async with browser(one) as first, browser(two) as second, browser(two) as listener:
        for client in (first, second):
            assert (await client.ask(type="publish", room="raw/x", data="AAEC"))["type"] == "ack"
        await asyncio.to_thread(raw.wait_for, 2)
        await listener.ask(type="subscribe", room="everything/old/x/reply")
        asking = both(ask_many(first, "old/x", range(20)), ask_many(second, "old/x", range(100, 120)))
        await answer_all(old, 40)
        assert await asking == (list(range(20)), list(range(100, 120)))
        if modern is not None:
            asking = both(ask_many(first, "modern/x", range(5)), ask_many(second, "modern/x", range(9)))
            await answer_all(modern, 14)
            assert await asking == (list(range(5)), list(range(9)))
        answered = [message["data"] for message in await listener.messages(40)]
        assert sorted(answered) == [*range(20), *range(100, 120)]
    for gateway in pair:
        assert metric(gateway, 'tidegate_drops_total{cause="unmatched_reply"') == 0
        assert metric(gateway, "tidegate_requests{") == 0


def both(first: Coroutine[Any, Any, list[Any]], second: Coroutine[Any, Any, list[Any]]) -> asyncio.Task[Any]:
    """Let two ask at the same time."""

    async def ask() -> tuple[list[Any], list[Any]]:
        return tuple(await asyncio.gather(first, second))  # type: ignore[return-value]

    return asyncio.create_task(ask())


@pytest.mark.parametrize("pair", ["5"], indirect=True)
async def test_who_asks_goes_on_when_the_gateway_that_receives_and_asks_for_all_dies(
    pair: list[GatewayProcess], responder: Responders
) -> None:
    old = responder("old/x", v5=False)
    one, two = pair
    async with browser(two) as client:
        asking = asyncio.create_task(ask_many(client, "old/x", range(1)))
        await answer_all(old, 1)
        assert await asking == [0]
        one.process.kill()
        one.wait()  # so that Redis knows, too, that nobody listens there
        asking = asyncio.create_task(ask_many(client, "old/x", range(2, 3)))
        await asyncio.to_thread(old.wait_for, 2)
        await asyncio.to_thread(old.answer, 1, b'"alive"')
        assert await asking == ["alive"]
        assert httpx.get(f"{two.url}/readyz").status_code == 200
