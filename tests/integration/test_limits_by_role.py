"""More of limits as clients meet them: rates, bandwidth, tickets, who is of use, rooms in all, handshakes' heads."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import orjson
import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.integration.conftest import Browser, Device
from tests.integration.test_limits import ROLES, TOKENS, bearer, closed, config, limited, post
from tests.real import ROUTES, GatewayProcess, Mosquitto, configuration, fresh, wait_until

Start = Callable[..., GatewayProcess]
SECRET = "s" * 64


def signed(user: str, *roles: str) -> str:
    return jwt.encode({"sub": user, "roles": list(roles), "exp": time.time() + 3600}, SECRET, "HS256")


async def test_roles_have_rates_of_their_own_over_websocket_and_http(start_either: Start) -> None:
    crew = {"messages_burst": 50, "messages_per_second": 50}
    gateway = start_either(config(messages_burst=5, messages_per_second=0.01, by_role={"crew": crew}))
    for name, passes in (("ann", 5), ("eve", 20)):
        async with connect(gateway.ws_url, additional_headers=bearer(name)) as connection:
            client = Browser(connection)
            await client.hear()
            for _ in range(passes):
                assert (await client.ask(type="ping"))["type"] == "pong"
    async with connect(gateway.ws_url, additional_headers=bearer("ann")) as connection:
        client = Browser(connection)
        welcome = await client.hear()
        assert (welcome["limits"]["messages_burst"], welcome["limits"]["messages_per_second"]) == (5, 0.01)
        for _ in range(5):
            await client.ask(type="ping")
        await client.say(type="ping")
        refused = await client.hear()
        assert (refused["code"], refused["retry_after_seconds"] > 10) == ("rate_limited", True)
    assert [post(gateway, "ann", "a").status_code for _ in range(5)] == [200] * 5
    answer = post(gateway, "ann", "a")
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert int(answer.headers["retry-after"]) > 10
    assert post(gateway, "eve", "a").status_code == 200
    assert limited(gateway, "messages_per_second") == 2


async def test_a_role_with_less_bandwidth_is_told_the_newest(start_either: Start) -> None:
    generous = {"messages_burst": 1000, "bytes_per_second": "1 MB", "bytes_burst": "4 MB"}
    slow = {"user": {"bytes_per_second_out": 5000}}
    history = {"rooms": [{"room": "a", "history": {"messages": 100}}]}  # for who is slow by chance
    gateway = start_either({**config({"ann": "user", "bob": "boss"}, **generous, by_role=slow), **history})
    async with (
        connect(gateway.ws_url, additional_headers=bearer("ann"), compression=None) as slowly,
        connect(gateway.ws_url, additional_headers=bearer("bob")) as quickly,
    ):
        ann, bob = Browser(slowly), Browser(quickly)
        assert (await ann.hear())["limits"]["bytes_per_second_out"] == 5000
        assert (await bob.hear())["limits"]["bytes_per_second_out"] is None
        for client in (ann, bob):
            await client.ask(type="subscribe", room="a")
        for number in range(30):
            await bob.say(type="publish", room="a", data=[number, "x" * 1000])
        assert [each["data"][0] for each in await bob.messages(30)] == list(range(30))
        told: list[int] = []
        while not told or told[-1] != 29:
            heard = await ann.hear()  # one that is told late, and whose room keeps nothing else, hears last values
            newest = [heard] if heard["type"] == "message" else heard.get("last", [])
            told += [each["data"][0] for each in newest]
        assert len(told) < 30
        assert told == sorted(told)


async def test_auth_to_another_role_changes_the_limits_and_says_so(start_either: Start, tmp_path: Path) -> None:
    (tmp_path / "jwt.key").write_text(SECRET)
    identity = {
        "anonymous": {"roles": ["guest"]},
        "jwt": {"algorithms": ["HS256"], "secret_file": f"{tmp_path}/jwt.key"},
    }
    by_role = {"guest": {"subscriptions_per_connection": 1}, "crew": {"subscriptions_per_connection": 3}}
    gateway = start_either({**config(subscriptions_per_connection=2, by_role=by_role), "identity": identity})
    async with connect(gateway.ws_url) as connection:
        client = Browser(connection)
        assert (await client.hear())["limits"]["subscriptions"] == 1
        assert (await client.ask(type="subscribe", room=["a", "b"]))["code"] == "too_many_subscriptions"
        for roles, most in (("user",), 2), (("user", "crew"), 3), (("user",), 2):
            answer = await client.ask(type="auth", token=signed("ann", *roles))
            assert (answer["type"], answer["limits"]["subscriptions"]) == ("ack", most)
            rooms = [f"{most}/{number}" for number in range(most + 1)]
            assert (await client.ask(type="subscribe", room=rooms))["code"] == "too_many_subscriptions"
            for room in rooms[:-1]:
                assert (await client.ask(type="subscribe", room=room))["type"] == "subscribed"
                assert (await client.ask(type="unsubscribe", room=room))["type"] == "ack"


async def test_a_ticket_counts_for_its_user_and_who_leaves_makes_room(start_either: Start) -> None:
    gateway = start_either(config(connections_per_user=1))

    def ticket(name: str) -> str:
        answer = httpx.post(f"{gateway.url}/ticket", headers=bearer(name))
        return f"{gateway.ws_url}?ticket={answer.json()['ticket']}"

    async with connect(ticket("ann")):
        with pytest.raises(InvalidStatus) as refused:
            await connect(ticket("ann"))
        assert refused.value.response.status_code in (429, 403)  # 403 where the server can't say more
        answer = httpx.get(f"{gateway.url}/sse?room=a", headers=bearer("ann"))
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_connections_of_user")
        assert int(answer.headers["retry-after"]) > 0
        async with connect(ticket("bob")):
            pass

    def comes_in() -> bool:
        with httpx.stream("GET", f"{gateway.url}/sse?room=a", headers=bearer("ann")) as stream:
            return stream.status_code == 200

    await asyncio.to_thread(wait_until, comes_in, "there is room for her again")


async def test_a_role_may_have_fewer_connections_from_an_address_and_is_told_that(start_either: Start) -> None:
    by_role = {"user": {"connections_per_address": 1}}
    gateway = start_either(config(connections_per_address=3, by_role=by_role))
    async with connect(gateway.ws_url, additional_headers=bearer("eve")), connect(gateway.ws_url) as late:
        client = Browser(late)
        await client.say(type="auth", token=TOKENS["ann"])
        assert await closed(client) == ("too_many_connections_from_address", 4429)
        answer = httpx.get(f"{gateway.url}/sse?room=a", headers=bearer("ann"))
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_connections_from_address")


async def test_who_is_of_use_is_not_idle(start_either: Start, broker: Mosquitto, device: Device) -> None:
    idle_seconds = 1.5
    gateway = start_either(configuration(broker.port, routes=ROUTES, limits={"idle_seconds": idle_seconds}))
    device.subscribe("commands/oslo/fan")
    async with (
        connect(gateway.ws_url) as pinging,
        connect(gateway.ws_url) as waiting,
        httpx.AsyncClient(timeout=20) as http,
        http.stream("GET", f"{gateway.url}/sse?room=chat/x") as stream,
    ):
        pings = asyncio.create_task(keep_pinging(Browser(pinging)))
        asked = {"room": "sites/oslo/fan/commands", "data": 1, "timeout_seconds": 30}
        await Browser(waiting).say(type="request", id="fan", **asked)
        await asyncio.to_thread(device.received, 1)
        for _ in range(2):  # so all the others are there for longer than that
            async with connect(gateway.ws_url) as idle:
                assert await closed(Browser(idle)) == ("idle", 4410)
        assert (await Browser(waiting).ask(type="ping"))["type"] == "pong"
        assert not pings.done()
        pings.cancel()
        answer = httpx.post(f"{gateway.url}/publish?room=chat/x", json="still there")
        assert answer.status_code == 200
        assert any([line.startswith("data:") and "still there" in line async for line in until_told(stream)])
    assert limited(gateway, "idle_seconds") == 2


async def keep_pinging(client: Browser) -> None:
    while True:
        await client.ask(type="ping")
        await asyncio.sleep(0.1)


async def until_told(stream: httpx.Response) -> Any:
    async for line in stream.aiter_lines():
        yield line
        if "still there" in line:
            return


async def test_rooms_are_limited_in_all_whoever_brings_them_into_use(start_either: Start) -> None:
    gateway = start_either(config(rooms=2, messages_burst=1000))
    for address, room in (("127.0.0.2", "a"), ("127.0.0.3", "b"), ("127.0.0.4", "a")):
        assert publish_from(gateway, address, room).status_code == 200
    refused = publish_from(gateway, "127.0.0.4", "c")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_rooms")
    assert 0 < refused.json()["retry_after_seconds"] <= 600
    async with connect(gateway.ws_url, additional_headers=bearer("eve")) as connection:
        assert (await Browser(connection).ask(type="publish", room="d", data=1))["code"] == "too_many_rooms"
    for number in range(5):
        assert publish_from(gateway, "127.0.0.4", f"devices/{number}").status_code == 200
    assert limited(gateway, "rooms") == 2


def publish_from(gateway: GatewayProcess, address: str, room: str) -> httpx.Response:
    with fresh(address) as http:
        return http.post(f"{gateway.url}/publish?room={room}", content=b"1", headers=bearer("ann"))


async def test_a_changed_role_of_a_token_holds_for_a_live_session_under_either_server(
    start_either: Start, tmp_path: Path
) -> None:
    first = config(idle_seconds=3600, by_role={"crew": {"idle_seconds": 0.3}})
    gateway = start_either(first)
    async with (
        connect(gateway.ws_url, additional_headers=bearer("ann")) as silent,
        connect(gateway.ws_url, additional_headers=bearer("bob")) as stays,
    ):
        newer = {**first, "identity": config({**ROLES, "ann": "crew"})["identity"], "listen": {"port": 0}}
        (tmp_path / "gateway-0" / "config.yaml").write_text(yaml.safe_dump(newer))
        gateway.send_signal(signal.SIGHUP)
        assert await closed(Browser(silent)) == ("idle", 4410)
        assert (await Browser(stays).ask(type="ping"))["type"] == "pong"


@pytest.mark.parametrize(("where", "status", "code"), [("X-A", 431, "headers_too_large"), ("q", 414, "url_too_long")])
async def test_heads_of_handshakes_have_the_size_that_is_configured(
    start_either: Start, where: str, status: int, code: str
) -> None:
    gateway = start_either(config(header_bytes="4 KiB", url_bytes="2 KiB"))
    for size_bytes in (1500, 5000):
        headers = {**bearer("ann"), **({"X-A": "x" * size_bytes} if where == "X-A" else {})}
        url = gateway.ws_url + ("" if where == "X-A" else "?q=" + "x" * size_bytes)
        try:
            async with connect(url, additional_headers=headers):
                assert size_bytes == 1500
        except InvalidStatus as refused:
            assert size_bytes == 5000
            assert refused.response.status_code in (status, 403)  # 403 where the server can't say more
            if refused.response.status_code == status:
                assert orjson.loads(refused.response.body)["code"] == code
