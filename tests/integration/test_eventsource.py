"""What stands in for EventSource outside of browsers; Chromium's own is in tests/browser/test_eventsource.py."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from gateway.core.authentication import hash_token
from tests.http_proxy import cutter
from tests.integration.conftest import Device
from tests.integration.test_websocket import sessions
from tests.javascript import ClientError, NodeProgram, node_program
from tests.real import GatewayProcess, Mosquitto, configuration, wait_until

TOKEN = "tg_" + "a" * 64
LIBRARIES = ["eventsource", "event-source-polyfill"]


@pytest.fixture(scope="module")
def guarded(plant: Mosquitto, start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    """A gateway that wants tokens, on its own server and on one that only has ASGI."""
    identity = {"tokens": [{"name": "ci", "sha256": hash_token(TOKEN), "roles": ["operator"]}]}
    access = [{"roles": ["operator"], "subscribe": ["kept/#", "raw/#"], "publish": ["chat/#"]}]
    return start_shared(configuration(plant.port, identity=identity, access=access))


def data(client: NodeProgram, count: int) -> list[Any]:
    return [event["data"] for event in client.wait_for(lambda event: event["event"] == "message", count)]


def test_stand_ins_with_a_header_go_on_where_they_were_cut(guarded: GatewayProcess, device: Device) -> None:
    room = f"kept/cut-{guarded.port}"
    with cutter(guarded.port) as between, ExitStack() as running:
        clients = [running.enter_context(node_program("eventsource.js")) for _ in LIBRARIES]
        for client, library in zip(clients, LIBRARIES, strict=True):
            client.do("connect", url=f"http://127.0.0.1:{between.port}", token=TOKEN, library=library)
            client.do("subscribe", room=room)
        for number in range(3):
            device.publish(room, str(number), qos=1)
        for client in clients:
            assert data(client, 3) == [0, 1, 2]
        between.cut()
        for number in range(3, 6):
            device.publish(room, str(number), qos=1)
        for client in clients:
            assert data(client, 6) == list(range(6))
            subscribed = client.wait_for(lambda event: event["event"] == "subscribed", 2)
            assert subscribed[1]["recovered"] is True
            assert {"event": "interrupted", "closed": False} in client.events
            assert client.wait_for(lambda event: event["event"] == "welcome")
            client.do("disconnect")
        wait_until(lambda: sessions(guarded, "sse") == 0, "they have left")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_ticket_lets_in_and_no_permission_is_told(guarded: GatewayProcess, device: Device, library: str) -> None:
    with node_program("eventsource.js") as client:
        client.do("connect", url=guarded.url, token=TOKEN, library=library, ticket=True)
        client.do("subscribe", room="raw/ticket")
        device.publish("raw/ticket", "1")
        assert data(client, 1) == [1]
        with pytest.raises(ClientError, match="forbidden"):
            client.do("subscribe", room="chat/x")
        client.do("publish", room="chat/x", data=1)
        with pytest.raises(ClientError, match="forbidden"):
            client.do("publish", room="raw/ticket", data=1)


def test_a_topic_is_a_room_as_mercures_subscribers_say_it(
    plant: Mosquitto, device: Device, start_either: Callable[..., GatewayProcess]
) -> None:
    gateway = start_either(configuration(plant.port))
    with (
        httpx.Client(base_url=gateway.url, timeout=20) as http,
        connect_sse(http, "GET", "/sse?topic=kept/m&topic=raw/%2B&room=raw/m") as source,
    ):
        events = source.iter_sse()
        rooms = [event.json()["room"] for event in (next(e for e in events if e.event == "subscribed") for _ in "123")]
        assert sorted(rooms) == ["kept/m", "raw/+", "raw/m"]
        device.publish("kept/m", "1", qos=1)
        first = next(event for event in events if event.event == "message")
    device.publish("kept/m", "2", qos=1)
    with (
        httpx.Client(base_url=gateway.url, timeout=20) as http,
        connect_sse(http, "GET", f"/sse?topic=*&lastEventID={first.id}") as source,
    ):
        event = next(event for event in source.iter_sse() if event.event == "subscribed")
        assert event.json()["room"] == "#"
    refused = httpx.get(f"{gateway.url}/sse?topic=kept/m&lastEventId=x")
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_message")
