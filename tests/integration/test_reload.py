"""A changed configuration takes effect while the gateway runs, for those who are connected too, under both servers."""

import asyncio
import os
import pty
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import orjson
import pytest
import yaml
from httpx_sse import ServerSentEvent, connect_sse
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.core.authentication import hash_token
from tests.certificates import replace
from tests.integration.conftest import Browser
from tests.integration.test_websocket import metric
from tests.real import TIDEGATE, GatewayProcess, Running, wait_until

ANN, BOB = "tg_" + "a" * 64, "tg_" + "b" * 64
SECRET = "s" * 64
IN_EFFECT = "the changed configuration is in effect"


def rules(**changes: Any) -> dict[str, Any]:
    """A configuration, with its embedded broker, in which Ann and Bob are users and guests are let in."""
    return {
        "broker": {"port": 0},
        "logging": {"format": "console"},
        "identity": {
            "anonymous": {"roles": ["guest"]},
            "jwt": {"algorithms": ["HS256"], "secret_file": "jwt.key"},
            "tokens": [
                {"name": "ann", "sha256": hash_token(ANN), "roles": ["user"]},
                {"name": "bob", "sha256": hash_token(BOB), "roles": ["user"]},
            ],
        },
        "access": [
            {"roles": ["guest", "user"], "subscribe": ["open/#"], "presence": ["open/#"]},
            {"roles": ["user"], "subscribe": ["chat/#"], "publish": ["chat/#"], "presence": ["chat/#"]},
        ],
        "rooms": [{"room": "#", "presence": True}],
        "presence": {"grace_seconds": 0},
        "limits": {"messages_burst": 10_000, "messages_per_second": 10_000},
        **changes,
    }


WITHOUT_CHAT = {"access": [{"roles": ["guest", "user"], "subscribe": ["open/#"], "presence": ["open/#"]}]}


class Changing(GatewayProcess):
    """A gateway whose configuration is changed."""

    def __init__(self, folder: Path, *, plain: bool, config: dict[str, Any] | None = None, **options: Any) -> None:
        folder.mkdir()
        (folder / "jwt.key").write_text(SECRET)
        self.file = folder / "config.yaml"
        super().__init__(folder, config or rules(), plain=plain, **options)

    def write(self, config: dict[str, Any] | str) -> None:
        """Put another configuration in the place of the one there is."""
        text = config if isinstance(config, str) else yaml.safe_dump({"listen": {"port": 0}, **config})
        replace(self.file, text.encode())

    def change(self, config: dict[str, Any], *, hang_up: bool = True) -> None:
        """Change the configuration, and wait until that is in effect."""
        before = self.text.count(IN_EFFECT)
        self.write(config)
        if hang_up:
            self.send_signal(signal.SIGHUP)
        wait_until(lambda: self.text.count(IN_EFFECT) > before, f"it takes effect: {self.text}")

    def hang_up(self, told: str) -> None:
        """SIGHUP, and wait until that is told."""
        before = self.text.count(told)
        self.send_signal(signal.SIGHUP)
        wait_until(lambda: self.text.count(told) > before, f"it says {told!r}")


@pytest.fixture(params=["direct", "plain"])
def changing(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Changing]:
    with Changing(tmp_path / "gateway", plain=request.param == "plain") as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[Changing]:
    with Changing(tmp_path / "gateway", plain=False) as running:
        yield running


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def client_of(gateway: Changing, token: str | None) -> Any:
    return connect(gateway.ws_url, additional_headers=bearer(token))


def signed(secret: str = SECRET) -> str:
    return jwt.encode({"sub": "eve", "roles": ["user"], "exp": time.time() + 3600}, secret, "HS256")


async def farewell(connection: ClientConnection) -> tuple[str, int | None]:
    """The code of its `bye`, and that of its close."""
    code = ""
    with pytest.raises(ConnectionClosed):
        while True:
            heard = await Browser(connection).hear()
            code = heard["code"] if heard["type"] == "bye" else code
    return code, connection.close_code


@contextmanager
def stream(gateway: Changing, *rooms: str, token: str | None = None) -> Iterator[Iterator[ServerSentEvent]]:
    """A stream that has said `subscribed` for each of its rooms."""
    url, query = f"{gateway.url}/sse", {"room": list(rooms)}
    with (
        httpx.Client(timeout=20) as client,
        connect_sse(client, "GET", url, params=query, headers=bearer(token)) as source,
    ):
        events = source.iter_sse()
        for _ in rooms:
            assert any(event.event == "subscribed" for event in events)
        yield events


def named(events: Iterator[ServerSentEvent], kind: str) -> dict[str, Any]:
    """The next event of a kind."""
    found: dict[str, Any] = next(event.json() for event in events if event.event == kind)
    return found


def post(gateway: Changing, room: str, token: str | None = ANN) -> int:
    return httpx.post(f"{gateway.url}/publish?room={room}", content=b"1", headers=bearer(token)).status_code


async def test_subscriptions_that_are_not_allowed_any_more_end_and_the_connection_stays(changing: Changing) -> None:
    async with client_of(changing, ANN) as connection:
        client = Browser(connection)
        for room in ("open/a", "chat/a", "chat/#"):
            await client.ask(type="subscribe", room=room)
        assert post(changing, "chat/a") == 200

        await asyncio.to_thread(changing.change, rules(**WITHOUT_CHAT))

        lost: list[dict[str, Any]] = []
        while len(lost) < 2:
            heard = await client.hear()
            lost += [heard] if heard["type"] == "error" else []
        assert [each["code"] for each in lost] == ["forbidden"] * 2
        assert ["'chat/a'" in lost[0]["message"], "'chat/#'" in lost[1]["message"]] == [True, True]
        assert (await client.ask(type="publish", room="chat/a", data=1))["code"] == "forbidden"
        assert (await client.ask(type="subscribe", room="chat/b"))["code"] == "forbidden"
        assert (await client.ask(type="presence", room="chat/a"))["code"] == "forbidden"
        assert (await client.ask(type="unsubscribe", room="open/a"))["type"] == "ack"
        assert post(changing, "chat/a") == 403
        assert httpx.get(f"{changing.url}/last?room=chat/a", headers=bearer(ANN)).status_code == 403

        await asyncio.to_thread(changing.change, rules())
        assert (await client.ask(type="subscribe", room="chat/a"))["type"] == "subscribed"
        assert post(changing, "chat/a") == 200


async def test_who_may_not_be_in_a_room_any_more_has_left_it(changing: Changing) -> None:
    config = rules()
    config["identity"]["tokens"][1]["roles"] = ["user", "watcher"]
    config["access"].append({"roles": ["watcher"], "subscribe": ["chat/#"], "presence": ["chat/#"]})
    await asyncio.to_thread(changing.change, config)
    async with client_of(changing, ANN) as one, client_of(changing, BOB) as other:
        ann, bob = Browser(one), Browser(other)
        await bob.ask(type="subscribe", room="chat/a")
        await ann.ask(type="subscribe", room="chat/a")
        assert httpx.get(f"{changing.url}/presence?room=chat/a", headers=bearer(BOB)).json()["count"] == 2
        config["access"][1] = {"roles": ["user"], "subscribe": ["chat/#"]}
        await asyncio.to_thread(changing.change, config)

        heard = await bob.hear()
        while heard["type"] != "left":
            heard = await bob.hear()
        assert heard["who"] == {"user": "ann"}
        assert (await ann.ask(type="subscribe", room="chat/b"))["type"] == "subscribed"
        assert (await ann.ask(type="presence", room="chat/a"))["code"] == "forbidden"


def test_a_stream_loses_the_rooms_that_are_not_allowed_any_more_and_ends_with_the_last(changing: Changing) -> None:
    with stream(changing, "chat/a", "open/a", token=ANN) as stays, stream(changing, "chat/a", token=ANN) as ends:
        changing.change(rules(**WITHOUT_CHAT))
        for events in (stays, ends):
            assert "'chat/a'" in named(events, "error")["message"]
        bye = named(ends, "bye")
        assert (bye["code"], bye["retry"]) == ("forbidden", False)
        assert list(ends) == []
        changing.change(rules(access=[]))
        assert "'open/a'" in named(stays, "error")["message"]
        assert named(stays, "bye")["code"] == "forbidden"
        again = httpx.get(f"{changing.url}/sse?room=chat/a", headers=bearer(ANN))
        assert (again.status_code, again.json()["code"]) == (403, "forbidden")


async def test_sessions_whose_credential_is_gone_end_and_others_stay(changing: Changing) -> None:
    async with (
        client_of(changing, ANN) as ann,
        client_of(changing, BOB) as bob,
        client_of(changing, signed()) as eve,
        client_of(changing, None) as guest,
    ):
        for connection in (ann, bob, eve, guest):
            assert (await Browser(connection).ask(type="subscribe", room="open/a"))["type"] == "subscribed"
        config = rules()
        del config["identity"]["tokens"][0]
        await asyncio.to_thread(changing.change, config)
        assert await farewell(ann) == ("unauthenticated", 4401)
        assert post(changing, "chat/a") == 401

        del config["identity"]["anonymous"]
        await asyncio.to_thread(changing.change, config)
        assert await farewell(guest) == ("unauthenticated", 4401)
        assert httpx.get(f"{changing.url}/last?room=open/a").status_code == 401

        before = changing.text.count(IN_EFFECT)
        replace(changing.file.parent / "jwt.key", b"t" * 64)  # noticed by itself
        await asyncio.to_thread(wait_until, lambda: changing.text.count(IN_EFFECT) > before, "the new key is taken")
        assert await farewell(eve) == ("unauthenticated", 4401)
        assert post(changing, "chat/a", signed()) == 401
        assert post(changing, "chat/a", signed("t" * 64)) == 200
        assert (await Browser(bob).ask(type="ping"))["type"] == "pong"


def test_a_stream_whose_credential_is_gone_ends(changing: Changing) -> None:
    with stream(changing, "open/a", token=ANN) as ann, stream(changing, "open/a", token=BOB) as bob:
        config = rules()
        del config["identity"]["tokens"][0]
        changing.change(config)
        assert named(ann, "bye")["code"] == "unauthenticated"
        assert list(ann) == []
        assert post(changing, "chat/a", BOB) == 200
        changing.change(rules(**WITHOUT_CHAT))
        del bob


async def test_changed_roles_hold_for_live_sessions(changing: Changing) -> None:
    async with client_of(changing, ANN) as connection:
        client = Browser(connection)
        assert (await client.ask(type="publish", room="open/a", data=1))["code"] == "forbidden"
        config = rules()
        config["identity"]["tokens"][0]["roles"] = ["boss"]
        config["access"].append({"roles": ["boss"], "publish": ["open/#"]})
        await asyncio.to_thread(changing.change, config)
        assert (await client.ask(type="publish", room="open/a", data=1))["type"] == "ack"
        assert (await client.ask(type="publish", room="chat/a", data=1))["code"] == "forbidden"


def test_a_ticket_from_before_is_worth_what_its_token_is_now(changing: Changing) -> None:
    given = [httpx.post(f"{changing.url}/ticket", headers=bearer(token)).json()["ticket"] for token in (ANN, BOB)]
    config = rules()
    del config["identity"]["tokens"][0]
    config["access"][0]["roles"] = ["guest"]
    changing.change(config)
    asked = [httpx.get(f"{changing.url}/last?room=open/a&ticket={ticket}").status_code for ticket in given]
    assert asked == [401, 403]


def test_a_change_of_the_file_is_noticed_without_a_signal(changing: Changing) -> None:
    with stream(changing, "chat/a", token=ANN) as events:
        changing.change(rules(**WITHOUT_CHAT), hang_up=False)
        assert named(events, "bye")["code"] == "forbidden"


def test_a_bad_file_changes_nothing_and_is_told_of_once_with_the_place(direct: Changing) -> None:
    with stream(direct, "chat/a", token=ANN) as events:
        direct.write("listen: {port: 0}\naccess:\n  - {roles: [user], subscribe: open}\n")
        wait_until(lambda: "is not taken" in direct.text, "the bad file is told of")
        assert f"{direct.file}:3:" in direct.text
        assert "access[0].subscribe" in direct.text
        told = direct.text.count("is not taken")
        direct.write("listen: {port: 0}\nacess: []\n")
        wait_until(lambda: f"{direct.file}:2:1: acess" in direct.text, "the next version is told of")
        assert direct.text.count("is not taken") == told + 1
        assert post(direct, "chat/a") == 200
        assert any(event.event == "message" for event in events)
    assert metric(direct, 'tidegate_reloads_total{outcome="refused"}') == 2
    direct.write(rules(**WITHOUT_CHAT))
    wait_until(lambda: IN_EFFECT in direct.text, "the good one is taken")
    assert post(direct, "chat/a") == 403


def test_what_would_open_all_to_everybody_is_refused(direct: Changing) -> None:
    for content in (
        "",
        "listen: {port: 0}\n",
        yaml.safe_dump({**rules(), "identity": {"anonymous": {"roles": ["x"]}}}),
    ):
        direct.write(content)
        direct.hang_up("restart the gateway")
        assert post(direct, "chat/a", None) == 403
        assert post(direct, "chat/a") == 200


def test_a_file_that_is_being_written_is_not_taken_until_that_is_over(direct: Changing) -> None:
    whole = yaml.safe_dump({"listen": {"port": 0}, **rules(**WITHOUT_CHAT)}).encode()
    end = time.monotonic() + 4
    with direct.file.open("wb") as file:  # truncated; then it grows for longer than the gateway waits between looks
        for place in range(len(whole) - 1):
            file.write(whole[place : place + 1])
            file.flush()
            time.sleep(max(0.0, (end - time.monotonic()) / (len(whole) - place)))
        assert IN_EFFECT not in direct.text
        assert post(direct, "chat/a") == 200
        file.write(whole[-1:])
    wait_until(lambda: IN_EFFECT in direct.text, "the whole is taken")
    assert "is not taken" not in direct.text
    assert post(direct, "chat/a") == 403


def test_what_needs_a_restart_is_named_and_secrets_are_not(direct: Changing) -> None:
    config = rules(limits={"connections": 5}, routes=[{"topic": "a/{b}", "room": "a/{b}"}], namespaces={"n": {}})
    config["identity"]["tokens"][0]["roles"] = ["boss"]
    direct.change(config)
    line = next(line for line in direct.text.splitlines() if "only once the gateway is restarted" in line)
    for key in ("limits.connections", "routes", "namespaces.n"):
        assert key in line
    assert "identity" not in line
    line = next(line for line in direct.text.splitlines() if IN_EFFECT in line)
    assert "connected: identity.tokens[0].roles [" in line
    replace(direct.file.parent / "jwt.key", b"verysecret" * 10)
    wait_until(lambda: "identity.jwt.secret_file" in direct.text, "the key's change is told")
    assert "verysecret" not in direct.text
    assert hash_token(ANN) not in direct.text


def test_a_signal_without_a_change_says_so_and_is_counted(changing: Changing) -> None:
    started = metric(changing, "tidegate_last_good_configuration_timestamp_seconds")
    assert time.time() - 60 < started < time.time()
    changing.hang_up("nothing has changed in the configuration")
    assert metric(changing, 'tidegate_reloads_total{outcome="unchanged"}') == 1
    assert metric(changing, "tidegate_last_good_configuration_timestamp_seconds") > started
    os.utime(changing.file)  # looks different, but isn't
    changing.change(rules(**WITHOUT_CHAT))
    assert metric(changing, 'tidegate_reloads_total{outcome="taken"}') == 1
    assert changing.text.count("nothing has changed") == 1


def test_environment_and_command_line_keep_holding(tmp_path: Path) -> None:
    environment = {**os.environ, "TIDEGATE_ACCESS": '[{"roles": ["user"], "publish": ["chat/#"]}]'}
    with Changing(tmp_path / "gateway", plain=False, env=environment) as gateway:
        assert post(gateway, "chat/a") == 200
        config = rules(**WITHOUT_CHAT)
        config["identity"]["tokens"][1]["roles"] = []
        gateway.change(config)
        assert post(gateway, "chat/a") == 200
        assert post(gateway, "chat/a", BOB) == 403


def test_origins_and_hosts_take_effect(direct: Changing) -> None:
    page = {"origin": "https://dash.example", **bearer(ANN)}

    def allowed() -> str | None:
        answer = httpx.get(f"{direct.url}/last?room=open/a", headers=page)
        return answer.headers.get("access-control-allow-origin") if answer.status_code == 200 else None

    assert allowed() is None
    direct.change(rules(origins=["https://dash.example"]))
    assert allowed() == "https://dash.example"
    direct.change(rules())
    assert allowed() is None


def test_a_terminal_that_is_gone_ends_the_gateway(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with Changing(tmp_path / "gateway", plain=False, stdin=theirs) as gateway:
        os.close(theirs)
        gateway.hang_up("nothing has changed in the configuration")
        os.close(ours)
        gateway.send_signal(signal.SIGHUP)
        assert gateway.wait() == 0


def test_without_identity_rules_can_still_be_added_and_anonymous_clients_feel_them(
    tmp_path: Path,
) -> None:
    with (
        Changing(
            tmp_path / "open", plain=False, config={"broker": {"port": 0}, "logging": {"format": "console"}}
        ) as it,
        stream(it, "open/a", "chat/a") as events,
    ):
        it.change(
            {
                "broker": {"port": 0},
                "access": [{"roles": ["*"], "subscribe": ["open/#"]}],
                "logging": {"format": "console"},
            }
        )
        assert "'chat/a'" in named(events, "error")["message"]
        assert orjson.loads(httpx.get(f"{it.url}/last?room=open/a").content)["last"] == []


def test_a_signal_while_the_gateway_starts_does_it_no_harm(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{listen: {port: 0}, broker: {port: 0}}")
    command: list[str | Path] = [TIDEGATE, "run", "--config", tmp_path / "config.yaml"]
    with Running(command, tmp_path / "gateway.log") as starting:
        status = Path(f"/proc/{starting.process.pid}/status")

        def minds() -> bool:
            caught = int(status.read_text().partition("SigCgt:")[2].split()[0], 16)
            return bool(caught >> (signal.SIGHUP - 1) & 1)

        wait_until(minds, "the signal is minded")
        starting.send_signal(signal.SIGHUP)
        wait_until(lambda: "Ctrl-C ends it." in starting.text, f"it starts: {starting.text}")
        assert starting.process.poll() is None
