"""QoS 1 and 2 from devices to browsers: acknowledged once stored, in order; each once, whatever is lost on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from bridges.mqtt import Upstream, UpstreamOptions, UpstreamState
from gateway.core.clock import SystemClock
from gateway.core.delivery import Delivery
from gateway.core.errors import TidegateError, UpstreamTimeout
from gateway.core.receipts import Receipts
from tests.integration.conftest import Device, browser
from tests.proxy import PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Proxy, proxy, swallowing
from tests.real import GatewayProcess, Mosquitto, configuration, mosquitto, wait_until

Start = Callable[..., GatewayProcess]
PERSISTENT = {"session": "persistent", "client_id": "gate-1"}
ROUTES = [{"topic": "q1/{x}", "room": "q1/{x}", "qos": 1}, {"topic": "q2/{x}", "room": "q2/{x}", "qos": 2}]


def redelivered(gateway: GatewayProcess) -> bool:
    return 'tidegate_drops_total{cause="redelivered"' in httpx.get(f"{gateway.url}/metrics").text


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_was_stored_though_its_acknowledgement_never_left_comes_once(
    between: Proxy, device: Device, start_gateway: Start, protocol: str, qos: int
) -> None:
    gateway = start_gateway(configuration(between.port, routes=ROUTES, upstream={**PERSISTENT, "protocol": protocol}))
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="#")
        answer = PUBACK if qos == 1 else PUBREC
        between.alter = swallowing("up", answer)
        for number in range(3):
            device.publish(f"q{qos}/x", str(number), qos)
        assert [message["data"] for message in await client.messages(3)] == [0, 1, 2]
        await asyncio.to_thread(wait_until, lambda: between.seen.count(("up", answer)) == 3, "all three are swallowed")
        between.pass_all()
        between.cut()
        await asyncio.to_thread(wait_until, lambda: redelivered(gateway), "the broker sends them again")
        for number in range(3, 6):
            device.publish(f"q{qos}/x", str(number), qos)
        assert [message["data"] for message in await client.messages(3)] == [3, 4, 5]


async def test_each_exchange_is_completed_once(between: Proxy, device: Device, start_gateway: Start) -> None:
    """With a second PUBCOMP, mosquitto's window grows by one, and what it has queued is overtaken."""
    gateway = start_gateway(configuration(between.port, routes=ROUTES, upstream=PERSISTENT))
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="#")
        for number in range(3):
            device.publish("q2/x", str(number), 2)
        await client.messages(3)
        await asyncio.to_thread(wait_until, lambda: between.seen.count(("down", PUBREL)) == 3, "all are released")
        device.publish("q1/x", "3", 1)
        await asyncio.to_thread(wait_until, lambda: ("up", PUBACK) in between.seen, "what came later is answered too")
        assert between.seen.count(("up", PUBCOMP)) == 3


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_connection_lost_before_pubrel_neither_loses_nor_doubles(
    between: Proxy, device: Device, start_gateway: Start, protocol: str
) -> None:
    """paho alone would have answered PUBREC and hold the message for a PUBREL, and forget it with the connection."""
    gateway = start_gateway(configuration(between.port, routes=ROUTES, upstream={**PERSISTENT, "protocol": protocol}))
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="#")
        between.alter = swallowing("down", PUBREL)
        device.publish("q2/x", "0", 2)
        await asyncio.to_thread(wait_until, lambda: ("down", PUBREL) in between.seen, "the broker has the PUBREC")
        between.pass_all()
        between.cut()
        device.publish("q2/x", "1", 2)
        assert [message["data"] for message in await client.messages(2)] == [0, 1]
        for number in range(2, 50):  # the exchange was completed: identifiers and the broker's window are free
            device.publish("q2/x", str(number), 2)
        assert [message["data"] for message in await client.messages(48)] == list(range(2, 50))


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_equal_messages_are_as_many_as_were_sent(
    between: Proxy, device: Device, start_gateway: Start, protocol: str
) -> None:
    gateway = start_gateway(configuration(between.port, routes=ROUTES, upstream={**PERSISTENT, "protocol": protocol}))
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="#")
        for _ in range(3):
            device.publish("q1/x", '"same"', 1)
            device.publish("q2/x", '"same"', 2)
            assert len(await client.messages(2)) == 2
            await asyncio.to_thread(wait_until, lambda: ("down", PINGRESP) in between.seen, "the broker has the PUBACK")
            between.cut()
            between.seen.clear()
        device.publish("q1/x", '"end"', 1)
        assert (await client.messages(1))[0]["data"] == "end"


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_what_was_published_while_the_gateway_was_down_comes_in_order_and_once(
    broker: Mosquitto, device: Device, start_gateway: Start, protocol: str
) -> None:
    config = configuration(broker.port, routes=ROUTES, upstream={**PERSISTENT, "protocol": protocol})
    first = start_gateway(config)
    first.process.kill()
    first.wait()
    for number in range(100):
        device.publish(f"q{1 + number % 2}/x", str(number), 1 + number % 2)
    with proxy(broker.port) as between:
        between.refuse()
        config["upstreams"]["plant"]["url"] = f"mqtt://127.0.0.1:{between.port}"
        second = start_gateway(config, ready=False)
        async with browser(second) as client:
            await client.ask(type="subscribe", room="#")
            between.serve()
            got = [message["data"] for message in await client.messages(100)]
            assert [n for n in got if n % 2 == 0] == list(range(0, 100, 2))
            assert [n for n in got if n % 2 == 1] == list(range(1, 100, 2))
            device.publish("q1/x", "100", 1)
            assert (await client.messages(1))[0]["data"] == 100


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_gateway_killed_before_its_acknowledgement_left_loses_nothing(
    broker: Mosquitto, between: Proxy, device: Device, start_gateway: Start, qos: int
) -> None:
    first = start_gateway(configuration(between.port, routes=ROUTES, upstream=PERSISTENT))
    between.alter = swallowing("up", PUBACK if qos == 1 else PUBREC)
    for number in range(10):
        device.publish(f"q{qos}/{number}", str(number), qos)
    last = f"{first.url}/last?room=%23"
    await asyncio.to_thread(wait_until, lambda: len(httpx.get(last).json()["last"]) == 10, "the gateway has them")
    first.process.kill()
    first.wait()
    between.pass_all()
    second = start_gateway(configuration(between.port, routes=ROUTES, upstream=PERSISTENT))
    last = f"{second.url}/last?room=%23"
    await asyncio.to_thread(wait_until, lambda: len(httpx.get(last).json()["last"]) == 10, "they come again")


class Store:
    """An engine that stores when the test says so."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self.stored: list[Callable[[], None]] = []

    def receive(self, delivery: Delivery, stored: Callable[[], None]) -> None:
        self.got.append(delivery)
        self.stored.append(stored)


@asynccontextmanager
async def upstream(
    port: int, receive: Any, receipts: Receipts | None = None, **options: Any
) -> AsyncIterator[Upstream]:
    """An upstream in the test's own process, with a persistent session."""
    all_options = UpstreamOptions(
        "plant",
        "127.0.0.1",
        port,
        client_id="gate-1",
        persistent=True,
        status_topic=None,
        reconnect_min_seconds=0.05,
        reconnect_max_seconds=0.1,
        **options,
    )
    running = Upstream(
        all_options, {"q1/+": 1, "q2/+": 2}, receive, receipts or Receipts(), lambda *_: None, SystemClock(), Random(1)
    )
    task = asyncio.create_task(running.run())
    await until(lambda: running.state is UpstreamState.UP)
    yield running
    task.cancel()
    await asyncio.wait([task])


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in this loop and beyond
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_nothing_is_acknowledged_before_it_is_stored_and_all_in_order(
    between: Proxy, device: Device, protocol: str
) -> None:
    store = Store()
    acknowledged: list[int] = []

    def note(direction: str, kind: int, packet: bytes) -> bytes:
        if direction == "up" and kind in (PUBACK, PUBREC):
            acknowledged.append(int.from_bytes(packet[2:4], "big"))
        return packet

    between.alter = note
    async with upstream(between.port, store.receive, protocol=protocol):
        for number in range(4):
            device.publish(f"q{1 + number % 2}/x", str(number), 1 + number % 2)
        await until(lambda: len(store.got) == 4)
        identifiers = [delivery.receipt.packet_id for delivery in store.got if delivery.receipt]
        for number in (3, 1, 2):
            store.stored[number]()
        device.publish("q1/y", "marker", 0)
        await until(lambda: len(store.got) == 5)
        assert acknowledged == []
        store.stored[0]()
        store.stored[0]()
        await until(lambda: len(acknowledged) == 4)
        assert acknowledged == identifiers


async def test_what_was_not_stored_comes_again_and_a_late_word_acknowledges_nothing(
    between: Proxy, device: Device
) -> None:
    store = Store()
    async with upstream(between.port, store.receive):
        device.publish("q1/x", "1", 1)
        await until(lambda: len(store.got) == 1)
        between.cut()
        await until(lambda: len(store.got) == 2)
        store.stored[0]()
        first, second = (delivery.receipt for delivery in store.got)
        assert first is not None
        assert second is not None
        assert (first.packet_id, first.digest, first.duplicate) == (second.packet_id, second.digest, False)
        assert second.duplicate
        between.cut()
        await until(lambda: len(store.got) == 3)


async def test_the_broker_waits_when_too_much_is_not_stored(tmp_path: Path) -> None:
    with mosquitto(tmp_path, "max_inflight_messages 0") as broker:
        device, store = Device(broker.port), Store()
        async with upstream(broker.port, store.receive):
            for number in range(1200):
                device.publish("q1/x", str(number), 1)
            await until(lambda: broker.text.count("'q1/x', ... (") - broker.text.count("Sending PUBLISH") >= 1200)
            device.publish("q1/end", "end", 0)
            await until(lambda: any(d.topic == "q1/end" for d in store.got))
            assert len([d for d in store.got if d.receipt]) == 1000
            released = 0
            while len(store.got) < 1201:
                for stored in store.stored[released:]:
                    stored()
                    released += 1
                await until(lambda: len(store.got) > released or len(store.got) == 1201)  # noqa: B023
        device.stop()


async def test_a_new_session_forgets_the_old_ones_identifiers(broker: Mosquitto, device: Device) -> None:
    receipts = Receipts([("plant", 1, b"x"), ("other", 1, b"x")])
    async with upstream(broker.port, Store().receive, receipts):
        assert list(receipts.entries()) == [("other", 1, b"x")]


async def test_flapping_leaves_no_task_behind(between: Proxy) -> None:
    async with upstream(between.port, Store().receive) as running:
        for _ in range(10):
            connections = between.accepted
            between.cut()
            await until(lambda n=connections: between.accepted > n and running.state is UpstreamState.UP)  # type: ignore[misc]
        await until(lambda: len(asyncio.all_tasks()) <= 3)  # this test, the upstream, and its look after the connection


async def test_a_broker_that_accepts_and_says_nothing_leaves_nothing_behind(between: Proxy) -> None:
    async with upstream(between.port, Store().receive, connect_timeout_seconds=0.1) as running:
        between.freeze()
        between.cut()
        connections = between.accepted
        await until(lambda: between.accepted >= connections + 5)
        assert running.state is UpstreamState.DOWN
        assert len(asyncio.all_tasks()) <= 4
        between.thaw()
        await until(lambda: running.state is UpstreamState.UP)


async def test_packet_identifiers_go_on_after_a_reconnection(between: Proxy) -> None:
    """The broker may still hold a QoS 2 message under an old one, and would take a new message for it."""
    identifiers: list[int] = []

    def note(direction: str, kind: int, packet: bytes) -> bytes:
        if (direction, kind) == ("up", PUBLISH):
            topic_bytes = int.from_bytes(packet[2:4], "big")
            identifiers.append(int.from_bytes(packet[4 + topic_bytes : 6 + topic_bytes], "big"))
        return b"" if (direction, kind) == ("down", PUBREC) else packet

    between.alter = note
    outcomes: list[TidegateError | None] = []
    async with upstream(between.port, Store().receive) as running:
        for number in (1, 2):
            running.publish("to/x", b"1", 2, False, outcomes.append)
            await until(lambda n=number: len(identifiers) == n)  # type: ignore[misc]
            between.cut()
            await until(lambda n=number: len(outcomes) == n)  # type: ignore[misc]
            await until(lambda: running.state is UpstreamState.UP)
    assert len(set(identifiers)) == 2
    assert [type(outcome) for outcome in outcomes] == [UpstreamTimeout] * 2
