"""Tickets, headers, expiry and anonymous clients, under both servers. Who may do what by which door: tests/security."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import orjson
import pytest
from httpx_sse import connect_sse
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.core.authentication import hash_token
from tests.integration.conftest import Browser
from tests.integration.other_doors import batch, mqtt, peerjs, socketio
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration, mosquitto

SECRET = "s" * 64
API_TOKEN = "tg_" + "a" * 64


def token(user: str, role: str, seconds: float = 3600, **claims: Any) -> str:
    return jwt.encode({"sub": user, "roles": [role], "exp": time.time() + seconds, **claims}, SECRET, "HS256")


@pytest.fixture(scope="module", params=["direct", "plain"])
def guarded(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    (folder / "gateway").mkdir()
    (folder / "gateway" / "jwt.key").write_text(SECRET)
    config: dict[str, Any] = {
        "identity": {
            "jwt": {"algorithms": ["HS256"], "secret_file": "jwt.key"},
            "tokens": [{"name": "ci", "sha256": hash_token(API_TOKEN), "roles": ["operator"]}],
        },
        "access": [
            {"roles": ["operator"], "subscribe": ["open/#"], "publish": ["open/#"], "request": ["open/#"]},
            {"roles": ["operator"], "presence": ["open/#"]},
            {"roles": ["*"], "subscribe": ["users/{user}/#"], "publish": ["users/{user}/#"]},
            {"roles": ["*"], "request": ["users/{user}/#"], "presence": ["users/{user}/#"]},
        ],
        "rooms": [{"room": "#", "presence": True}],
        "namespaces": {"b": {}},
        "limits": {"messages_burst": 10_000, "messages_per_second": 10_000},
    }
    with (
        mosquitto(folder) as broker,
        GatewayProcess(
            folder / "gateway", configuration(broker.port, **config), plain=request.param == "plain"
        ) as running,
    ):
        running.wait_until_ready()
        yield running


def http(method: str, path: str) -> Callable[..., str]:
    """One endpoint as a door: what comes of it, `ok` or the error's code."""

    def ask(gateway: GatewayProcess, room: str, bearer: str | None, prefix: str = "") -> str:
        headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
        content = b"1" if method == "POST" else None
        answer = httpx.request(
            method, f"{gateway.url}{prefix}{path}", params={"room": room}, headers=headers, content=content
        )
        return "ok" if answer.status_code < 300 else str(answer.json()["code"])

    return ask


def sse(gateway: GatewayProcess, room: str, bearer: str | None, prefix: str = "") -> str:
    headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
    with (
        httpx.Client() as client,
        connect_sse(client, "GET", f"{gateway.url}{prefix}/sse", params={"room": room}, headers=headers) as source,
    ):
        if source.response.status_code != 200:
            return str(orjson.loads(source.response.read())["code"])
        assert any(event.event == "subscribed" for event in source.iter_sse())
        return "ok"


def websocket(kind: str, **fields: Any) -> Callable[..., str]:
    """One request over WebSocket as a door."""

    async def ask(gateway: GatewayProcess, room: str, bearer: str | None, prefix: str) -> str:
        url = gateway.ws_url.replace("/ws", f"{prefix}/ws")
        async with connect(url) as connection:
            client = Browser(connection)
            if bearer is not None:
                answer = await client.ask(type="auth", token=bearer)
                if answer["type"] == "error":
                    return str(answer["code"])
            answer = await client.ask(type=kind, room=room, **fields)
            return str(answer["code"]) if answer["type"] == "error" else "ok"

    def run(gateway: GatewayProcess, room: str, bearer: str | None, prefix: str = "") -> str:
        return asyncio.run(asyncio.wait_for(ask(gateway, room, bearer, prefix), DEADLINE_SECONDS))

    return run


DOORS: dict[str, Callable[..., str]] = {
    "ws subscribe": websocket("subscribe"),
    "ws publish": websocket("publish", data=1),
    "ws request": websocket("request", data=1),
    "ws presence": websocket("presence"),
    "sse": sse,
    "POST /publish": http("POST", "/publish"),
    "POST /request": http("POST", "/request"),
    "GET /last": http("GET", "/last"),
    "GET /history": http("GET", "/history"),
    "GET /presence": http("GET", "/presence"),
    "GET /poll": http("GET", "/poll"),
    "POST /publish (NDJSON)": batch,
    "socket.io subscribe": socketio("subscribe"),
    "socket.io publish": socketio("publish", 1),
    "socket.io request": socketio("request", 1),
    "mqtt subscribe": mqtt("subscribe"),
    "mqtt publish": mqtt("publish"),
    "peerjs": peerjs,
}


def granted(door: str, outcome: str) -> bool:
    """Whether the rules allowed it: no device answers in these rooms, so a request gets that far and no further."""
    return outcome == ("not_requestable" if "request" in door else "ok")


def ticket(gateway: GatewayProcess, bearer: str) -> str:
    answer = httpx.post(f"{gateway.url}/ticket", headers={"authorization": f"Bearer {bearer}"})
    assert answer.json()["expires_in_seconds"] == 30
    return str(answer.json()["ticket"])


async def test_a_ticket_opens_a_websocket_once(guarded: GatewayProcess) -> None:
    url = f"{guarded.ws_url}?ticket={ticket(guarded, token('ann', 'operator'))}"
    async with connect(url) as connection:
        welcome = await Browser(connection).hear()
        assert (welcome["identity"]["user"], welcome["identity"]["roles"]) == ("ann", ["operator"])
        assert welcome["identity"]["expires_at"] > time.time()
    with pytest.raises(InvalidStatus) as refused:
        await connect(url)
    assert refused.value.response.status_code in (401, 403)  # 403 where the server can't say more


def test_a_ticket_opens_a_stream_once_and_no_other_ticket(guarded: GatewayProcess) -> None:
    given = {"room": "users/ann/a", "ticket": ticket(guarded, token("ann", "guest"))}
    again = httpx.post(f"{guarded.url}/ticket", params={"ticket": ticket(guarded, token("ann", "guest"))})
    assert (again.status_code, again.headers["www-authenticate"]) == (401, "Bearer")
    with httpx.Client() as client, connect_sse(client, "GET", f"{guarded.url}/sse", params=given) as source:
        assert next(event.json() for event in source.iter_sse())["identity"]["user"] == "ann"
    assert httpx.get(f"{guarded.url}/sse", params=given).status_code == 401


async def test_a_header_opens_a_websocket_too(guarded: GatewayProcess) -> None:
    async with connect(guarded.ws_url, additional_headers={"authorization": f"bearer {API_TOKEN}"}) as connection:
        client = Browser(connection)
        assert (await client.hear())["identity"] == {"user": "ci", "roles": ["operator"]}
        await client.say(type="subscribe", room="open/a")
        posted = httpx.post(
            f"{guarded.url}/publish?room=open/a", content=b"1", headers={"authorization": f"Bearer {API_TOKEN}"}
        )
        assert posted.status_code == 200
        assert (await client.messages(1))[0]["from"] == {"user": "ci"}


async def test_a_live_connection_ends_when_its_token_does_unless_there_is_a_newer_one(guarded: GatewayProcess) -> None:
    async with connect(guarded.ws_url) as ends, connect(guarded.ws_url) as stays:
        for connection in (ends, stays):
            answer = await Browser(connection).ask(type="auth", token=token("ann", "operator", 4))
            assert answer["identity"]["user"] == "ann"
        assert (await Browser(stays).ask(type="auth", token=token("ann", "operator")))["type"] == "ack"
        bye = await Browser(ends).hear()
        assert (bye["type"], bye["code"]) == ("bye", "unauthenticated")
        with pytest.raises(ConnectionClosed):
            await Browser(ends).hear()
        assert ends.close_code == 4401
        assert (await Browser(stays).ask(type="ping"))["type"] == "pong"


def test_a_stream_ends_when_its_token_does(guarded: GatewayProcess) -> None:
    headers = {"authorization": f"Bearer {token('ann', 'operator', 4)}"}
    with (
        httpx.Client() as client,
        connect_sse(client, "GET", f"{guarded.url}/sse?room=open/a", headers=headers) as source,
    ):
        assert [event.json() for event in source.iter_sse()][-1]["code"] == "unauthenticated"


def test_operations_are_open(guarded: GatewayProcess) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert httpx.get(f"{guarded.url}{path}").status_code == 200


def test_no_token_and_no_ticket_is_logged(guarded: GatewayProcess) -> None:
    given, bearer = ticket(guarded, API_TOKEN), token("ann", "guest")
    for query in (f"ticket={given}", "ticket=used"):
        httpx.get(f"{guarded.url}/last?room=open/a&{query}", headers={"authorization": f"Bearer {bearer}"})
    for secret in (given, bearer, API_TOKEN, SECRET):
        assert secret not in guarded.text


def test_anonymous_clients_with_roles_are_let_in_and_wrong_tokens_are_not(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(
        configuration(
            broker.port,
            identity={
                "anonymous": {"roles": ["guest"]},
                "tokens": [{"name": "ci", "sha256": hash_token(API_TOKEN)}],
            },
            access=[{"roles": ["guest"], "subscribe": ["open/#"]}],
            peerjs={"rooms": ["#"]},
        )
    )
    for door in ("ws subscribe", "sse", "GET /poll", "GET /last", "socket.io subscribe", "mqtt subscribe", "peerjs"):
        assert DOORS[door](gateway, "open/a", None) == "ok"
        assert DOORS[door](gateway, "other/a", None) == "forbidden"
        wrong = "tg_" + "b" * 64 if door == "peerjs" else "nonsense"  # there, nonsense is what no token is
        assert DOORS[door](gateway, "open/a", wrong) == "unauthenticated"
        assert DOORS[door](gateway, "open/a", API_TOKEN) == "forbidden"
