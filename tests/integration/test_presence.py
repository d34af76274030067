"""Who is in a room, over WebSocket, SSE and HTTP, with a real broker and devices that die."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.devices import Device as DyingDevice
from tests.integration.conftest import Browser, browser
from tests.integration.test_resume import stream, take, until
from tests.integration.test_websocket import GENEROUS, metric, raw_client
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration

ROUTES = [
    {
        "topic": "status/{site}/{device}",
        "room": "crew/{site}",
        "qos": 1,
        "presence": {"member": "{device}", "online": ["online"], "offline": ["offline"]},
    }
]


def config(broker: Mosquitto, grace_seconds: float = 1.0, **changes: Any) -> dict[str, Any]:
    return configuration(
        broker.port,
        routes=ROUTES,
        rooms=[{"room": "crew/#", "presence": True}],
        presence={"grace_seconds": grace_seconds},
        **changes,
    )


@pytest.fixture(params=["direct", "plain"])
def crew(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess], request: pytest.FixtureRequest
) -> GatewayProcess:
    """A gateway with presence, on its own server and on one that only has ASGI."""
    return start_gateway(config(broker), plain=request.param == "plain")


@asynccontextmanager
async def member(gateway: GatewayProcess, key: str, room: str = "crew/oslo") -> AsyncIterator[Browser]:
    """A client with a key, in a room."""
    async with connect(f"{gateway.ws_url}?member={key}", subprotocols=[Subprotocol("tidegate.v1.json")]) as connection:
        client = Browser(connection)
        await client.say(type="subscribe", room=room)
        yield client


async def changes(client: Browser, count: int) -> list[tuple[str, Any]]:
    """The next changes that a client hears."""
    found: list[tuple[str, Any]] = []
    while len(found) < count:
        heard = await client.hear()
        if heard["type"] in ("joined", "left", "presence"):
            found.append((heard["type"], heard.get("who", heard.get("count"))))
    return found


def attendees(gateway: GatewayProcess, room: str = "crew/oslo") -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{gateway.url}/presence", params={"room": room}).json()
    return answer


def names(gateway: GatewayProcess, room: str = "crew/oslo") -> list[Any]:
    return [next(iter(who.values())) for who in attendees(gateway, room)["members"]]


async def test_two_browsers_and_a_device_are_in_one_list(broker: Mosquitto, crew: GatewayProcess) -> None:
    device = DyingDevice(broker.port, "fan", will=("status/oslo/fan-4", b"offline"))
    async with member(crew, "ann") as ann, stream(crew, "member=bob&room=crew/oslo") as events:
        assert await changes(ann, 2) == [("joined", {"member": "ann"}), ("joined", {"member": "bob"})]
        device.connect().publish("status/oslo/fan-4", b"online", qos=1)
        assert await changes(ann, 1) == [("joined", {"device": "fan-4"})]
        reply = await ann.ask(type="presence", room="crew/oslo", state={"on": "shift"})
        expected = [{"member": "ann", "state": {"on": "shift"}}, {"member": "bob"}, {"device": "fan-4"}]
        assert (reply["type"], reply["data"]) == ("reply", {"count": 3, "members": expected})
        assert attendees(crew) == {"room": "crew/oslo", "count": 3, "members": expected}
        device.vanish()
        assert await changes(ann, 1) == [("left", {"device": "fan-4"})]
        told = await take(events, "joined", 3)
        assert [event["who"] for event in told] == [{"member": "bob"}, {"device": "fan-4"}, expected[0]]
        assert [event.get("updated") for event in told] == [None, None, True]
        assert (await take(events, "left"))[0]["who"] == {"device": "fan-4"}
    assert metric(crew, 'tidegate_presence_members{kind="device"}') == 0


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_reload_within_the_grace_period_is_told_to_nobody(crew: GatewayProcess, transport: str) -> None:
    async with member(crew, "witness") as witness:
        for _ in range(3):
            if transport == "websocket":
                async with member(crew, "ann") as ann:
                    await ann.ask(type="presence", room="crew/oslo", state=1)
            else:
                async with stream(crew, "member=ann&room=crew/oslo") as events:
                    await take(events, "subscribed")
        heard = await changes(witness, 3 if transport == "sse" else 4)
        assert heard[:2] == [("joined", {"member": "witness"}), ("joined", {"member": "ann"})]
        assert heard[-1] == ("left", {"member": "ann"})
        assert names(crew) == ["witness"]


async def test_a_client_that_is_killed_is_gone_after_the_heartbeat_and_the_grace_period(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(config(broker, heartbeat={"interval_seconds": 0.5, "timeout_seconds": 0.5}))
    silent = raw_client(gateway, "crew/oslo")
    await until(lambda: attendees(gateway)["count"] == 1, "the client is there")
    async with browser(gateway) as listener:
        await listener.ask(type="subscribe", room="crew/#")
        (left,) = await changes(listener, 1)
        assert (left[0], list(left[1])) == ("left", ["session"])
    silent.close()


async def test_hundreds_of_sessions_in_one_room_are_counted_and_leave_nothing_behind(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    limits = {**GENEROUS, "connections_per_address": 500, "presence_members_told": 10}
    gateway = start_gateway(config(broker, limits=limits))
    async with browser(gateway) as listener:
        await listener.ask(type="subscribe", room="crew/+")
        async with AsyncExitStack() as stack:
            crowd = [await stack.enter_async_context(browser(gateway)) for _ in range(300)]
            for client in crowd:
                await client.say(type="subscribe", room="crew/oslo")
            heard = await changes(listener, 11)
            assert [kind for kind, _ in heard] == ["joined"] * 10 + ["presence"]
            while heard[-1][1] != 300:
                heard += await changes(listener, 1)
            assert attendees(gateway) == {"room": "crew/oslo", "count": 300}
            assert metric(gateway, 'tidegate_presence_members{kind="session"}') == 300
        while heard[-1] != ("presence", 0):
            heard += await changes(listener, 1)
        assert {kind for kind, _ in heard[10:]} == {"presence"}
        assert len(heard) < 60
    assert attendees(gateway) == {"room": "crew/oslo", "count": 0, "members": []}
    assert metric(gateway, 'tidegate_presence_members{kind="session"}') == 0


async def test_an_upstream_that_comes_back_makes_no_device_flicker(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(config(broker))
    device = DyingDevice(broker.port, "setup").connect()
    for name, status in (("a", b"online"), ("b", b"online")):
        device.publish(f"status/oslo/{name}", status, qos=1, retain=True)
    await until(lambda: sorted(names(gateway)) == ["a", "b"], "the devices are there")
    async with member(gateway, "ann") as ann:
        await changes(ann, 1)
        broker.kill()
        device.wait_closed()
        await until(lambda: httpx.get(f"{gateway.url}/readyz").status_code == 503, "the upstream is down")
        assert sorted(names(gateway)) == ["a", "ann", "b"]
        broker.start()
        device = DyingDevice(broker.port, "again").connect()
        for name, status in (("a", b"online"), ("b", b"offline")):
            device.publish(f"status/oslo/{name}", status, qos=1, retain=True)
        await asyncio.to_thread(gateway.wait_until_ready)
        assert await changes(ann, 1) == [("left", {"device": "b"})]
        assert sorted(names(gateway)) == ["a", "ann"]
    device.disconnect()


async def test_a_status_that_isnt_one_is_counted(broker: Mosquitto, crew: GatewayProcess) -> None:
    device = DyingDevice(broker.port, "odd").connect()
    for status in (b"online", b"perhaps", b'"online"'):
        device.publish("status/oslo/fan", status, qos=1)
    await until(lambda: metric(crew, 'tidegate_drops_total{cause="bad_status"}') == 1, "it is counted")
    assert names(crew) == ["fan"]
    device.disconnect()


async def test_when_the_gateway_ends_nobody_is_said_to_have_left(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(config(broker, grace_seconds=0))
    async with member(gateway, "ann") as ann, member(gateway, "bob") as bob, member(gateway, "eve") as eve:
        for client, count in ((ann, 3), (bob, 2), (eve, 1)):
            await changes(client, count)
        gateway.send_signal(signal.SIGTERM)
        for client in (ann, bob, eve):
            assert (await client.hear())["type"] == "bye"


async def test_what_cant_be_asked_is_named(crew: GatewayProcess) -> None:
    for query, status, code in (
        ("", 400, "bad_message"),
        ("room=crew/%23", 400, "bad_message"),
        ("room=other", 404, "no_presence"),
    ):
        answer = httpx.get(f"{crew.url}/presence?{query}")
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    bad = httpx.get(f"{crew.url}/sse?room=crew/oslo&member=")
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_message")
    for query in ("member=", "member=a&member=b", "member=" + "x" * 65):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{crew.ws_url}?{query}"):
                pass
        assert refused.value.response.status_code == 400


async def test_presence_pours_and_a_client_that_doesnt_read_is_told_who_is_there_in_the_end(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    limits = {**GENEROUS, "write_buffer_bytes": "4 KiB", "presence_members_told": 1000}
    gateway = start_gateway(config(broker, limits=limits))
    slow = raw_client(gateway, "crew/+", receive_buffer_bytes=4096)
    heard = await asyncio.to_thread(slow.recv, 1)
    device = DyingDevice(broker.port, "many").connect()
    pad = "x" * 200

    def missed() -> float:
        return metric(gateway, 'tidegate_drops_total{cause="presence_to_slow_client"}')

    number = 0
    while not missed() and number < 20_000:
        for _ in range(200):
            status = b"offline" if number // 50 % 2 else b"online"
            device.publish(f"status/oslo/{number % 50}{pad}", status)
            number += 1
        device.publish("status/oslo/mark", b"perhaps", qos=1)
    assert missed()
    device.publish("status/oslo/last", b"online", qos=1)
    await until(lambda: "last" in names(gateway), "all is there")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not re.search(
            rb'"type":"presence","room":"crew/oslo","count":\d+,"members":[^\]]*"device":"last"', heard
        ):
            heard += await asyncio.to_thread(slow.recv, 1 << 20)
    slow.close()
    device.disconnect()
