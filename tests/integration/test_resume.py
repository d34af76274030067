"""Clients that come back, over whichever transport, and what the gateway can't tell them any more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
from httpx_sse import aconnect_sse

from tests.integration.conftest import Device, browser
from tests.integration.test_websocket import metric, raw_client, raw_stream
from tests.real import GatewayProcess, Mosquitto, configuration, wait_until


@asynccontextmanager
async def stream(
    gateway: GatewayProcess, query: str, last_event_id: str | None = None
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """An event stream's objects, with the id of each event as `event_id`."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
        aconnect_sse(http, "GET", f"/sse?{query}", headers=headers) as source,
    ):

        async def objects() -> AsyncIterator[dict[str, Any]]:
            async for event in source.aiter_sse():
                if event.data:
                    yield {**orjson.loads(event.data), "event_id": event.id}

        yield objects()


async def take(events: AsyncIterator[dict[str, Any]], kind: str, count: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        event = await asyncio.wait_for(anext(events), 20)
        if event["type"] == kind:
            found.append(event)
    return found


def data(messages: list[dict[str, Any]]) -> list[Any]:
    return [message["data"] for message in messages]


async def until(condition: Callable[[], Any], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what)


def last(gateway: GatewayProcess, room: str) -> Any:
    values = httpx.get(f"{gateway.url}/last", params={"room": room}).json()["last"]
    return values[0]["data"] if values else None


async def test_a_cursor_of_one_transport_works_on_the_others(gateway: GatewayProcess, device: Device) -> None:
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="kept/x")
        for number in range(5):
            device.publish("kept/x", str(number), qos=1)
        cursor = (await client.messages(5))[2]["cursor"]
    async with stream(gateway, "room=kept/x", cursor) as events:
        (subscribed,) = await take(events, "subscribed")
        assert (subscribed["recovered"], subscribed["event_id"]) == (True, cursor)
        device.publish("kept/x", "5", qos=1)
        messages = await take(events, "message", 3)
        assert data(messages) == [3, 4, 5]
        cursor = messages[0]["event_id"]
        assert cursor == messages[0]["cursor"]
    async with browser(gateway) as client:
        answer = await client.ask(type="subscribe", room="kept/x", since=cursor)
        assert (answer["recovered"], answer["last"]) == (True, [])
        assert data(await client.messages(2)) == [4, 5]
    async with stream(gateway, f"room=kept/x&room=raw/new&since={cursor}&since=") as events:
        answers = await take(events, "subscribed", 2)
        assert [(answer["recovered"], answer["event_id"]) for answer in answers] == [(True, ""), (False, cursor)]
        assert data(await take(events, "message", 2)) == [4, 5]
    history = httpx.get(f"{gateway.url}/history", params={"room": "kept/x", "since": cursor}).json()
    assert (data(history["messages"]), history["recovered"], history["more"]) == ([4, 5], True, False)


async def test_replay_goes_over_into_live_while_messages_pour_in(gateway: GatewayProcess, device: Device) -> None:
    async with browser(gateway) as client:
        answer = await client.ask(type="subscribe", room="kept/x")
    for number in range(1500):
        device.publish("kept/x", str(number), qos=1)
    async with browser(gateway) as client, stream(gateway, "room=kept/x", answer["cursor"]) as events:
        await client.say(type="subscribe", room=["kept/x", "kept/+"], since=answer["cursor"])
        over_websocket, over_sse = await asyncio.gather(client.messages(1500), take(events, "message", 1500))
    assert data(over_websocket) == data(over_sse) == list(range(1500))


async def test_what_the_log_lacks_is_said(
    broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess]
) -> None:
    routes = [{"topic": "k/{x}", "room": "k/{x}", "history": {"messages": 3}}]
    gateway = start_gateway(configuration(broker.port, routes=routes))
    async with browser(gateway) as client:
        start = (await client.ask(type="subscribe", room="k/x"))["cursor"]
    for number in range(5):
        device.publish("k/x", str(number), qos=1)
    await until(lambda: last(gateway, "k/x") == 4, "all is there")
    for cursor in (start, "0-0", start.partition("-")[0] + "-99999999"):
        async with browser(gateway) as client:
            answer = await client.ask(type="subscribe", room="k/x", since=cursor)
            assert (answer["recovered"], data(answer["last"])) == (False, [4])
        async with stream(gateway, f"room=k/x&since={cursor}") as events:
            (answer,) = await take(events, "subscribed")
            assert (answer["recovered"], data(answer["last"])) == (False, [4])
    async with browser(gateway) as client:
        error = await client.ask(type="subscribe", room="k/x", since="no cursor")
        assert (error["code"], "since" in error["message"]) == ("bad_message", True)
    bad = httpx.get(f"{gateway.url}/sse?room=k/x&since=no")
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_message")


async def test_cursors_do_not_survive_a_log_that_is_lost(
    broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess]
) -> None:
    first = start_gateway(configuration(broker.port))
    async with browser(first) as client:
        cursor = (await client.ask(type="subscribe", room="kept/x"))["cursor"]
    first.stop()
    async with browser(start_gateway(configuration(broker.port))) as client:
        answer = await client.ask(type="subscribe", room="kept/x", since=cursor)
        assert answer["recovered"] is False
        assert answer["cursor"].partition("-")[0] != cursor.partition("-")[0]


async def test_history_is_paged_both_ways_and_bad_questions_are_named(gateway: GatewayProcess, device: Device) -> None:
    for number in range(7):
        device.publish("kept/x", str(number), qos=1)
    await until(lambda: last(gateway, "kept/x") == 6, "all is there")

    def ask(**asked: Any) -> dict[str, Any]:
        page: dict[str, Any] = httpx.get(f"{gateway.url}/history", params={"room": "kept/x", **asked}).json()
        return page

    newest = ask(limit=3)
    assert (data(newest["messages"]), newest["more"]) == ([4, 5, 6], True)
    older = ask(limit=3, before=newest["messages"][0]["cursor"])
    assert data(older["messages"]) == [1, 2, 3]
    oldest = ask(limit=3, before=older["messages"][0]["cursor"])
    assert (data(oldest["messages"]), oldest["more"]) == ([0], False)
    forward = ask(limit=2, since=oldest["messages"][0]["cursor"])
    assert (data(forward["messages"]), forward["more"], forward["recovered"]) == ([1, 2], True, True)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"limit": 0}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"since": "x"}, "since"),
        ({"before": "x"}, "before"),
        ({"before": "other-1"}, "before"),
        ({"room": "a//b"}, "room"),
    ]
    for asked, named in bad:
        answer = httpx.get(f"{gateway.url}/history", params={"room": "kept/x", **asked})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_message")
        assert named in answer.json()["detail"]


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_client_that_stalls_and_reads_again_is_told_all_in_order(
    gateway: GatewayProcess, device: Device, transport: str
) -> None:
    count, pad = 2000, "x" * 2000
    connect = raw_client if transport == "websocket" else raw_stream
    stalled = connect(gateway, "kept/x", receive_buffer_bytes=4096)
    heard = b""
    while b'"subscribed"' not in heard:
        heard += await asyncio.to_thread(stalled.recv, 4096)
    for number in range(count):
        device.publish("kept/x", orjson.dumps({"n": number, "pad": pad}), qos=1)
    await until(lambda: (last(gateway, "kept/x") or {}).get("n") == count - 1, "all is there")
    assert metric(gateway, "tidegate_lagging_sessions{}") == 1
    device.publish("kept/x", '{"n": -1, "pad": ""}', qos=1)
    while b'{"n": -1' not in heard:
        heard = heard + await asyncio.to_thread(stalled.recv, 1 << 20)
    stalled.close()
    numbers = [int(part.partition(b",")[0]) for part in heard.split(b'"data":{"n":')[1:]]
    assert [n for n in numbers if n >= 0] == list(range(count))


async def test_rooms_between_browsers_have_an_audience(gateway: GatewayProcess) -> None:
    async with browser(gateway) as ann, browser(gateway) as bob:
        for client in (ann, bob):
            await client.ask(type="subscribe", room="chat/hall")
        await ann.say(type="publish", room="chat/hall", data="to all")
        sender = (await bob.messages(1))[0]["from"]["session"]
        assert data(await ann.messages(1)) == ["to all"]
        await bob.say(type="publish", room="chat/hall", data="back to ann", to={"session": sender})
        assert data(await ann.messages(1)) == ["back to ann"]
        await ann.say(type="publish", room="chat/hall", data="to others", echo=False)
        await ann.say(type="publish", room="chat/hall", data="typing", volatile=True)
        assert data(await bob.messages(2)) == ["to others", "typing"]
        assert data(await ann.messages(1)) == ["typing"]
        error = await ann.ask(type="publish", room="sites/a/b/commands", data=1, volatile=True)
        assert error["code"] == "bad_message"
