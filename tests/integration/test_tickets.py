"""Tickets, and the commands that show tokens: from the command line to a running gateway."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from httpx_sse import connect_sse
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.core.authentication import hash_token
from tests.integration.conftest import Browser
from tests.provider import provider
from tests.real import TIDEGATE, GatewayProcess, Mosquitto, configuration, wait_until

API_TOKEN = "tg_" + "a" * 64
Start = Callable[..., GatewayProcess]


@pytest.fixture
def guarded(broker: Mosquitto, start_gateway: Start) -> GatewayProcess:
    return start_gateway(configured(broker))


def configured(broker: Mosquitto, **more: Any) -> dict[str, Any]:
    tokens = [{"name": "ci", "sha256": hash_token(API_TOKEN), "roles": ["operator"]}]
    identity = {"tokens": tokens, **more.pop("identity", {})}
    namespaces = {"b": {"access": rules()}}
    return configuration(broker.port, identity=identity, access=rules(), namespaces=namespaces, **more)


def rules() -> list[dict[str, Any]]:
    return [{"roles": ["operator"], "subscribe": ["#"], "publish": ["#"]}]


def command(*arguments: str | Path, token: str = API_TOKEN, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in (TIDEGATE, *arguments)],
        env={**os.environ, **({"TIDEGATE_TOKEN": token} if token else {})},
        input=given,
        capture_output=True,
        text=True,
        timeout=30,
    )


def ticket_of(gateway: GatewayProcess, **headers: str) -> str:
    headers = {"authorization": f"Bearer {API_TOKEN}", **headers}
    return str(httpx.post(f"{gateway.url}/ticket", headers=headers).json()["ticket"])


async def test_of_many_who_show_a_ticket_at_once_one_is_let_in(guarded: GatewayProcess) -> None:
    url = f"{guarded.ws_url}?ticket={ticket_of(guarded)}"

    async def come() -> int:
        try:
            async with connect(url) as connection:
                return 200 if (await Browser(connection).hear())["identity"]["user"] == "ci" else 0
        except InvalidStatus as refused:
            return refused.response.status_code

    assert sorted(await asyncio.gather(*[come() for _ in range(30)])) == [200] + [401] * 29


def test_a_ticket_is_for_each_door_but_for_one_of_them(guarded: GatewayProcess) -> None:
    ticket = ticket_of(guarded)
    assert httpx.get(f"{guarded.url}/n/b/last?room=a&ticket={ticket}").status_code == 200
    for path in ("/last", "/n/b/last", "/sse"):
        assert httpx.get(f"{guarded.url}{path}?room=a&ticket={ticket}").status_code == 401


def test_a_bound_ticket_lets_in_from_where_it_was_fetched_only(broker: Mosquitto, start_gateway: Start) -> None:
    listen = {"trusted_proxies": ["127.0.0.1"]}
    gateway = start_gateway(configured(broker, identity={"ticket_bound_to_address": True}, listen=listen))

    def show(ticket: str, address: str) -> httpx.Response:
        return httpx.get(f"{gateway.url}/last?room=a&ticket={ticket}", headers={"x-forwarded-for": address})

    def fetch(address: str) -> str:
        return ticket_of(gateway, **{"x-forwarded-for": address})

    assert show(fetch("2001:db8::1"), "2001:db8::ffff:2").status_code == 200
    assert show(fetch("192.0.2.1"), "192.0.2.1").status_code == 200
    stolen = fetch("192.0.2.1")
    told = show(stolen, "192.0.2.2")
    assert (told.status_code, told.json()) == (401, show("0" * 48, "192.0.2.2").json())
    assert show(stolen, "192.0.2.1").status_code == 401
    assert show(fetch("2001:db8::1"), "2001:db8:0:1::1").status_code == 401
    assert "a ticket of 'ci', fetched from 192.0.2.1, was shown from 192.0.2.2: it is used up" in gateway.text
    assert stolen not in gateway.text


async def test_the_command_prints_addresses_that_let_in(guarded: GatewayProcess) -> None:
    made = [await asyncio.to_thread(command, "ticket", "--url", guarded.url) for _ in range(2)]
    (ticket, websocket, _), (_, _, stream) = (each.stdout.splitlines() for each in made)

    assert websocket == f"{guarded.ws_url}?ticket={ticket}"
    assert "It lets in once, within 30 s." in made[0].stderr
    async with connect(websocket) as connection:
        assert (await Browser(connection).hear())["identity"]["user"] == "ci"
    with httpx.Client() as client, connect_sse(client, "GET", stream) as source:
        assert any(event.json().get("room") == "#" for event in source.iter_sse())


def test_the_command_asks_the_namespace_and_rooms_that_it_is_told(guarded: GatewayProcess) -> None:
    rooms = ("--room", "chat/a b", "--room", "sites/+")
    stream = command("ticket", "--url", f"{guarded.url}/n/b/", *rooms, given=API_TOKEN).stdout.splitlines()[2]

    assert stream.startswith(f"{guarded.url}/n/b/sse?room=chat/a%20b&room=sites/%2B&ticket=")
    with httpx.Client() as client, connect_sse(client, "GET", stream) as source:
        assert next(event.json()["namespace"] for event in source.iter_sse()) == "b"


def test_the_command_takes_a_token_from_standard_input(guarded: GatewayProcess) -> None:
    assert command("ticket", "--url", guarded.url, token="", given=f"{API_TOKEN}\n").returncode == 0


@pytest.mark.parametrize("name", ["ticket", "sub", "pub"])
def test_a_token_that_is_refused_is_told_in_a_sentence(name: str, guarded: GatewayProcess) -> None:
    more = {"ticket": [], "sub": ["chat/a"], "pub": ["chat/a", "1"]}[name]
    told = command(name, *more, "--url", guarded.url, token="tg_wrong")

    assert (told.returncode, told.stdout) == (1, "")
    assert "unauthenticated: the token is refused: expected one that this gateway knows" in told.stderr
    assert "tg_wrong" not in told.stderr


def test_sub_and_pub_show_a_token_of_the_environment_or_a_file(guarded: GatewayProcess, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{API_TOKEN}\n")
    file = ("--token-file", tmp_path / "token", "--url", guarded.url)

    assert command("pub", "kept/x", "1", "--url", guarded.url, token="").returncode == 1
    with subprocess.Popen(
        [str(part) for part in (TIDEGATE, "sub", "chat/a", "--count", "1", *file)], stdout=subprocess.PIPE
    ) as subscriber:
        counted = 'tidegate_sessions{namespace="default",transport="websocket"} 1.0'
        wait_until(lambda: counted in httpx.get(f"{guarded.url}/metrics").text, "the subscriber is there")

        def heard() -> bool:
            assert command("pub", "chat/a", "1", "--url", guarded.url).returncode == 0
            return subscriber.poll() is not None

        wait_until(heard, "it hears")
        assert subscriber.stdout is not None
        assert orjson.loads(subscriber.stdout.readline())["from"]["user"] == "ci"


def test_a_redirect_gets_no_token(guarded: GatewayProcess) -> None:
    with provider() as elsewhere, provider() as gateway:
        gateway.status, gateway.headers = 307, {"Location": elsewhere.url.replace("http", "ws")}
        for arguments in (("ticket",), ("sub", "chat/a"), ("pub", "chat/a", "1")):
            told = command(*arguments, "--url", gateway.url.partition("/keys")[0])
            assert told.returncode == 1
            assert "Traceback" not in told.stderr
        assert elsewhere.fetches == 0


def test_what_is_no_gateway_is_told_in_a_sentence() -> None:
    with provider() as other:
        url = other.url.partition("/keys")[0]
        assert "found 501" in command("ticket", "--url", url).stderr
    assert "no gateway answers at" in command("ticket", "--url", url).stderr
    for wrong in ("localhost:8080", "ftp://a", "http://", "http://a:b", "http://u:secret@a:b"):
        told = command("ticket", "--url", wrong)
        assert "is no address" in told.stderr
        assert "secret" not in told.stderr


def test_the_variable_of_the_commands_does_not_disturb_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    assert command("check", tmp_path / "config.yaml").stdout == "ok\n"
