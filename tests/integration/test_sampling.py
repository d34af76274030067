"""Fewer messages where fewer were asked for, over each transport, and always the last one."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import httpx
import orjson
import pytest

from tests.integration.conftest import Browser, Device, browser
from tests.integration.test_resume import data, last, stream, take, until
from tests.integration.test_websocket import metric, raw_client, raw_stream
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration

COUNT = 100
"""Messages, 100 a second."""


async def pour(device: Device, topic: str, value: Callable[[int], Any] = lambda number: number) -> None:
    for number in range(COUNT):
        device.publish(topic, orjson.dumps(value(number)), qos=1)
        await asyncio.sleep(0.01)


async def hear_until(client: Browser, final: Any) -> list[dict[str, Any]]:
    """What comes up to the final value."""
    heard: list[dict[str, Any]] = []
    while not heard or heard[-1]["data"] != final:
        heard += await client.messages(1)
    return heard


async def take_until(events: AsyncIterator[dict[str, Any]], final: Any) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    while not heard or heard[-1]["data"] != final:
        heard += await take(events, "message")
    return heard


def check_few_and_in_order(heard: list[dict[str, Any]], since: float) -> None:
    """One at once, and then at most one in each 0.2 s."""
    numbers = data(heard)
    assert numbers == sorted(set(numbers))
    assert len(numbers) <= 1 + (time.monotonic() - since) / 0.2


async def test_a_sampled_subscription_brings_few_messages_and_the_last(gateway: GatewayProcess, device: Device) -> None:
    async with (
        browser(gateway) as client,
        browser(gateway) as everything,
        stream(gateway, "room=kept/x&sample=0.2") as events,
    ):
        answer = await client.ask(type="subscribe", room="kept/+", sample={"seconds": 0.2})
        assert answer["sample"] == {"seconds": 0.2, "keep": "last"}
        await everything.ask(type="subscribe", room="kept/+")
        assert (await take(events, "subscribed"))[0]["sample"] == {"seconds": 0.2, "keep": "last"}
        start = time.monotonic()
        await pour(device, "kept/x")
        sampled, whole, streamed = await asyncio.gather(
            hear_until(client, COUNT - 1), hear_until(everything, COUNT - 1), take_until(events, COUNT - 1)
        )
        assert data(whole) == list(range(COUNT))
        check_few_and_in_order(sampled, start)
        check_few_and_in_order(streamed, start)
        cursor, position = sampled[-1]["cursor"], whole[-1]["cursor"]
        assert cursor == streamed[-1]["event_id"] == position
    assert metric(gateway, 'tidegate_drops_total{cause="conflated"}') > 0


async def test_who_comes_back_is_told_the_last_value_once(gateway: GatewayProcess, device: Device) -> None:
    sample = {"seconds": 0.2, "keep": "max"}
    async with browser(gateway) as client:
        start = (await client.ask(type="subscribe", room="kept/x", sample=sample))["cursor"]
    await pour(device, "kept/x")
    await until(lambda: last(gateway, "kept/x") == COUNT - 1, "all is there")
    async with browser(gateway) as client:
        answer = await client.ask(type="subscribe", room="kept/x", sample=sample, since=start)
        assert (answer["recovered"], answer["last"]) == (True, [])
        device.publish("kept/x", str(COUNT), qos=1)
        assert data(await client.messages(2)) == [COUNT - 1, COUNT]
    async with stream(gateway, "room=kept/x&sample=0.2&sample_keep=max", start) as events:
        assert (await take(events, "subscribed"))[0]["recovered"] is True
        assert data(await take(events, "message")) == [COUNT]


async def test_sampling_is_changed_and_ended_by_subscribing_again(gateway: GatewayProcess, device: Device) -> None:
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="kept/x", sample={"seconds": 3600})
        device.publish("kept/x", "1", qos=1)
        assert data(await client.messages(1)) == [1]
        device.publish("kept/x", "2", qos=1)
        device.publish("kept/x", "3", qos=1)
        await until(lambda: last(gateway, "kept/x") == 3, "all is there")
        await client.say(type="subscribe", room="kept/x")
        assert data(await client.messages(1)) == [3]
        assert "sample" not in await client.hear()
        await pour(device, "kept/x")
        assert data(await client.messages(COUNT)) == list(range(COUNT))


async def test_a_sampled_route_lets_few_through_for_everybody_and_the_log(
    broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess]
) -> None:
    route = {"topic": "k/{x}", "room": "k/{x}", "qos": 1, "history": {"messages": 1000}}
    gateway = start_gateway(configuration(broker.port, routes=[{**route, "sample": {"seconds": 0.2, "keep": "max"}}]))
    async with browser(gateway) as client, stream(gateway, "room=k/x") as events:
        await client.ask(type="subscribe", room="k/x")
        await take(events, "subscribed")
        start = time.monotonic()
        await pour(device, "k/x", value=lambda number: {"n": number, "s": str(number)})
        final = {"n": COUNT - 1, "s": str(COUNT - 1)}
        heard, streamed = await asyncio.gather(hear_until(client, final), take_until(events, final))
        assert len(heard) <= 1 + (time.monotonic() - start) / 0.2
    assert data(heard) == data(streamed)
    history = httpx.get(f"{gateway.url}/history", params={"room": "k/x", "limit": 1000}).json()
    assert data(history["messages"]) == data(heard)


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_client_gets_as_many_bytes_as_it_asked_for(
    gateway: GatewayProcess, device: Device, transport: str
) -> None:
    pad, bytes_per_second = "x" * 1000, 5000
    final = {"n": COUNT - 1, "pad": pad}
    heard: list[dict[str, Any]]

    def burst() -> None:
        for number in range(COUNT):
            device.publish("kept/x", orjson.dumps({"n": number, "pad": pad}), qos=1)

    if transport == "websocket":
        async with browser(gateway) as client:
            await client.ask(type="bandwidth", bytes_per_second=bytes_per_second)
            await client.ask(type="subscribe", room="kept/x")
            burst()
            heard = await hear_until(client, final)
    else:
        async with stream(gateway, f"room=kept/x&bytes_per_second={bytes_per_second}") as events:
            welcome = (await take(events, "welcome"))[0]
            assert welcome["limits"]["bytes_per_second_out"] == bytes_per_second
            await take(events, "subscribed")
            burst()
            heard = await take_until(events, final)
    numbers = [message["data"]["n"] for message in heard]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < COUNT


async def test_a_limit_on_what_is_sent_holds_for_all(
    broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port, limits={"bytes_per_second_out": "1 KiB"}))
    async with browser(gateway) as client:
        await client.ask(type="bandwidth", bytes_per_second=10**9)
        await client.ask(type="subscribe", room="kept/x")
        for number in range(200):
            device.publish("kept/x", str(number), qos=1)
        await until(lambda: last(gateway, "kept/x") == 199, "all is there")
        heard = await asyncio.wait_for(hear_until(client, 199), DEADLINE_SECONDS)
        assert len(heard) < 200


def test_bad_samplings_are_named(gateway: GatewayProcess) -> None:
    for query, named in (
        ("sample=often", "sample: expected a number"),
        ("sample=0", "sample.seconds"),
        ("sample=nan", "sample.seconds"),
        ("sample=1&sample_keep=median", "sample.keep"),
        ("sample_keep=mean", "sample: expected a number of seconds"),
        ("sample=1&sample=2&sample=3", "sample: expected one, or one for each"),
        ("bytes_per_second=0", "bytes_per_second: expected a number above 0"),
    ):
        answer = httpx.get(f"{gateway.url}/sse?room=kept/a&room=kept/b&{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_message")
        assert named in answer.json()["detail"]


async def test_rooms_of_one_stream_may_be_sampled_apart(gateway: GatewayProcess) -> None:
    query = (
        "room=kept/a&room=kept/b&room=kept/c&sample=&sample=0.5&sample=0.25&sample_keep=&sample_keep=mean&sample_keep="
    )
    async with stream(gateway, query) as events:
        samples = {event["room"]: event.get("sample") for event in await take(events, "subscribed", 3)}
    assert samples == {
        "kept/a": None,
        "kept/b": {"seconds": 0.5, "keep": "mean"},
        "kept/c": {"seconds": 0.25, "keep": "last"},
    }


async def test_what_a_sampled_route_holds_goes_out_before_the_gateway_ends(
    broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess]
) -> None:
    routes = [{"topic": "k/{x}", "room": "k/{x}", "sample": {"seconds": 3600}}, {"topic": "end", "room": "end"}]
    gateway = start_gateway(configuration(broker.port, routes=routes))
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="#")
        for topic, payload in (("k/x", "1"), ("k/x", "2"), ("end", "0")):
            device.publish(topic, payload, qos=1)
        assert data(await client.messages(2)) == [1, 0]
        gateway.process.terminate()
        assert data(await client.messages(1)) == [2]
        assert (await client.hear())["type"] == "bye"


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_sampled_client_that_stalls_and_reads_again_is_told_the_last_value(
    gateway: GatewayProcess, device: Device, transport: str
) -> None:
    numbers, pad = count(), "x" * 250_000
    if transport == "websocket":
        stalled = raw_client(gateway, receive_buffer_bytes=4096)
        text = b'{"type":"subscribe","room":"kept/x","sample":{"seconds":0.01}}'
        stalled.sendall(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)
    else:
        stalled = raw_stream(gateway, "kept/x&sample=0.01", receive_buffer_bytes=4096)
    heard = b""
    while b'"subscribed"' not in heard:
        heard += await asyncio.to_thread(stalled.recv, 4096)

    def lags() -> bool:
        device.publish("kept/x", orjson.dumps({"n": next(numbers), "pad": pad}), qos=1)
        return metric(gateway, "tidegate_lagging_sessions{}") == 1

    await until(lags, "the client lags")
    for _ in range(20):
        final = next(numbers)
        device.publish("kept/x", orjson.dumps({"n": final, "pad": pad}), qos=1)
    await until(lambda: (last(gateway, "kept/x") or {}).get("n") == final, "all is there")
    while b'{"n":%d,' % final not in heard:
        heard += await asyncio.to_thread(stalled.recv, 1 << 20)
    stalled.close()
    told = [int(part.partition(b",")[0]) for part in heard.split(b'"data":{"n":')[1:]]
    assert told == sorted(set(told))
    assert final - 1 not in told
    assert b'"recovered":false' not in heard.partition(b'"subscribed"')[2].partition(b'"last"')[2]
