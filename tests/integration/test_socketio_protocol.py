"""The protocol's own test suite (github.com/socketio/socket.io-protocol), ported, and what no client would send.

The suite's server echoes events; here `publish` with an acknowledgement stands for that.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.real import DEADLINE_SECONDS, GatewayProcess, fresh, wait_until

POLLING = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"
MEGABYTE = 1_000_000


def config(**limits: Any) -> dict[str, Any]:
    bounds = {"message_bytes": 8192, "handshake_seconds": 2, "messages_per_second": 10_000, "messages_burst": 10_000}
    return {
        "broker": {"port": 0},
        "heartbeat": {"interval_seconds": 0.3, "timeout_seconds": 2},
        "namespaces": {"custom": {}},
        "limits": {**bounds, **limits},
        "offenders": {"exempt": ["127.0.0.1"]},
    }


@pytest.fixture(scope="module", params=["direct", "plain"])
def served(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    with GatewayProcess(folder / "gateway", config(), plain=request.param == "plain") as running:
        running.wait_until_ready()
        yield running
        assert "Traceback" not in running.text
        assert '"level": "error"' not in running.text


class Http:
    """Requests, one after the other."""

    def __init__(self, client: httpx.Client) -> None:
        self.request = client.request
        self.get = client.get
        self.post = client.post

    def handshake(self) -> str:
        """Open a connection that polls; its path."""
        opened: dict[str, Any] = orjson.loads(self.get(POLLING).text[1:])
        return f"{POLLING}&sid={opened['sid']}"


@pytest.fixture
def http(served: GatewayProcess) -> Iterator[Http]:
    with httpx.Client(base_url=served.url, timeout=DEADLINE_SECONDS) as client:
        yield Http(client)


class Socket:
    """A connection over WebSocket, packet by packet."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def hear(self) -> Any:
        """The next packet that is no ping; pings are answered."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (packet := await self.connection.recv()) == "2":
                await self.connection.send("3")
            return packet

    async def say(self, *packets: str | bytes) -> None:
        for packet in packets:
            await self.connection.send(packet)

    async def closed(self) -> None:
        """Until the gateway has closed it."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(ConnectionClosed):
                while True:
                    await self.connection.recv()


def websocket(gateway: GatewayProcess, path: str = WEBSOCKET) -> connect:
    return connect(gateway.url.replace("http", "ws", 1) + path, compression=None, max_size=MEGABYTE)


async def joined(connection: ClientConnection, path: str = "") -> Socket:
    """A client that has connected to a namespace and has been welcomed."""
    socket = Socket(connection)
    assert (await socket.hear()).startswith("0{")
    await socket.say(f"40{path}")
    assert (await socket.hear()).startswith(f"40{path}" + '{"sid":')
    assert (await socket.hear()).startswith(f'42{path}["welcome",')
    return socket


def code_of(answer: httpx.Response) -> tuple[int, int]:
    return answer.status_code, answer.json()["code"]


def test_polling_opens_a_session(http: Http) -> None:
    answer = http.get(POLLING)
    assert answer.headers["cache-control"] == "no-store"
    opened = orjson.loads(answer.text.removeprefix("0"))
    assert opened.keys() == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
    assert opened["upgrades"] == ["websocket"]
    assert (opened["pingInterval"], opened["pingTimeout"], opened["maxPayload"]) == (300, 2000, 8192)


async def test_websocket_opens_a_session(served: GatewayProcess) -> None:
    async with websocket(served) as connection:
        assert orjson.loads((await Socket(connection).hear())[1:])["upgrades"] == []


@pytest.mark.parametrize(
    ("method", "query", "code"),
    [
        ("GET", "transport=polling", 5),
        ("GET", "EIO=abc&transport=polling", 5),
        ("GET", "EIO=3&transport=polling", 5),
        ("GET", "EIO=4", 0),
        ("GET", "EIO=4&transport=abc", 0),
        ("POST", "EIO=4&transport=polling", 2),
        ("PUT", "EIO=4&transport=polling", 2),
        ("GET", "EIO=4&transport=websocket", 3),
        ("GET", "EIO=4&transport=polling&j=0", 3),
        ("GET", "EIO=4&transport=polling&sid=nobody", 1),
        ("POST", "EIO=4&transport=polling&sid=nobody", 1),
        ("GET", "EIO=4&transport=polling&sid=a&sid=b", 1),
    ],
)
def test_a_handshake_that_is_none_has_the_error_of_the_protocol(http: Http, method: str, query: str, code: int) -> None:
    assert code_of(http.request(method, f"/socket.io/?{query}")) == (400, code)


@pytest.mark.parametrize("query", ["transport=websocket", "EIO=3&transport=websocket", "EIO=4", "EIO=4&transport=abc"])
async def test_a_websocket_handshake_that_is_none_is_refused(served: GatewayProcess, query: str) -> None:
    with pytest.raises(InvalidStatus):
        await websocket(served, f"/socket.io/?{query}").__aenter__()


def test_polling_is_asked_for_pongs(http: Http) -> None:
    path = http.handshake()
    for _ in range(3):
        assert http.get(path).text == "2"
        assert http.post(path, content="3").text == "OK"


def test_who_does_not_answer_pings_is_closed(http: Http) -> None:
    path = http.handshake()
    wait_until(lambda: http.get(path).status_code == 400, "the end")


async def test_websocket_without_pongs_is_closed(served: GatewayProcess) -> None:
    async with websocket(served) as connection:
        await Socket(connection).closed()


async def test_a_connection_without_a_client_is_closed(served: GatewayProcess) -> None:
    async with websocket(served) as connection:
        with pytest.raises(ConnectionClosed):
            while True:
                await Socket(connection).hear()


async def test_a_poll_that_waits_ends_when_the_client_closes(served: GatewayProcess, http: Http) -> None:
    path = http.handshake()
    async with httpx.AsyncClient(base_url=served.url) as other:
        parked = asyncio.create_task(other.get(path))
        await asyncio.sleep(0.05)
        await other.post(path, content="1")
        assert (await parked).text in ("6", "2")
        assert code_of(await other.get(path)) == (400, 1)


async def test_websocket_ends_when_the_client_closes(served: GatewayProcess) -> None:
    async with websocket(served) as connection:
        await Socket(connection).say("1")
        await Socket(connection).closed()


async def test_polling_goes_over_to_websocket_and_is_over_then(served: GatewayProcess, http: Http) -> None:
    path = http.handshake()
    upgrade = path.replace("polling", "websocket")
    async with websocket(served, upgrade) as connection:
        socket = Socket(connection)
        await socket.say("2probe")
        assert await socket.hear() == "3probe"
        await socket.say("5", "40")
        assert (await socket.hear()).startswith("40{")
        assert code_of(http.get(path)) == (400, 3)
        with pytest.raises(InvalidStatus):
            await websocket(served, upgrade).__aenter__()


async def test_an_upgrade_that_is_none_leaves_the_connection_polling(served: GatewayProcess, http: Http) -> None:
    path = http.handshake()
    http.post(path, content="40")
    async with websocket(served, path.replace("polling", "websocket")) as connection:
        await Socket(connection).say("nonsense")
        await Socket(connection).closed()
    assert "40{" in wait_until(lambda: "40{" in (said := http.get(path).text) and said, "the answer")


async def test_namespaces_are_connected_to_and_left(served: GatewayProcess) -> None:
    async with websocket(served) as connection:
        socket = await joined(connection)
        await socket.say("40/custom,")
        assert (await socket.hear()).startswith("40/custom,{")
        assert (await socket.hear()).startswith('42/custom,["welcome",')
        await socket.say("40/random", '40/random,{"token":"x"}')
        for _ in range(2):
            assert await socket.hear() == '44/random,{"message":"Invalid namespace"}'
        await socket.say("40")
        assert '"code":"bad_message"' in await socket.hear()
        await socket.say("41/custom", '421["ping"]')
        assert await socket.hear() == '431[{"type":"pong"}]'


async def test_packets_are_acknowledged_with_and_without_attachments(served: GatewayProcess) -> None:
    async with websocket(served) as connection:
        socket = await joined(connection)
        await socket.say('42456["subscribe","a"]')
        assert (await socket.hear()).startswith('43456[{"type":"subscribed"')
        await socket.say('451-789["publish","a",{"_placeholder":true,"num":0}]', bytes([1, 2, 3]))
        assert (await socket.hear()).startswith('451-["message",')
        assert await socket.hear() == bytes([1, 2, 3])
        assert await socket.hear() == '43789[{"type":"ack"}]'
        await socket.say(
            '452-["emit","a","two",[{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]]', b"\x01", b"\x02"
        )
        assert (await socket.hear()).startswith(
            '452-["two",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1},"'
        )
        assert [await socket.hear(), await socket.hear()] == [b"\x02", b"\x01"]


MALFORMED = [
    "4abc",
    "42{}",
    "42[]",
    "42[1]",
    '42["disconnect"]',
    '42abc["ping"]',
    '4299999999999999999999["ping"]',
    "42",
    "43[1]",
    "441",
    "4",
    "40[]",
    "41{}",
    "47",
    "42[" * 2000,
    '4599999999999-["publish","a",{"_placeholder":true,"num":0}]',
    '450-["publish","a"]',
    '451-["publish","a",{"_placeholder":true,"num":1}]',
    '451-["publish","a",{"_placeholder":true,"num":-1}]',
    "0",
    "2",
    "5",
    "9",
    "",
    "b!",
    "nonsense",
    "\x00",
    "4²",
]


@pytest.mark.parametrize("packet", MALFORMED)
async def test_what_is_no_packet_ends_that_connection_alone(served: GatewayProcess, http: Http, packet: str) -> None:
    async with websocket(served) as one, websocket(served) as other:
        bystander, socket = await joined(other), await joined(one)
        await socket.say(packet)
        await socket.closed()
        await bystander.say('421["ping"]')
        assert await bystander.hear() == '431[{"type":"pong"}]'
    path = http.handshake()
    http.post(path, content=packet.encode())
    said = [http.get(path) for _ in range(3)]
    assert {answer.text for answer in said[:-1]} <= {"1", "2", said[-1].text}  # a ping may have come before
    assert code_of(said[-1]) == (400, 1)


async def test_the_close_code_says_why_a_connection_ends(served: GatewayProcess) -> None:
    async with websocket(served) as connection:
        socket = await joined(connection)
        await socket.say("4abc")
        await socket.closed()
        assert (connection.close_code, connection.close_reason) == (1002, "parse error")


@pytest.mark.parametrize("behind", ['42["ping"]', "451-[]"])
async def test_attachments_come_where_they_are_announced(served: GatewayProcess, behind: str) -> None:
    async with websocket(served) as connection:
        socket = await joined(connection)
        await socket.say('451-["publish","a",{"_placeholder":true,"num":0}]', behind)
        await socket.closed()
    async with websocket(served) as connection:
        socket = await joined(connection)
        await socket.say(b"unannounced")
        await socket.closed()


async def test_an_oversized_packet_is_refused_over_each_transport(
    served: GatewayProcess, http: Http, request: pytest.FixtureRequest
) -> None:
    plain = request.node.callspec.params["served"] == "plain"
    path = http.handshake()
    answer = http.post(path, content="4" + "x" * 8192)
    assert code_of(answer) == (413, 3)
    assert answer.json()["data"]["code"] == "message_too_large"
    async with websocket(served) as connection:
        socket = await joined(connection)
        await socket.say("4" + "x" * 9000)
        if not plain:
            assert (await socket.hear()).startswith('42["error",{"type":"error","code":"message_too_large"')
        await socket.closed()


async def test_attachments_count_for_the_size_of_their_event(served: GatewayProcess) -> None:
    async with websocket(served) as connection:
        socket = await joined(connection)
        await socket.say('452-1["emit","a","b",[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]]')
        await socket.say(bytes(5000), bytes(5000))
        assert '"code":"message_too_large"' in await socket.hear()
        assert (await socket.hear()).startswith('42["bye"')
        assert await socket.hear() == "41"


async def test_a_session_is_of_use_only_from_where_it_was_opened(served: GatewayProcess, http: Http) -> None:
    path = http.handshake()
    with fresh("127.0.0.7") as elsewhere:
        assert code_of(elsewhere.get(served.url + path)) == (400, 1)
        assert code_of(elsewhere.post(served.url + path, content="1")) == (400, 1)
    with pytest.raises(InvalidStatus):
        await connect(
            served.url.replace("http", "ws") + path.replace("polling", "websocket"), local_addr=("127.0.0.7", 0)
        ).__aenter__()
    assert http.get(path).text == "2"


async def test_pages_from_elsewhere_open_no_session(served: GatewayProcess, http: Http) -> None:
    evil = {"origin": "https://evil.example"}
    answer = http.get(POLLING, headers=evil)
    assert code_of(answer) == (403, 4)
    assert answer.json()["data"]["code"] == "origin_refused"
    path = http.handshake()
    assert code_of(http.post(path, content="40", headers=evil)) == (403, 4)


def test_two_polls_at_once_end_the_connection(served: GatewayProcess, http: Http) -> None:
    async def both(path: str) -> bool:
        async with httpx.AsyncClient(base_url=served.url) as client:
            answers = await asyncio.gather(client.get(path), client.get(path))
            return sorted(answer.status_code for answer in answers) == [200, 400]  # else a ping has come between them

    def refused() -> str | None:
        path = http.handshake()
        return path if asyncio.run(both(path)) else None

    path = wait_until(refused, "the second is refused")
    assert [http.get(path) for _ in range(2)][-1].status_code == 400  # "1" may come before


def test_connections_are_limited_like_those_of_any_door(
    tmp_path: Path, start_gateway: Callable[..., GatewayProcess]
) -> None:
    limited = config(connections_per_address=2, handshake_seconds=30)
    gateway = start_gateway({**limited, "heartbeat": {"interval_seconds": 20, "timeout_seconds": 20}})
    with httpx.Client(base_url=gateway.url) as client:
        http = Http(client)
        paths = [http.handshake() for _ in range(2)]
        refused = http.get(POLLING)
        assert code_of(refused) == (429, 4)
        assert refused.json()["data"]["code"] == "too_many_connections_from_address"
        assert refused.json()["data"]["retry_after_seconds"] > 0
        http.post(paths[0], content="1")
        assert http.get(POLLING).status_code == 200  # the seat was given back


def test_nothing_is_left_behind_by_clients_that_are_gone(served: GatewayProcess, http: Http) -> None:
    def sessions() -> list[str]:
        metrics = served.get("/metrics").text.splitlines()
        return [line for line in metrics if line.startswith("tidegate_sessions{") and 'transport="socketio"' in line]

    path = http.handshake()
    http.post(path, content='40\x1e421["subscribe","a"]')
    wait_until(lambda: any(line.endswith(" 1.0") for line in sessions()), "it is counted")
    wait_until(lambda: all(line.endswith(" 0.0") for line in sessions()), "it is gone")
