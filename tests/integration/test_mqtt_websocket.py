"""MQTT over WebSocket, with mqtt.js as web pages use it, and with bytes that no client would send."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from bridges.mqtt_websocket_answers import publish
from gateway.core.authentication import hash_token
from tests import mqtt_speech as speech
from tests.integration.conftest import Device
from tests.integration.test_proxies import location
from tests.javascript import ClientError, NodeProgram, node_program
from tests.nginx import nginx
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration

TOKENS = {"operator": "tg_" + "1" * 64, "guest": "tg_" + "2" * 64}
IDENTITY = {
    "anonymous": {"roles": ["guest"]},
    "tokens": [{"name": name, "sha256": hash_token(token), "roles": [name]} for name, token in TOKENS.items()],
}
ACCESS: list[dict[str, Any]] = [
    {
        "roles": ["guest"],
        "subscribe": ["sites/oslo/#", "kept/#", "chat/#"],
        "publish": ["chat/#"],
        "presence": ["chat/#"],
    },
    {"roles": ["operator"], "subscribe": ["#"], "publish": ["#"], "presence": ["#"]},
]
ROOMS = [{"room": "chat/#", "history": {"messages": 1000}, "presence": True}]
MQTT = Subprotocol("mqtt")
NUMBERS = count()


@pytest.fixture(scope="module")
def gateway(plant: Mosquitto, start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    """One gateway for all tests, on its own server and on one that only has ASGI."""
    return start_shared(configuration(plant.port, identity=IDENTITY, access=ACCESS, rooms=ROOMS))


@pytest.fixture(scope="module")
def program() -> Iterator[NodeProgram]:
    """One program of node, with all clients in it."""
    with node_program("mqttjs.js") as running:
        yield running


class Page:
    """One client of it."""

    def __init__(self, program: NodeProgram, name: int) -> None:
        self._program = program
        self._name = name

    def do(self, name: str, **arguments: Any) -> Any:
        return self._program.do(name, **arguments, **{"as": self._name})

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for event in tuple(self._program.events) if event["as"] == self._name]

    def messages(self, count: int) -> list[dict[str, Any]]:
        """Its first messages."""
        return self._program.wait_for(lambda event: event["as"] == self._name and event["event"] == "message", count)

    def wait_until_closed(self) -> None:
        self._program.wait_for(lambda event: event["as"] == self._name and event["event"] == "closed")


@pytest.fixture
def start(gateway: GatewayProcess, program: NodeProgram) -> Callable[..., Page]:
    """Starts connected clients."""

    def begin(version: int = 5, **options: Any) -> Page:
        page = Page(program, next(NUMBERS))
        page.do("connect", url=url_of(gateway), protocolVersion=version, **options)
        return page

    return begin


def url_of(gateway: GatewayProcess) -> str:
    return f"ws://127.0.0.1:{gateway.port}/mqtt"


@pytest.mark.parametrize("version", [4, 5])
def test_pages_hear_devices_and_are_heard_by_them(
    start: Callable[..., Page], device: Device, gateway: GatewayProcess, version: int
) -> None:
    topic = f"sensors/oslo/boiler-{gateway.port}-{version}/temperature"
    device.subscribe("commands/#")
    client = start(version, token=TOKENS["operator"])
    assert client.do("subscribe", room=topic, qos=2) == [1]

    for number in range(20):
        device.publish(topic, f"{number}", qos=1)
    client.do("publish", room=f"commands/oslo/boiler-{version}", data={"on": True}, qos=version - 3)

    heard = client.messages(20)
    assert [(message["room"], message["data"]) for message in heard] == [(topic, number) for number in range(20)]
    (command,) = device.received(1)
    assert (command.topic, command.payload) == (f"commands/oslo/boiler-{version}", b'{"on":true}')
    late = start(version)
    late.do("subscribe", room=topic)
    (last,) = late.messages(1)
    assert (last["data"], last["retained"]) == (19, True)
    client.do("disconnect")


def test_who_comes_back_has_missed_nothing(start: Callable[..., Page], gateway: GatewayProcess) -> None:
    room = f"chat/resume-{gateway.port}"
    speaker = start(4, token=TOKENS["operator"])
    for version in (4, 5):
        options = {"clientId": f"resumes-{version}", "clean": False, "expiry": 60}
        client = start(version, **options)
        client.do("subscribe", room=room)
        client.do("drop")
        speaker.do("publish", room=room, data=f"missed by {version}")
        again = start(version, **options)
        (missed,) = again.messages(1)
        assert missed["data"] == f"missed by {version}"
        speaker.do("publish", room=room, data="now")
        assert again.messages(2)[1]["data"] == "now"


def test_a_cursor_leads_from_one_transport_to_the_other(start: Callable[..., Page], gateway: GatewayProcess) -> None:
    room = f"chat/cursor-{gateway.port}"
    client = start(5, token=TOKENS["operator"])
    client.do("subscribe", room=room)
    for number in range(3):
        client.do("publish", room=room, data=number)
    cursor = client.messages(2)[1]["cursor"]

    answer = httpx.get(f"{gateway.url}/history", params={"room": room, "since": cursor}, headers=bearer("operator"))
    assert [message["data"] for message in answer.json()["messages"]] == [2]
    other = start(5, token=TOKENS["operator"])
    other.do("subscribe", room=room, since=cursor)
    assert other.messages(1)[0]["data"] == 2


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]}"}


def test_what_isnt_allowed_is_refused_with_its_reason(start: Callable[..., Page], gateway: GatewayProcess) -> None:
    guest = start(5)
    for command, room, code in [
        ("subscribe", "sensors/bergen/#", "forbidden"),
        ("subscribe", "#", "forbidden"),
        ("subscribe", "$share/group/chat/a", "Shared Subscriptions not supported"),
        ("publish", "commands/oslo/b", "forbidden"),
        ("publish", "sensors/oslo/b/t", "forbidden|read_only"),
    ]:
        with pytest.raises(ClientError) as caught:
            guest.do(command, room=room, data=1)
        assert any(each in str(caught.value) for each in code.split("|")), str(caught.value)
    with pytest.raises(ClientError, match="134"):
        start(5, token="tg_" + "3" * 64)
    with pytest.raises(ClientError, match=r"[45]"):
        start(4, token="nonsense")
    assert guest.do("publish", room=f"chat/{gateway.port}", data="still there") is None


def test_who_is_there_is_told_to_other_transports(start: Callable[..., Page], gateway: GatewayProcess) -> None:
    room = f"chat/presence-{gateway.port}"
    for page in (start(4, clientId="tablet-7"), start(5, token=TOKENS["operator"])):
        page.do("subscribe", room=room)
    answer = httpx.get(f"{gateway.url}/presence", params={"room": room}, headers=bearer("operator"))
    members = answer.json()["members"]
    assert sorted(str(member) for member in members) == ["{'member': 'tablet-7'}", "{'user': 'operator'}"], answer.text


def test_a_will_is_told_when_a_page_is_gone(start: Callable[..., Page], gateway: GatewayProcess) -> None:
    room = f"chat/will-{gateway.port}"
    hearer = start(5)
    hearer.do("subscribe", room=room)
    leaver = start(4, will={"topic": room, "payload": "gone", "qos": 1})
    leaver.do("drop")
    assert hearer.messages(1)[0]["data"] == "gone"


def test_the_same_client_takes_over(start: Callable[..., Page]) -> None:
    first = start(5, clientId="one")
    start(4, clientId="one")
    first.wait_until_closed()
    assert "another connection" in str(first.events)


def test_a_flood_is_refused_or_slowed_and_others_notice_nothing(
    start: Callable[..., Page], gateway: GatewayProcess
) -> None:
    room = f"chat/flood-{gateway.port}"
    five, three, other = start(5), start(4), start(5)
    other.do("subscribe", room=f"{room}/other")
    outcome = five.do("flood", room=room, count=200)
    assert outcome["done"] < 200
    assert "Quota exceeded" in str(outcome["errors"])
    five.wait_until_closed()
    assert three.do("flood", room=room, count=150) == {"done": 150, "errors": []}  # the last 30 take 1.5 s
    other.do("publish", room=f"{room}/other", data="fine")
    assert other.messages(1)[0]["data"] == "fine"


async def hear(client: ClientConnection) -> bytes:
    async with asyncio.timeout(DEADLINE_SECONDS):
        heard = await client.recv()
        assert isinstance(heard, bytes)
        return heard


@pytest.mark.parametrize(
    ("frames", "close"),
    [
        ([speech.connect(3)], 1008),
        ([speech.PINGREQ], 1002),
        ([b"\x10\xff\xff\xff\xff\x01"], 1002),
        ([speech.connect(), speech.connect()], 1002),
        ([speech.connect(), b"\x30\xff\xff\xff\xff\x01"], 1002),
        ([speech.connect(), b"\x30\xff\xff\xff\x7f"], 1002),
        ([speech.connect(), publish(5, "chat/a", b"x" * 70_000)], 1009),
        ([speech.connect(), "text"], 1003),
        ([speech.connect(4), "text"], 1003),
    ],
    ids=range(9),
)
async def test_bad_input_ends_the_connection_and_nothing_else(
    gateway: GatewayProcess, frames: list[bytes | str], close: int
) -> None:
    async with connect(url_of(gateway), subprotocols=[MQTT]) as other, asyncio.timeout(DEADLINE_SECONDS):
        await other.send(speech.connect(5, "other"))
        assert (await hear(other))[0] == 0x20
        async with connect(url_of(gateway), subprotocols=[MQTT]) as client:
            for frame in frames:
                await client.send(frame)
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    assert isinstance(await client.recv(), bytes)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == close
        await other.send(speech.PINGREQ)
        assert await hear(other) == b"\xd0\x00"


async def test_packets_may_be_split_over_frames_and_joined(gateway: GatewayProcess) -> None:
    written = speech.connect() + speech.subscribe(1, ("chat/joined", 0)) + publish(5, "chat/joined", b"x")
    async with connect(url_of(gateway), subprotocols=[MQTT]) as client:
        for start in range(0, len(written), 7):
            await client.send(written[start : start + 7])
        heard = b""
        while not heard.endswith(b"x"):
            heard += await hear(client)
    assert [first for first, _ in speech.read_all(heard)] == [0x20, 0x90, 0x30]


async def test_a_handshake_without_the_subprotocol_or_from_elsewhere_is_refused(gateway: GatewayProcess) -> None:
    for options in ({}, {"subprotocols": [MQTT], "origin": "https://evil.example"}):
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url_of(gateway), **options):  # type: ignore[arg-type]
                pass
        assert caught.value.response.status_code in (400, 403)


def test_through_nginx(gateway: GatewayProcess, program: NodeProgram, tmp_path: Path) -> None:
    with nginx(tmp_path, location(gateway)) as port:
        client = Page(program, next(NUMBERS))
        client.do("connect", url=f"ws://127.0.0.1:{port}/mqtt", protocolVersion=5)
        client.do("subscribe", room="chat/nginx")
        client.do("publish", room="chat/nginx", data={"a": 1})
        assert client.messages(1)[0]["data"] == {"a": 1}
