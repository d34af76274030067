"""The PeerServer protocol on the wire, under both servers: what the client of `peerjs` says and is told."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from bridges.peerjs_ice import turn_credential
from gateway.core.authentication import hash_token
from tests.nginx import nginx
from tests.real import DEADLINE_SECONDS, GatewayProcess, free_port, wait_until

SECRET = "s" * 64
API_TOKEN = "tg_" + "a" * 64
TURN_SECRET = "north"
CONFIG: dict[str, Any] = {
    "identity": {
        "anonymous": {"roles": ["guest"]},
        "jwt": {"algorithms": ["HS256"], "secret_file": "jwt.key"},
        "tokens": [{"name": "ci", "sha256": hash_token(API_TOKEN), "roles": ["staff"]}],
    },
    "access": [
        {"roles": ["*"], "subscribe": ["peerjs", "calls/open"], "presence": ["peerjs"]},
        {"roles": ["*"], "publish": ["calls/open"]},
        {"roles": ["staff"], "subscribe": ["calls/#"], "publish": ["peerjs", "calls/#"], "presence": ["calls/#"]},
    ],
    "rooms": [{"room": "peerjs", "presence": True}],
    "presence": {"grace_seconds": 0},
    "peerjs": {
        "rooms": ["peerjs", "calls/+"],
        "expire_seconds": 0.5,
        "ice_servers": [
            {"urls": ["stun:stun.example:3478"]},
            {"urls": ["turn:turn.example"], "secret_file": "turn.key", "users_only": True},
        ],
    },
    "limits": {"message_bytes": "4 KiB"},
    "namespaces": {"b": {"access": [{"roles": ["*"], "subscribe": ["#"], "publish": ["#"]}]}},
}


@pytest.fixture(scope="module", params=["direct", "plain"])
def gateway(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("peerjs") / "gateway"
    folder.mkdir()
    (folder / "jwt.key").write_text(SECRET)
    (folder / "turn.key").write_text(TURN_SECRET)
    config = {"broker": {"port": free_port()}, **CONFIG}
    with GatewayProcess(folder, config, plain=request.param == "plain") as running:
        yield running


def token(user: str, role: str = "staff", seconds: float = 3600) -> str:
    return jwt.encode({"sub": user, "roles": [role], "exp": time.time() + seconds}, SECRET, "HS256")


class Peer:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, kind: str, dst: str | None = None, **payload: Any) -> None:
        await self.connection.send(orjson.dumps({"type": kind, "dst": dst, "payload": payload}).decode())

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            heard: dict[str, Any] = orjson.loads(await self.connection.recv())
            return heard

    async def refused(self) -> tuple[str, str, int]:
        """What it is told when it isn't let in, or has to go: type and code, and the close code."""
        said = await self.hear()
        with pytest.raises(ConnectionClosed) as closed:
            await self.hear()
        assert closed.value.rcvd is not None
        return said["type"], said["payload"]["code"], closed.value.rcvd.code


def address(gateway: GatewayProcess, namespace: str = "", **query: str) -> str:
    asked = {"key": "calls/open", "token": "made-up", "version": "1.5.5", **query}
    return f"{gateway.ws_url.removesuffix('/ws')}{namespace}/peerjs/peerjs?{urlencode(asked, safe='/')}"


@asynccontextmanager
async def knock(gateway: GatewayProcess, namespace: str = "", **query: str) -> AsyncIterator[Peer]:
    """A client that may be let in, or not."""
    async with connect(address(gateway, namespace, **query)) as connection:
        yield Peer(connection)


@asynccontextmanager
async def peer(gateway: GatewayProcess, identifier: str, **query: str) -> AsyncIterator[Peer]:
    """One that is let in."""
    async with knock(gateway, id=identifier, **query) as client:
        assert await client.hear() == {"type": "OPEN"}
        yield client


async def test_signals_go_both_ways_and_the_gateway_says_from_whom(gateway: GatewayProcess) -> None:
    async with peer(gateway, "ann") as ann, peer(gateway, "bob") as bob:
        said = {"type": "OFFER", "src": "eve", "dst": "bob", "payload": {"sdp": {"type": "offer", "sdp": "v=0\r\n"}}}
        await ann.connection.send(orjson.dumps(said).decode())
        assert await bob.hear() == {**said, "src": "ann"}
        for kind in ("ANSWER", "CANDIDATE"):
            await bob.say(kind, "ann", candidate="x")
            assert await ann.hear() == {"type": kind, "src": "bob", "dst": "ann", "payload": {"candidate": "x"}}
        await ann.connection.send('{"type":"HEARTBEAT"}')
        await ann.connection.send('{"type":"LEAVE","dst":"bob"}')
        assert await bob.hear() == {"type": "LEAVE", "src": "ann", "dst": "bob"}


async def test_a_peer_that_comes_a_moment_later_is_told_what_waits(gateway: GatewayProcess) -> None:
    async with peer(gateway, "ann") as ann:
        await ann.say("OFFER", "bob", number=1)
        await ann.say("CANDIDATE", "bob", number=2)
        await ann.say("OFFER", "nobody")
        async with peer(gateway, "bob") as bob:
            assert [(await bob.hear())["payload"]["number"] for _ in range(2)] == [1, 2]
            expired = await ann.hear()
            assert (expired["type"], expired["src"], expired["dst"]) == ("EXPIRE", "nobody", "ann")


async def test_an_id_belongs_to_who_has_it_and_its_token(gateway: GatewayProcess) -> None:
    async with peer(gateway, "ann") as ann, peer(gateway, "bob", token="bobs") as old:
        async with knock(gateway, id="bob", token="another") as other:
            assert await other.refused() == ("ID-TAKEN", "id_taken", 1000)
        await ann.say("OFFER", "bob", number=1)
        assert (await old.hear())["payload"] == {"number": 1}
        async with peer(gateway, "bob", token="bobs") as new:
            with pytest.raises(ConnectionClosed):
                await old.hear()
            await ann.say("OFFER", "bob", number=2)
            assert (await new.hear())["payload"] == {"number": 2}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"id": "ann", "key": "other"}, ("INVALID-KEY", "invalid_key", 1000)),
        ({"id": "ann", "key": "calls/+"}, ("INVALID-KEY", "invalid_key", 1000)),
        ({"id": "ann", "key": "calls/staff"}, ("ERROR", "forbidden", 1000)),
        ({"id": "a/b"}, ("ERROR", "bad_message", 1000)),
        ({"id": ""}, ("ERROR", "bad_message", 1000)),
        ({"id": "ann", "token": ""}, ("ERROR", "bad_message", 1000)),
        ({"id": "ann", "token": "tg_" + "b" * 64}, ("ERROR", "unauthenticated", 4401)),
        ({"id": "ann", "token": "a.b.c"}, ("ERROR", "unauthenticated", 4401)),
        ({"id": "ann", "token": "f" * 48}, ("ERROR", "unauthenticated", 4401)),
        ({"id": "ann", "ticket": "f" * 48}, ("ERROR", "unauthenticated", 4401)),
    ],
    ids=str,
)
async def test_who_cant_be_let_in_is_told_why(
    gateway: GatewayProcess, query: dict[str, str], told: tuple[str, str, int]
) -> None:
    async with knock(gateway, **query) as client:
        assert await client.refused() == told


def shown(gateway: GatewayProcess, way: str) -> str:
    if way == "ticket":
        headers = {"Authorization": f"Bearer {API_TOKEN}"}
        return str(httpx.post(f"{gateway.url}/ticket", headers=headers).json()["ticket"])
    return API_TOKEN if way == "API token" else token("ci")


@pytest.mark.parametrize("way", ["ticket", "API token", "JWT"])
async def test_the_clients_token_may_say_who_it_is(gateway: GatewayProcess, way: str) -> None:
    async with peer(gateway, "ci-1", key="calls/staff", token=shown(gateway, way)):
        pass
    async with peer(gateway, "ci-1", key="calls/staff", ticket=shown(gateway, "ticket")):
        pass


async def test_a_call_without_permission_fails_and_its_caller_may_be_called(gateway: GatewayProcess) -> None:
    async with peer(gateway, "ann", key="peerjs") as ann, peer(gateway, "ci", key="peerjs", token=API_TOKEN) as ci:
        await ann.say("OFFER", "ci")
        expired = await ann.hear()
        assert (expired["type"], expired["payload"]["code"]) == ("EXPIRE", "forbidden")
        await ci.say("OFFER", "ann")
        assert (await ann.hear())["src"] == "ci"


async def test_rooms_and_namespaces_are_apart(gateway: GatewayProcess) -> None:
    async with (
        peer(gateway, "ann") as ann,
        peer(gateway, "bob") as bob,
        peer(gateway, "bob", key="peerjs", token=API_TOKEN) as elsewhere,
        knock(gateway, "/n/b", id="bob") as other,
    ):
        assert await other.hear() == {"type": "OPEN"}
        await ann.say("OFFER", "bob")
        assert (await bob.hear())["type"] == "OFFER"
        for client in (elsewhere, other):
            await client.say("OFFER", "bob", own=True)
            assert (await client.hear())["payload"] == {"own": True}


@pytest.mark.parametrize("frame", ["{", "[]", '{"type":"JUMP"}', b"\xff\xfe", '{"type":"OFFER","dst":"bob"}'], ids=str)
async def test_bad_input_is_an_error_and_nobody_else_is_affected(gateway: GatewayProcess, frame: str | bytes) -> None:
    async with peer(gateway, "ann") as ann, peer(gateway, "bob") as bob:
        await ann.connection.send(frame)
        said = await ann.hear()
        assert (said["type"], said["payload"]["code"]) == ("ERROR", "bad_message")
        await ann.say("OFFER", "bob")
        assert (await bob.hear())["src"] == "ann"


async def test_an_oversized_message_ends_its_sender_alone(
    gateway: GatewayProcess, request: pytest.FixtureRequest
) -> None:
    plain = "plain" in request.node.name
    async with peer(gateway, "ann") as ann, peer(gateway, "bob") as bob:
        await ann.say("OFFER", "bob", sdp="x" * 5000)
        if plain:  # a stock server closes by itself
            with pytest.raises(ConnectionClosed) as closed:
                await ann.hear()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        else:
            assert await ann.refused() == ("ERROR", "message_too_large", 1009)
        await bob.say("OFFER", "bob", own=True)
        assert (await bob.hear())["payload"] == {"own": True}


async def test_peers_are_listed_where_presence_is_allowed(gateway: GatewayProcess) -> None:
    async with peer(gateway, "ann", key="peerjs"), peer(gateway, "phone", key="peerjs", token=API_TOKEN):
        assert httpx.get(f"{gateway.url}/peerjs/peerjs/peers").json() == ["ann", "phone"]
        present = httpx.get(f"{gateway.url}/presence?room=peerjs").json()["members"]
        assert present == [{"member": "ann"}, {"user": "ci"}]
    wait_until(lambda: httpx.get(f"{gateway.url}/peerjs/peerjs/peers").json() == [], "all have left")
    wait_until(lambda: httpx.get(f"{gateway.url}/presence?room=peerjs").json()["count"] == 0, "for presence, too")


@pytest.mark.parametrize("key", ["calls/open", "calls/staff", "other"])
def test_peers_are_not_listed_elsewhere(gateway: GatewayProcess, key: str) -> None:
    answer = httpx.get(f"{gateway.url}/peerjs/{key}/peers")

    assert answer.status_code == answer.json()["status"] == 401  # of which the client says what to do


def test_a_new_id_is_a_uuid(gateway: GatewayProcess) -> None:
    ids = {httpx.get(f"{gateway.url}/peerjs/peerjs/id?ts=1").text for _ in range(3)}

    assert len(ids) == 3
    assert all(len(each) == 36 for each in ids)


def test_ice_servers_come_with_credentials_for_users(gateway: GatewayProcess) -> None:
    stun = {"urls": ["stun:stun.example:3478"]}
    assert httpx.get(f"{gateway.url}/peerjs/ice").json() == {"iceServers": [stun]}

    answer = httpx.get(f"{gateway.url}/peerjs/ice", headers={"Authorization": f"Bearer {API_TOKEN}"})

    turn = answer.json()["iceServers"][1]
    expires_at, _, user = turn["username"].partition(":")
    assert user == "ci"
    assert 43_000 < int(expires_at) - time.time() <= 43_200
    assert turn["credential"] == turn_credential(TURN_SECRET, user, float(expires_at))[1]
    assert answer.headers["cache-control"] == "no-store"
    assert TURN_SECRET not in gateway.text


@pytest.mark.parametrize("path", ["/peerjs/peerjs/id", "/peerjs/peerjs/peers", "/peerjs/ice"])
def test_a_page_from_elsewhere_gets_nothing(gateway: GatewayProcess, path: str) -> None:
    answer = httpx.get(f"{gateway.url}{path}", headers={"Origin": "https://elsewhere.example"})

    assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused")


async def test_a_handshake_of_a_page_from_elsewhere_is_refused(gateway: GatewayProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(address(gateway, id="ann"), origin=Origin("https://elsewhere.example"))

    assert refused.value.response.status_code == 403


async def test_limits_and_bound_ids_hold(start_either: Callable[..., GatewayProcess]) -> None:
    limits = {"messages_per_second": 1, "messages_burst": 3, "refusals": 3, "connections_per_user": 3}
    config = {
        "broker": {"port": free_port()},
        "identity": {"tokens": [{"name": name, "sha256": hash_token(f"tg_{name}"), "roles": ["x"]} for name in "ab"]},
        "access": [{"roles": ["*"], "subscribe": ["peerjs"], "publish": ["peerjs"]}],
        "peerjs": {"ids": "user", "peers_per_room": 2, "alive_seconds": 1},
        "limits": limits,
    }
    gateway = start_either(config, ready=False)
    own = {"key": "peerjs", "token": "tg_a"}
    async with knock(gateway, id="b", **own) as other, knock(gateway, id="a", key="peerjs") as nobody:
        assert await other.refused() == ("ERROR", "forbidden", 1000)
        assert await nobody.refused() == ("ERROR", "unauthenticated", 4401)
    fresh = httpx.get(f"{gateway.url}/peerjs/peerjs/id", headers={"Authorization": "Bearer tg_a"}).text
    assert fresh.startswith("a-")
    async with peer(gateway, "a", **own) as one, peer(gateway, fresh, **own) as two:
        async with knock(gateway, id="a-3", **own) as third:
            assert await third.refused() == ("ERROR", "too_many_peers", 1000)
        for _ in range(6):
            await one.say("OFFER", fresh)
        assert [(await one.hear())["type"] for _ in range(3)] == ["EXPIRE"] * 3
        assert await one.refused() == ("ERROR", "rate_limited", 4429)
        assert [(await two.hear())["type"] for _ in range(3)] == ["OFFER"] * 3
        assert await two.refused() == ("ERROR", "idle", 4410)
    for path in ("/peerjs/peerjs/id", "/peerjs/peerjs/peers", "/peerjs/ice"):
        assert 429 in {gateway.get(path).status_code for _ in range(6)}


async def test_behind_nginx(gateway: GatewayProcess, tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    snippet = document.partition("```nginx\n")[2].partition("```")[0]
    with nginx(tmp_path, snippet.replace("127.0.0.1:8080", f"127.0.0.1:{gateway.port}")) as port:
        there = f"127.0.0.1:{port}"
        base = f"ws://{there}/peerjs/peerjs?key=calls/open&token=t"
        origin = Origin(f"http://{there}")
        async with connect(f"{base}&id=ann", origin=origin) as one, connect(f"{base}&id=bob") as two:
            ann, bob = Peer(one), Peer(two)
            assert [await ann.hear(), await bob.hear()] == [{"type": "OPEN"}] * 2
            await ann.say("OFFER", "bob")
            assert (await bob.hear())["src"] == "ann"
        assert len(httpx.get(f"http://{there}/peerjs/calls/open/id").text) == 36


async def test_when_the_gateway_ends_its_peers_are_told(start_gateway: Callable[..., GatewayProcess]) -> None:
    gateway = start_gateway({"broker": {"port": free_port()}}, ready=False)
    async with peer(gateway, "ann", key="peerjs") as ann:
        gateway.process.terminate()
        assert await ann.refused() == ("ERROR", "shutting_down", 1012)
    assert gateway.wait() == 0
