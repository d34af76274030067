"""The real socket.io-client from npm, in node: over WebSocket, over polling, and over polling with an upgrade."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import jwt
import orjson
import pytest
import yaml

from gateway.core.authentication import hash_token
from tests.integration.conftest import Device
from tests.integration.test_proxies import location
from tests.javascript import ClientError, NodeProgram, node_program
from tests.nginx import nginx
from tests.real import ROUTES, GatewayProcess, Mosquitto, configuration, mosquitto, wait_until
from tests.unit.test_passwords import CHEAP

SECRET = "s" * 64
API_TOKEN = "tg_" + "a" * 64
ASKED = {"topic": "ask/{name}", "room": "ask/{name}", "reply": "ask/{name}/reply"}
TRANSPORTS = ["websocket", "polling", "polling,websocket"]
Open = Callable[..., NodeProgram]


def token(user: str, seconds: float = 3600) -> str:
    return jwt.encode({"sub": user, "roles": ["operator"], "exp": time.time() + seconds}, SECRET, "HS256")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def device(upstream: Mosquitto) -> Iterator[Device]:
    running = Device(upstream.port)
    yield running
    running.stop()


def everything() -> dict[str, Any]:
    return {"roles": ["operator"], **{each: ["#"] for each in ("subscribe", "publish", "request", "presence")}}


def serve(folder: Path, broker: Mosquitto, *, plain: bool = False, **more: Any) -> GatewayProcess:
    (folder / "gateway").mkdir()
    (folder / "gateway" / "jwt.key").write_text(SECRET)
    users = {"cara": {"password_hash": CHEAP.hash("correct horse"), "roles": ["operator"]}}
    (folder / "gateway" / "users.yaml").write_text(yaml.safe_dump(users))
    config: dict[str, Any] = {
        "identity": {
            "anonymous": {"roles": ["guest"]},
            "users_file": "users.yaml",
            "jwt": {"algorithms": ["HS256"], "secret_file": "jwt.key"},
            "tokens": [{"name": "ci", "sha256": hash_token(API_TOKEN), "roles": ["operator"]}],
        },
        "access": [everything(), {"roles": ["guest"], "subscribe": ["open/#"]}],
        "rooms": [{"room": "chat/#", "history": {"messages": 100}}, {"room": "here/#", "presence": True}],
        "presence": {"grace_seconds": 0},
        "routes": [*ROUTES, {**ASKED, "direction": "to_device", "payload": "json"}],
        "namespaces": {"factory-b": {"access": [everything()]}},
        "heartbeat": {"interval_seconds": 1, "timeout_seconds": 5},
        **more,
    }
    running = GatewayProcess(folder / "gateway", configuration(broker.port, **config), plain=plain)
    running.wait_until_ready()
    return running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, upstream: Mosquitto) -> Iterator[GatewayProcess]:
    with serve(tmp_path_factory.mktemp("direct"), upstream) as running:
        yield running


@pytest.fixture(scope="module")
def plainly_served(tmp_path_factory: pytest.TempPathFactory, upstream: Mosquitto) -> Iterator[GatewayProcess]:
    with serve(tmp_path_factory.mktemp("plain"), upstream, plain=True) as running:
        yield running


@pytest.fixture(scope="module")
def programs() -> Iterator[Callable[[str], NodeProgram]]:
    """One program of node for each way of transport."""
    with ExitStack() as stack:
        running: dict[str, NodeProgram] = {}

        def start(transports: str) -> NodeProgram:
            if transports not in running:
                running[transports] = stack.enter_context(node_program("socketio.js", transports))
            return running[transports]

        yield start


@pytest.fixture(params=TRANSPORTS)
def client(request: pytest.FixtureRequest, programs: Callable[[str], NodeProgram]) -> Iterator[NodeProgram]:
    program = programs(request.param)
    program.events.clear()
    yield program
    program.do("closeAll")


def said(event: str, name: str = "a", **fields: Any) -> Callable[[dict[str, Any]], bool]:
    wanted = {"event": event, "socket": name, **fields}
    return lambda happened: wanted.items() <= happened.items()


def values(program: NodeProgram, number: int, name: str = "a") -> list[Any]:
    return [event["data"] for event in program.wait_for(said("message", name), number)]


def test_what_a_device_says_arrives_as_an_event_in_order(
    client: NodeProgram, served: GatewayProcess, device: Device
) -> None:
    client.do("connect", url=served.url, token=API_TOKEN)
    client.do("subscribe", room="kept/lamp")
    for number in range(50):
        device.publish("kept/lamp", str(number), qos=1)
    assert values(client, 50) == list(range(50))
    (first,) = client.wait_for(said("message"))
    assert first["topic"] == "kept/lamp"


def test_a_plain_asgi_server_serves_the_same(
    client: NodeProgram, plainly_served: GatewayProcess, device: Device
) -> None:
    client.do("connect", url=plainly_served.url, token=API_TOKEN)
    client.do("subscribe", room="raw/plain")
    device.publish("raw/plain", bytes([0, 255]), qos=1)
    assert values(client, 1) == [{"hex": "00ff"}]
    client.do("publish", room="here/plain", data=1)
    client.do("cut")
    client.wait_for(said("connected", recovered=True))


def test_the_last_value_is_in_the_answer_to_subscribe(
    client: NodeProgram, served: GatewayProcess, device: Device
) -> None:
    device.publish("sensors/oslo/b/t", "21.5", qos=1)
    client.do("connect", url=served.url, token=API_TOKEN)

    def last() -> Any:
        return [each["data"] for each in client.do("subscribe", room="sites/oslo/b/t")["last"]]

    assert wait_until(last, "the value is there") == [21.5]


def test_a_command_reaches_the_device_before_it_is_acknowledged(
    client: NodeProgram, served: GatewayProcess, upstream: Mosquitto
) -> None:
    lamp = Device(upstream.port)
    lamp.subscribe("commands/oslo/lamp")
    client.do("connect", url=served.url, token=API_TOKEN)
    assert client.do("publish", room="sites/oslo/lamp/commands", data={"on": True}) == {"type": "ack"}
    (command,) = lamp.received(1)
    assert command.payload == b'{"on":true}'
    lamp.stop()


def test_what_is_missed_while_away_comes_on_return_and_the_client_knows_that_it_is_recovered(
    client: NodeProgram, served: GatewayProcess, device: Device
) -> None:
    client.do("connect", url=served.url, token=API_TOKEN)
    client.do("subscribe", room="kept/away")
    device.publish("kept/away", "1", qos=1)
    values(client, 1)
    client.do("cut")
    for number in (2, 3):
        device.publish("kept/away", str(number), qos=1)
    client.wait_for(said("connected", recovered=True))
    device.publish("kept/away", "4", qos=1)
    assert values(client, 4) == [1, 2, 3, 4]


def test_who_missed_what_is_not_kept_is_not_recovered(client: NodeProgram, served: GatewayProcess) -> None:
    client.do("connect", url=served.url, token=API_TOKEN)
    client.do("connect", url=served.url, token=API_TOKEN, socket="b")
    client.do("subscribe", room="fleeting")
    client.do("publish", room="fleeting", data=1, socket="b")
    values(client, 1)
    client.do("pause")
    client.wait_for(said("closed"))
    client.do("publish", room="fleeting", data=2, socket="b")
    client.do("resume")
    client.wait_for(lambda event: said("connected")(event) and not event["recovered"], 2)


def test_a_client_of_another_user_does_not_get_what_was_remembered(client: NodeProgram, served: GatewayProcess) -> None:
    client.do("connect", url=served.url, token=token("ann"))
    client.do("subscribe", room="chat/ann")
    client.do("publish", room="chat/ann", data=1)
    values(client, 1)
    client.do("identify", token=token("bob"))
    client.do("cut")
    client.wait_for(lambda event: said("connected")(event) and not event["recovered"], 2)
    client.do("publish", room="chat/ann", data=2)
    assert client.do("presence", room="here/x")["data"]["count"] == 0  # all that came before has arrived
    assert values(client, 1) == [1]
    assert len([event for event in client.events if said("message")(event)]) == 1


def test_without_permission_an_acknowledgement_says_so(client: NodeProgram, served: GatewayProcess) -> None:
    client.do("connect", url=served.url)
    client.do("subscribe", room="open/x")
    for refused in ({"room": "open/x", "data": 1}, {"room": "chat/x", "data": 1}):
        with pytest.raises(ClientError, match="forbidden"):
            client.do("publish", **refused)
    with pytest.raises(ClientError, match="forbidden"):
        client.do("subscribe", room="chat/x")


@pytest.mark.parametrize("shown", ["wrong", {"n": 1}])
def test_a_wrong_token_is_a_connect_error_with_its_reason(
    client: NodeProgram, served: GatewayProcess, shown: Any
) -> None:
    with pytest.raises(ClientError, match="unauthenticated"):
        client.do("connect", url=served.url, token=shown)


def test_a_ticket_and_a_header_say_who_one_is(client: NodeProgram, served: GatewayProcess) -> None:
    bearer = {"authorization": f"Bearer {token('ann')}"}
    ticket = httpx.post(f"{served.url}/ticket", headers=bearer).json()["ticket"]
    client.do("connect", url=served.url, query={"ticket": ticket})
    client.do("connect", url=served.url, headers=bearer, socket="b")
    for name in "ab":
        (welcome,) = client.wait_for(said("welcome", name))
        assert welcome["identity"]["user"] == "ann"
    with pytest.raises(ClientError, match="unauthenticated"):
        client.do("connect", url=served.url, query={"ticket": ticket}, socket="c")


def test_a_login_lets_in_and_its_end_ends_the_session(client: NodeProgram, served: GatewayProcess) -> None:
    with httpx.Client(base_url=served.url) as browser:
        csrf = browser.post("/login", json={"user": "cara", "password": "correct horse"}).json()["csrf"]
        (cookie,) = (f"{each.name}={each.value}" for each in browser.cookies.jar)
        client.do("connect", url=served.url, headers={"cookie": cookie, "origin": served.url})
        (welcome,) = client.wait_for(said("welcome"))
        assert welcome["identity"]["user"] == "cara"
        browser.post("/logout", headers={"x-csrf-token": csrf})
    client.wait_for(said("bye", code="unauthenticated"))
    client.wait_for(said("closed", reason="io server disconnect"))


def test_a_token_that_expires_ends_the_session_unless_a_newer_one_comes(
    client: NodeProgram, served: GatewayProcess
) -> None:
    client.do("connect", url=served.url, token=token("ann", seconds=2))
    client.do("connect", url=served.url, token=token("ann", seconds=2), socket="b")
    assert client.do("emit", args=["auth", token("ann")])["identity"]["user"] == "ann"
    client.wait_for(said("bye", "b", code="unauthenticated"))
    client.wait_for(said("closed", "b", reason="io server disconnect"))
    assert client.do("emit", args=["ping"]) == {"type": "pong"}


def test_a_connection_that_polls_is_of_use_only_to_who_opened_it(served: GatewayProcess) -> None:
    def shown(user: str) -> dict[str, str]:
        return {"authorization": f"Bearer {token(user)}"}

    ann, path = shown("ann"), "/socket.io/?EIO=4&transport=polling"
    with httpx.Client(base_url=served.url) as http:
        path += f"&sid={orjson.loads(http.get(path, headers=ann).text[1:])['sid']}"
        assert http.post(path, headers=ann, content="40").text == "OK"
        for other in ({}, shown("bob"), {"authorization": "Bearer wrong"}):
            for answer in (http.get(path, headers=other), http.post(path, headers=other, content="1")):
                assert (answer.status_code, answer.json()["code"]) == (400, 1)
        assert '"user":"ann"' in http.get(path, headers=shown("ann")).text


def test_namespaces_are_those_of_the_gateway(client: NodeProgram, served: GatewayProcess) -> None:
    client.do("connect", url=served.url, token=API_TOKEN)
    client.do("connect", url=served.url, token=API_TOKEN, namespace="/factory-b", socket="b")
    for name in "ab":
        client.do("subscribe", room="chat/x", socket=name)
    client.do("publish", room="chat/x", data="b", socket="b")
    client.do("publish", room="chat/x", data="a")
    assert values(client, 1) == ["a"]
    assert values(client, 1, "b") == ["b"]
    with pytest.raises(ClientError, match="Invalid namespace"):
        client.do("connect", url=served.url, token=API_TOKEN, namespace="/elsewhere", socket="c")
    with pytest.raises(ClientError, match="unauthenticated"):
        client.do("connect", url=served.url, token="wrong", namespace="/factory-b", socket="c")


def test_presence_is_asked_and_told(client: NodeProgram, served: GatewayProcess) -> None:
    client.do("connect", url=served.url, token=token("ann"))
    client.do("connect", url=served.url, token=token("bob"), socket="b")
    for name in "ab":
        client.do("subscribe", room="here/hall", socket=name)
    client.wait_for(said("joined", who={"user": "bob"}))
    assert client.do("presence", room="here/hall")["data"]["count"] == 2
    client.do("disconnect", socket="b")
    client.wait_for(said("closed", "b", reason="io client disconnect"))
    client.wait_for(said("left", who={"user": "bob"}))


def test_events_of_a_client_reach_all_of_a_room_one_all_but_the_sender_and_one_user(
    client: NodeProgram, served: GatewayProcess
) -> None:
    client.do("connect", url=served.url, token=token("ann"))
    bob = client.do("connect", url=served.url, token=token("bob"), socket="b")
    for name in "ab":
        client.do("subscribe", room="chat/chat", socket=name)
    for event, options in (
        ("all", {}),
        ("others", {"echo": False}),
        ("one", {"to": {"session": bob}}),
        ("user", {"to": {"user": "ann"}}),
        ("fast", {"volatile": True}),
    ):
        client.do("emit", args=["emit", "chat/chat", event, [{"n": 1}, {"hex": "0102"}], options])
    client.wait_for(said("custom", custom="fast"))
    client.wait_for(said("custom", "b", custom="fast"))
    heard = {name: [event["custom"] for event in client.events if said("custom", name)(event)] for name in "ab"}
    assert heard == {"a": ["all", "user", "fast"], "b": ["all", "others", "one", "fast"]}
    (first,) = client.wait_for(said("custom", "b", custom="all"))
    assert first["args"][:2] == [{"n": 1}, {"hex": "0102"}]


def test_one_client_acknowledges_an_event_of_another(client: NodeProgram, served: GatewayProcess) -> None:
    client.do("connect", url=served.url, token=API_TOKEN)
    other = client.do("connect", url=served.url, token=API_TOKEN, socket="b", answers=["yes", {"hex": "05"}])
    deaf = client.do("connect", url=served.url, token=API_TOKEN, socket="c")
    for name in "bc":
        client.do("subscribe", room="chat/ask", socket=name)

    def ask(who: str, room: str = "chat/ask") -> Any:
        return client.do(
            "emit",
            args=["emit", room, "question", [1], {"to": {"session": who}, "answer": True, "timeout_seconds": 0.3}],
        )

    assert ask(other)["data"] == ["yes", {"hex": "05"}]
    with pytest.raises(ClientError, match="request_timeout"):
        ask(deaf)
    for who, room in (("nobody", "chat/ask"), (other, "chat/elsewhere")):
        with pytest.raises(ClientError, match="bad_message: to:"):
            ask(who, room)


def polled(http: httpx.Client, path: str) -> list[Any]:
    """The arguments of all messages that one poll brings; pings are answered."""
    packets = http.get(path).text.split("\x1e")
    if "2" in packets:
        http.post(path, content="3")
    return [orjson.loads(packet[2:]) for packet in packets if packet.startswith('42["message"')]


def last(http: httpx.Client, room: str) -> list[Any]:
    answer = http.get("/last", params={"room": room}, headers={"authorization": f"Bearer {API_TOKEN}"})
    return [message["data"] for message in answer.json()["last"]]


def test_a_client_that_does_not_poll_costs_no_queue_and_loses_nothing(served: GatewayProcess, device: Device) -> None:
    path = "/socket.io/?EIO=4&transport=polling"
    with httpx.Client(base_url=served.url) as http:
        path += f"&sid={orjson.loads(http.get(path).text[1:])['sid']}"
        http.post(path, content=f'40{{"token":"{API_TOKEN}"}}\x1e421["subscribe","kept/slow"]')
        for number in range(2000):
            device.publish("kept/slow", str(number), qos=1)
        wait_until(lambda: last(http, "kept/slow") == [1999], "all came")
        first = polled(http, path)
        assert 0 < len(first) < 500
        heard = [message["data"] for _, message, _ in first]
        while len(heard) < 2000:
            heard += [message["data"] for _, message, _ in polled(http, path)]
    assert heard == list(range(2000))


def test_a_request_is_answered_by_the_device(client: NodeProgram, served: GatewayProcess, upstream: Mosquitto) -> None:
    lamp = Device(upstream.port)
    lamp.subscribe("ask/lamp")

    def answer() -> None:
        lamp.received(1)
        lamp.publish("ask/lamp/reply", '{"on": true}')

    client.do("connect", url=served.url, token=API_TOKEN)
    with ThreadPoolExecutor() as pool:
        answering = pool.submit(answer)
        assert client.do("request", room="ask/lamp", data=1) == {"type": "reply", "data": {"on": True}}
        answering.result()
    lamp.stop()
    with pytest.raises(ClientError, match="not_requestable"):
        client.do("request", room="chat/lamp", data=1)


def test_bad_arguments_are_named_and_the_connection_stays(client: NodeProgram, served: GatewayProcess) -> None:
    client.do("connect", url=served.url, token=API_TOKEN)
    for args, found in (
        (["subscribe"], "room: expected a string"),
        (["subscribe", "a", {"sinc": 1}], "options: expected since, sample, found 'sinc'"),
        (["subscribe", "a", "b"], "options: expected an object"),
        (["publish", "a"], "data: expected what is to be published"),
        (["publish", "a", {"deep": {"hex": "01"}}], "data: expected what JSON can say"),
        (["emit", "a", "message", []], "name: expected one of your own"),
        (["emit", "a", "x", {}], "args: expected an array"),
        (["emit", "a", "x", [], {"answer": True}], "to: expected the session"),
        (["unsubscribe", "a", 1, 2], "expected at most room, found 3 arguments"),
        (["other"], "event: expected one of subscribe"),
    ):
        with pytest.raises(ClientError, match=f"bad_message: .*{found}"):
            client.do("emit", args=args)
    client.do("tell", args=["request", "a", 1])
    client.wait_for(said("error", code="bad_message"))
    assert client.do("emit", args=["ping"]) == {"type": "pong"}


def test_who_floods_is_limited_by_acknowledgement_and_then_sent_away(
    client: NodeProgram, served: GatewayProcess
) -> None:
    client.do("connect", url=served.url, token=API_TOKEN)
    client.do("connect", url=served.url, token=API_TOKEN, socket="b")
    client.do("flood", number=140, args=["publish", "chat/flood", 1])
    client.wait_for(said("limited", code="rate_limited"))
    client.wait_for(said("bye", code="rate_limited"))
    client.wait_for(said("connected"), 2)  # it comes back by itself
    assert client.do("emit", args=["ping"], socket="b") == {"type": "pong"}


def test_what_is_too_large_ends_that_connection_alone(client: NodeProgram, served: GatewayProcess) -> None:
    client.do("connect", url=served.url, token=API_TOKEN, socket="b")
    client.do("connect", url=served.url, token=API_TOKEN)
    client.do("tell", args=["publish", "chat/large", "x" * 70_000])
    client.wait_for(said("closed"))
    client.wait_for(said("connected"), 2)
    assert client.do("emit", args=["ping"], socket="b") == {"type": "pong"}


def test_a_client_comes_back_after_a_restart_of_the_gateway_and_was_told_why(
    tmp_path: Path, upstream: Mosquitto, programs: Callable[[str], NodeProgram]
) -> None:
    program = programs("websocket")
    program.events.clear()
    with serve(tmp_path, upstream) as gateway:
        program.do("connect", url=gateway.url, token=API_TOKEN)
        port = gateway.port
        gateway.stop()
        program.wait_for(said("bye", code="shutting_down"))
        program.wait_for(said("closed", reason="transport close"))
        assert "Traceback" not in gateway.text
        assert '"level": "error"' not in gateway.text
    with GatewayProcess(tmp_path / "gateway", configuration(upstream.port), port=port) as again:
        again.wait_until_ready()
        program.wait_for(lambda event: event["event"] == "attempt")
    program.do("closeAll")


def test_behind_nginx_a_client_polls_and_goes_over_to_websocket(
    tmp_path: Path, served: GatewayProcess, programs: Callable[[str], NodeProgram]
) -> None:
    program = programs("polling,websocket")
    program.events.clear()
    with nginx(tmp_path, location(served)) as port:
        program.do("connect", url=f"http://127.0.0.1:{port}", token=API_TOKEN)
        program.do("subscribe", room="chat/nginx")
        wait_until(lambda: program.do("transport") == "websocket", "the upgrade")
        program.do("publish", room="chat/nginx", data={"hex": "07"})
        assert values(program, 1) == [{"hex": "07"}]
        program.do("closeAll")
