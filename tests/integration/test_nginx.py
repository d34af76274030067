"""The nginx of docker/, with real clients: each is led to a gateway that can serve it."""

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from itertools import count
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson
import pytest
import yaml
from uvicorn import Config
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bridges.polling import MAXIMUM_WAIT_SECONDS
from gateway.config import Settings
from gateway.core.authentication import hash_token
from tests.deployment import DOCKER, GATEWAYS, Deployment, deployment
from tests.javascript import NodeProgram, node_program
from tests.real import DEADLINE_SECONDS, wait_until

API_TOKEN = "tg_" + "a" * 64
NUMBERS = count()
ADDRESSES = [f"127.0.1.{number}" for number in range(1, 65)]
"""Clients' addresses; so many that not all are led to the same gateway."""


def everything() -> list[dict[str, Any]]:
    return [{"roles": ["*"], **{name: ["#"] for name in ("subscribe", "publish", "presence")}}]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    identity = {
        "anonymous": {"roles": ["guest"]},
        "tokens": [{"name": "ci", "sha256": hash_token(API_TOKEN), "roles": ["guest"]}],
        "ticket_bound_to_address": True,
    }
    with deployment(
        tmp_path_factory.mktemp("nginx"),
        identity=identity,
        access=everything(),
        rooms=[{"room": "#", "history": {"messages": 100}, "presence": True}],
        peerjs={"rooms": ["#"], "expire_seconds": 0.2},
        namespaces={"b": {"access": everything(), "rooms": [{"room": "#", "presence": True}]}},
    ) as running:
        yield running


@pytest.fixture
def ask(deployed: Deployment) -> Iterator[Callable[..., httpx.Response]]:
    """Asks nginx from an address of its own."""
    with ExitStack() as stack:
        clients: dict[str, httpx.Client] = {}

        def ask(path: str, address: str = "127.0.0.1", method: str = "GET", **options: Any) -> httpx.Response:
            if address not in clients:
                transport = httpx.HTTPTransport(local_address=address, verify=deployed.trust)
                clients[address] = stack.enter_context(httpx.Client(transport=transport, timeout=DEADLINE_SECONDS))
            clients[address].cookies.clear()
            return clients[address].request(method, f"{deployed.url}{path}", **options)

        yield ask


def unique(path: str) -> str:
    """A path that only this request has, so that it is found in the log."""
    return f"{path}/{next(NUMBERS)}"


def led_to(deployed: Deployment, path: str, number: int = 1) -> list[str]:
    """Which gateways the first requests for a path were led to, as nginx has logged it."""

    def found() -> list[str]:
        ports = re.findall(rf'"\w+ {re.escape(path)}" .* 127\.0\.0\.1:(\d+)$', deployed.log("nginx"), re.MULTILINE)
        return ports if len(ports) >= number else []

    names = {str(deployed.ports[name]): name for name in GATEWAYS}
    return [names[port] for port in wait_until(found, f"{path} stands in the log")[:number]]


def sessions(deployed: Deployment, transport: str) -> dict[str, int]:
    """How many clients each gateway has."""
    pattern = rf'tidegate_sessions\{{namespace=".*",transport="{transport}"\}} (\d+)'
    text = {name: running.get("/metrics").text for name, running in deployed.gateways.items()}
    return {name: sum(map(int, re.findall(pattern, each))) for name, each in text.items()}


def on_two_gateways(deployed: Deployment, ask: Callable[..., httpx.Response]) -> dict[str, str]:
    """An address for each gateway, whose clients are led there."""
    found: dict[str, str] = {}
    for address in ADDRESSES:
        path = unique("/nothing")
        ask(path, address)
        found.setdefault(led_to(deployed, path)[0], address)
        if len(found) == len(GATEWAYS):
            return found
    raise AssertionError(f"all are led to {found}")


@pytest.fixture
def socketio(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[NodeProgram]:
    """A program of node with clients of Socket.IO, which trusts the certificate of docker/prepare."""
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(deployed.certificate))
    with node_program("socketio.js", request.param) as program:
        yield program
        program.do("closeAll")


@pytest.mark.parametrize("socketio", ["polling", "polling,websocket"], indirect=True)
@pytest.mark.parametrize("cookies", [False, True], ids=["without cookies", "with cookies"])
def test_clients_of_socketio_find_their_gateway_again(
    deployed: Deployment, ask: Callable[..., httpx.Response], socketio: NodeProgram, cookies: bool
) -> None:
    for name, address in on_two_gateways(deployed, ask).items():
        socketio.do("connect", url=deployed.url, socket=name, **{"from": address}, cookies=cookies)
        say_and_hear(socketio, name, f"chat/socketio-{next(NUMBERS)}")
        assert sessions(deployed, "socketio")[name] == 1


def say_and_hear(socketio: NodeProgram, name: str, room: str) -> None:
    """Have a client hear what it says; over WebSocket, if it may."""
    socketio.do("subscribe", room=room, socket=name)
    if "websocket" in socketio.arguments[0]:
        wait_until(lambda: socketio.do("transport", socket=name) == "websocket", "the upgrade")
    socketio.do("publish", room=room, data="hello", socket=name)
    (message,) = socketio.wait_for(lambda event: event.get("room") == room and "data" in event)
    assert (message["socket"], message["data"]) == (name, "hello")


def test_a_cookie_keeps_a_client_where_it_was_though_its_address_changes(
    deployed: Deployment, ask: Callable[..., httpx.Response]
) -> None:
    addresses = on_two_gateways(deployed, ask)
    for here, there in zip(GATEWAYS, reversed(list(GATEWAYS)), strict=True):
        first = ask("/healthz", addresses[here])
        assert "HttpOnly" in first.headers["set-cookie"]
        assert "Secure" in first.headers["set-cookie"]
        cookie = first.headers["set-cookie"].partition(";")[0]
        path = unique("/nothing")
        second = ask(path, addresses[there], headers={"cookie": cookie})
        assert led_to(deployed, path) == [here]
        assert "set-cookie" not in second.headers


@pytest.mark.parametrize("value", ["", "x" * 4000, "a b", "é"])
def test_a_cookie_that_nginx_did_not_make_is_passed_over(
    deployed: Deployment, ask: Callable[..., httpx.Response], value: str
) -> None:
    path = unique("/nothing")
    cookie = b"tidegate_client=" + value.encode()
    answers = [ask(path, headers=[(b"cookie", cookie)]), ask(path)]
    assert [answer.headers.get("set-cookie", "").partition(";")[0] for answer in answers] == [
        "tidegate_client=127.0.0.1"
    ] * 2
    assert len(set(led_to(deployed, path, 2))) == 1


@pytest.mark.parametrize("namespace", ["", "/n/b"])
async def test_peers_of_a_room_meet_wherever_they_come_from(
    deployed: Deployment, ask: Callable[..., httpx.Response], namespace: str
) -> None:
    met = set()
    for room in [f"{first}/{next(NUMBERS)}" for first in ("calls", "calls/deep", "käse", "peers") for _ in range(5)]:
        base = f"{deployed.url.replace('https', 'wss')}{namespace}/peerjs/peerjs"
        encoded = urlencode({"key": room, "id": "ann", "token": "t"})
        plain = f"id=bob&token=t&key={room}".replace("ä", "%C3%A4")
        async with (
            connect(f"{base}?{encoded}", ssl=deployed.trust, local_addr=("127.0.1.1", 0)) as ann,
            connect(f"{base}?{plain}", ssl=deployed.trust, local_addr=("127.0.1.2", 0)) as bob,
        ):
            for peer in (ann, bob):
                assert orjson.loads(await peer.recv()) == {"type": "OPEN"}
            await ann.send(orjson.dumps({"type": "OFFER", "dst": "bob", "payload": {}}).decode())
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert orjson.loads(await bob.recv())["type"] == "OFFER"
            for written in (room, room.replace("/", "%2F")):
                listed = await asyncio.to_thread(ask, f"{namespace}/peerjs/{written}/peers", "127.0.1.3")
                assert listed.json() == ["ann", "bob"]
            met |= {name for name, number in sessions(deployed, "peerjs").items() if number == 2}
    assert met == set(GATEWAYS)


def test_a_ticket_is_taken_by_every_stream(deployed: Deployment, ask: Callable[..., httpx.Response]) -> None:
    headers = {"authorization": f"Bearer {API_TOKEN}"}
    for address in on_two_gateways(deployed, ask).values():
        for path in ("/poll?room=chat/x&wait=0", "/poll?room=chat/y&wait=0"):
            ticket = ask("/ticket", address, "POST", headers=headers).json()["ticket"]
            assert ask(f"{path}&ticket={ticket}", address).status_code == 200
        bound = ask("/ticket", address, "POST", headers=headers)
        cookie = bound.headers["set-cookie"].partition(";")[0]
        stolen = ask(f"/poll?room=chat/x&ticket={bound.json()['ticket']}", "127.0.2.1", headers={"cookie": cookie})
        assert stolen.status_code == 401  # the gateway is told from where a client comes
        assert bound.json()["ticket"] not in deployed.log("nginx")


async def test_streams_are_led_to_the_gateway_that_has_fewest(deployed: Deployment) -> None:
    url, ours = f"{deployed.url.replace('https', 'wss')}/ws", [Subprotocol("tidegate.v1.json")]
    opened: dict[str, list[ClientConnection]] = {name: [] for name in GATEWAYS}
    async with asyncio.timeout(DEADLINE_SECONDS), AsyncExitStack() as stack:

        async def open_one() -> None:
            before = sessions(deployed, "websocket")
            connection = await stack.enter_async_context(connect(url, ssl=deployed.trust, subprotocols=ours))
            assert orjson.loads(await connection.recv())["type"] == "welcome"
            after = sessions(deployed, "websocket")
            (name,) = (name for name in GATEWAYS if after[name] > before[name])
            opened[name].append(connection)

        for _ in range(6):
            await open_one()
        assert [len(each) for each in opened.values()] == [3, 3]
        for connection in opened["gateway-1"]:
            await connection.close()
        await asyncio.to_thread(wait_until, lambda: sessions(deployed, "websocket")["gateway-1"] == 0, "they have left")
        for _ in range(3):
            await open_one()
        assert [len(each) for each in opened.values()] == [6, 3]


def test_bodies_that_are_refused_are_no_sign_that_a_gateway_is_gone(
    deployed: Deployment, ask: Callable[..., httpx.Response]
) -> None:
    for _ in range(10):
        answer = ask("/publish?room=chat/x", method="POST", content=b"x" * 1_900_000)
        assert (answer.status_code, answer.json()["code"]) == (413, "message_too_large")
    assert "temporarily disabled" not in deployed.log("nginx")


def test_what_is_the_operators_is_not_served(deployed: Deployment, ask: Callable[..., httpx.Response]) -> None:
    assert [ask(path).status_code for path in ("/metrics", "/readyz", "/healthz")] == [404, 404, 200]
    for name in GATEWAYS:
        assert deployed.gateways[name].get("/metrics").status_code == 200


def test_plain_http_leads_to_tls_but_for_certificates(deployed: Deployment) -> None:
    plain = f"http://localhost:{deployed.ports['http']}"
    answer = httpx.get(f"{plain}/publish?room=chat/x")
    assert (answer.status_code, answer.headers["location"]) == (308, "https://localhost/publish?room=chat/x")
    challenge = deployed.folder / "acme" / ".well-known" / "acme-challenge" / "token"
    challenge.parent.mkdir(parents=True)
    challenge.write_text("proof")
    assert httpx.get(f"{plain}/.well-known/acme-challenge/token").text == "proof"


def test_pages_are_the_gateways_own_over_http_2(deployed: Deployment) -> None:
    url = f"{deployed.url}/publish?room=chat/x"
    for origin, status in ((deployed.url, 200), (deployed.url.replace("https", "http"), 403)):
        command: list[str] = [
            "curl",
            "-sS",
            "--cacert",
            str(deployed.certificate),
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
        ]
        command += ["-H", f"Origin: {origin}", "-H", "Content-Type: application/json", "-d", "1", url]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
        assert ended.stdout == f"2 {status}", ended.stderr


def test_browsers_are_told_to_come_over_tls_only(ask: Callable[..., httpx.Response]) -> None:
    assert "max-age" in ask("/").headers["strict-transport-security"]
    assert "max-age" in ask("/sse").headers["strict-transport-security"]


def test_addresses_may_be_as_long_as_the_gateway_takes_them(ask: Callable[..., httpx.Response]) -> None:
    assert ask(f"/publish?x={'a' * 15_000}").json()["code"] == "method_not_allowed"


def test_nginx_waits_longer_than_the_gateway_and_lets_go_of_connections_sooner() -> None:
    files = (DOCKER / "nginx").glob("*.conf")
    text = "\n".join(path.read_text() for path in files)
    waits = {int(seconds) for seconds in re.findall(r"proxy_(?:read|send)_timeout (\d+)s;", text)}
    keeps = {int(seconds) for seconds in re.findall(r" keepalive_timeout (\d+)s;", text)}
    leaves_out = {int(seconds) for seconds in re.findall(r" fail_timeout=(\d+)s;", text)}
    limits, heartbeat = Settings().limits, Settings().heartbeat
    assert min(waits) > max(MAXIMUM_WAIT_SECONDS, limits.request_timeout_max_seconds, heartbeat.interval_seconds) + 10
    assert max(keeps) < Config("").timeout_keep_alive
    settings = yaml.safe_load((DOCKER / "gateway" / "config.yaml").read_text())
    assert max(keeps | leaves_out) < settings["drain_notice_seconds"]
