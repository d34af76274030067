"""Limits as clients meet them: by role and user, of rooms, of what idles, of heads; each told by its name, counted."""

import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.core.authentication import hash_token
from tests.integration.conftest import Browser, browser
from tests.real import DEADLINE_SECONDS, GatewayProcess, wait_until

Start = Callable[..., GatewayProcess]
TOKENS = {name: f"tg_{name:a>64}" for name in ("ann", "bob", "eve")}
ROLES = {"ann": "user", "bob": "user", "eve": "crew"}
ALL = {action: ["#"] for action in ("subscribe", "publish", "request", "presence")}


def config(roles: dict[str, str] = ROLES, **limits: Any) -> dict[str, Any]:
    tokens = [{"name": name, "sha256": hash_token(TOKENS[name]), "roles": [role]} for name, role in roles.items()]
    return {
        "broker": {"port": 0},
        "identity": {"tokens": tokens},
        "access": [{"roles": ["*"], **ALL}],
        "limits": limits,
        "rooms": [{"room": "#"}],
        "routes": [{"topic": "commands/{name}", "room": "devices/{name}", "direction": "to_device"}],
    }


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[name]}"}


def limited(gateway: GatewayProcess, limit: str) -> float:
    found = f'tidegate_limited_total{{limit="{limit}",namespace="default"}} '
    return sum(float(line.removeprefix(found)) for line in gateway.get("/metrics").text.splitlines() if found in line)


def post(gateway: GatewayProcess, name: str, room: str, body: bytes = b"1") -> httpx.Response:
    return httpx.post(f"{gateway.url}/publish", params={"room": room}, content=body, headers=bearer(name))


async def closed(client: Browser) -> tuple[str, int]:
    """The code of the `bye`, and of the close."""
    code = ""
    try:
        while True:
            heard = await client.hear()
            code = heard.get("code", code) if heard["type"] == "bye" else code
    except ConnectionClosed as end:
        assert end.rcvd is not None
        return code, end.rcvd.code


CREW = {"crew": {"messages_burst": 500, "subscriptions_per_connection": 9, "message_bytes": 5000, "idle_seconds": None}}


async def test_a_role_has_limits_of_its_own_at_every_door(start_either: Start) -> None:
    gateway = start_either(config(subscriptions_per_connection=2, message_bytes=1000, by_role=CREW))
    for name, subscriptions, size_bytes in (("ann", 2, 1000), ("eve", 9, 5000)):
        async with connect(gateway.ws_url, additional_headers=bearer(name)) as connection:
            client = Browser(connection)
            welcome = await client.hear()
            assert welcome["limits"]["subscriptions"] == subscriptions
            assert welcome["limits"]["message_bytes"] == size_bytes
            for number in range(subscriptions):
                assert (await client.ask(type="subscribe", room=f"a/{number}"))["type"] == "subscribed"
            refused = await client.ask(type="subscribe", room="a/more")
            assert refused["code"] == "too_many_subscriptions"
        assert post(gateway, name, "a", b'"' + b"x" * (size_bytes - 2) + b'"').status_code == 200
        assert post(gateway, name, "a", b'"' + b"x" * size_bytes + b'"').json()["code"] == "message_too_large"
        query = "&".join(f"room=a/{number}" for number in range(subscriptions + 1))
        assert httpx.get(f"{gateway.url}/sse?{query}", headers=bearer(name)).json()["code"] == refused["code"]
    assert limited(gateway, "subscriptions_per_connection") == 4


async def test_auth_brings_the_limits_of_who_one_becomes(start_either: Start) -> None:
    gateway = start_either(config(subscriptions_per_connection=2, by_role=CREW))
    async with connect(gateway.ws_url) as connection:
        client = Browser(connection)
        await client.say(type="auth", token=TOKENS["eve"], id=1)
        heard = [await client.hear() for _ in range(2)]
        (welcome,) = (each for each in heard if each["type"] == "welcome")
        assert welcome["limits"]["subscriptions"] == 9
        assert (await client.ask(type="subscribe", room=[f"a/{number}" for number in range(9)]))["type"] == "subscribed"


async def test_a_changed_role_of_a_token_changes_the_limits_of_its_live_session(
    start_gateway: Start, tmp_path: Path
) -> None:
    first = config(subscriptions_per_connection=2, by_role=CREW)
    gateway = start_gateway(first)
    async with connect(gateway.ws_url, additional_headers=bearer("ann")) as connection:
        client = Browser(connection)
        await client.hear()
        rooms = [f"a/{number}" for number in range(5)]
        assert (await client.ask(type="subscribe", room=rooms))["code"] == "too_many_subscriptions"
        newer = {**first, "identity": config({**ROLES, "ann": "crew"})["identity"], "listen": {"port": 0}}
        (tmp_path / "gateway-0" / "config.yaml").write_text(yaml.safe_dump(newer))
        gateway.send_signal(signal.SIGHUP)
        wait_until(lambda: 'tidegate_reloads_total{outcome="taken"} 1.0' in gateway.get("/metrics").text, "it is taken")
        heard = await client.ask(type="subscribe", room=rooms)
        assert heard["type"] == "subscribed"


async def test_a_user_has_so_many_connections_over_all_transports(start_either: Start) -> None:
    gateway = start_either(config(connections_per_user=2, by_role={"crew": {"connections_per_user": 3}}))

    async def refused(name: str) -> dict[str, Any]:
        with pytest.raises(InvalidStatus) as caught:
            await connect(gateway.ws_url, additional_headers=bearer(name))
        details: dict[str, Any] = orjson.loads(caught.value.response.body or b"")
        return details

    one = await connect(gateway.ws_url, additional_headers=bearer("ann"))
    async with (
        httpx.AsyncClient() as http,
        http.stream("GET", f"{gateway.url}/sse?room=a", headers=bearer("ann")) as stream,
    ):
        assert stream.status_code == 200
        details = await refused("ann")
        assert details["code"] == "too_many_connections_of_user"
        assert details["retry_after_seconds"] > 0
        other = await connect(gateway.ws_url, additional_headers=bearer("bob"))
        async with connect(gateway.ws_url) as late:
            client = Browser(late)
            await client.say(type="auth", token=TOKENS["ann"])
            assert await closed(client) == ("too_many_connections_of_user", 4429)
    await one.close()
    again = await connect(gateway.ws_url, additional_headers=bearer("ann"))
    crew = [await connect(gateway.ws_url, additional_headers=bearer("eve")) for _ in range(3)]
    assert (await refused("eve"))["code"] == "too_many_connections_of_user"
    assert limited(gateway, "connections_per_user") >= 3
    for connection in (other, again, *crew):
        await connection.close()


async def test_a_websocket_that_is_of_no_use_is_closed_and_others_are_not(start_either: Start) -> None:
    gateway = start_either(config(idle_seconds=0.5, by_role={"crew": {"idle_seconds": None}}))
    busy = await connect(gateway.ws_url, additional_headers=bearer("bob"))
    listening = Browser(busy)
    await listening.hear()
    await listening.ask(type="subscribe", room="a")
    crew = await connect(gateway.ws_url, additional_headers=bearer("eve"))
    async with connect(gateway.ws_url, additional_headers=bearer("ann")) as connection:
        assert await closed(Browser(connection)) == ("idle", 4410)
    assert limited(gateway, "idle_seconds") == 1
    assert (await listening.ask(type="ping"))["type"] == "pong"
    client = Browser(crew)
    await client.hear()
    assert (await client.ask(type="ping"))["type"] == "pong"
    await busy.close()
    await crew.close()


async def test_clients_bring_so_many_rooms_into_use_by_whatever_door(start_either: Start) -> None:
    gateway = start_either(config(rooms_per_address=2))
    assert post(gateway, "ann", "a").status_code == 200
    async with connect(gateway.ws_url, additional_headers=bearer("ann")) as connection:
        client = Browser(connection)
        await client.hear()
        assert (await client.ask(type="publish", room="b", data=1))["type"] == "ack"
        refused = await client.ask(type="publish", room="c", data=1)
        assert (refused["code"], refused["retry_after_seconds"] > 0) == ("too_many_rooms", True)
        assert (await client.ask(type="publish", room="a", data=1))["type"] == "ack"
        assert (await client.ask(type="publish", room="devices/fan", data=1))["type"] == "ack"
    refused_too = post(gateway, "bob", "c")
    assert (refused_too.status_code, refused_too.json()["code"]) == (429, "too_many_rooms")
    assert limited(gateway, "rooms_per_address") == 2


async def test_all_senders_share_what_a_room_takes(start_either: Start) -> None:
    gateway = start_either(config(publishes_per_room_per_second=0.001, publishes_per_room_burst=3))
    assert [post(gateway, name, "devices/fan").status_code for name in ("ann", "bob")] == [200, 200]
    async with connect(gateway.ws_url, additional_headers=bearer("eve")) as connection:
        client = Browser(connection)
        await client.hear()
        assert (await client.ask(type="publish", room="devices/fan", data=1))["type"] == "ack"
        refused = await client.ask(type="publish", room="devices/fan", data=1)
        assert (refused["code"], refused["retry_after_seconds"] > 100) == ("room_rate_limited", True)
        assert (await client.ask(type="publish", room="devices/lamp", data=1))["type"] == "ack"
    assert limited(gateway, "publishes_per_room_per_second") == 1


@pytest.mark.parametrize(("head", "status", "code"), [("X-A", 431, "headers_too_large"), ("path", 414, "url_too_long")])
def test_heads_have_the_size_that_is_configured(start_either: Start, head: str, status: int, code: str) -> None:
    gateway = start_either(config(header_bytes="4 KiB", url_bytes="2 KiB"))
    for size_bytes, expected in ((1500, 200), (5000, status)):
        headers = {"X-A": "x" * size_bytes} if head == "X-A" else {}
        query = "" if head == "X-A" else "?x=" + "x" * size_bytes
        answer = httpx.get(f"{gateway.url}/healthz{query}", headers=headers)
        assert answer.status_code == expected
    assert answer.json()["code"] == code


async def test_one_that_goes_on_over_its_limit_is_closed_with_4429(start_either: Start) -> None:
    gateway = start_either(config(messages_burst=5, messages_per_second=0.01, refusals=4))
    async with browser(gateway, additional_headers=bearer("ann")) as client:
        for _ in range(20):
            await client.say(type="ping")
        assert await closed(client) == ("rate_limited", 4429)
    async with browser(gateway, additional_headers=bearer("bob")) as client:
        assert (await client.ask(type="ping"))["type"] == "pong"
    assert limited(gateway, "messages_per_second") >= 4


REFUSED = {
    "a token that is none": ("GET", "/last?room=a", {"authorization": "Bearer tg_none"}, 401),
    "no token": ("POST", "/publish?room=a", {}, 401),
    "a page from elsewhere": ("GET", "/history?room=a", {"origin": "https://elsewhere.example"}, 403),
    "no room": ("POST", "/request", bearer("ann"), 400),
    "a ticket for a page from elsewhere": ("POST", "/ticket", {"origin": "https://elsewhere.example"}, 403),
    "another method": ("GET", "/publish?room=a", bearer("ann"), 405),
}


@pytest.mark.parametrize("what", REFUSED)
def test_to_ask_in_vain_costs_as_much_as_to_ask(start_either: Start, what: str) -> None:
    gateway = start_either(config(messages_burst=5, messages_per_second=0.01))
    method, path, headers, status = REFUSED[what]
    answers = [httpx.request(method, f"{gateway.url}{path}", headers=headers) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [status] * 5 + [429] * 2
    assert answers[-1].json()["code"] == "rate_limited"


def test_a_query_of_very_many_fields_is_not_read(start_either: Start) -> None:
    gateway = start_either(config())
    for count, status in ((1999, 200), (2000, 414)):
        answer = httpx.get(f"{gateway.url}/last?room=a{'&' * count}", headers=bearer("ann"))
        assert answer.status_code == status
    assert answer.json()["code"] == "url_too_long"


@pytest.mark.parametrize(("path", "count"), [("last", 300), ("history", 69), ("sse", None)])
def test_answers_that_nobody_reads_are_not_made_and_end(start_gateway: Start, path: str, count: int | None) -> None:
    changes = {"rooms": [{"room": "#", "history": {"messages": 1000}}]}
    limits: dict[str, Any] = {"lag_seconds": 3, "messages_burst": 500, "bytes_burst": "50 MB"}
    gateway = start_gateway({**config(**limits), **changes})
    with httpx.Client(headers=bearer("ann")) as http:
        for number in range(300):
            http.post(f"{gateway.url}/publish?room=r/{number}", json="x" * 60_000).raise_for_status()
        if count is not None:
            whole = http.get(f"{gateway.url}/{path}?room=r/%23&limit=1000")
            assert len(whole.json()["messages" if path == "history" else "last"]) == count
    before = gateway.resident_bytes()
    token = bearer("ann")["authorization"]
    request = f"GET /{path}?room=r/%23&limit=1000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n"
    deaf = [socket.socket() for _ in range(30)]
    for each in deaf:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        each.connect(("127.0.0.1", gateway.port))
        each.sendall(request.encode())
    time.sleep(1)
    assert gateway.resident_bytes() - before < 100_000_000  # all of them at once are 540 MB, or 126
    time.sleep(4)
    for each in deaf:
        with each:
            each.settimeout(DEADLINE_SECONDS)
            heard = 0
            with suppress(ConnectionError):
                while part := each.recv(65_536):
                    heard += len(part)
        assert heard < 5_000_000
