"""The gateway under attack, and those who must notice nothing: a browser, a device, and who reads the log."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.core.authentication import hash_token
from tests.real import ROUTES, GatewayProcess, configuration, mosquitto, wait_until
from tests.security.case import Case
from tests.security.doors import http
from tests.security.raw import UPGRADE, RawWebSocket
from tests.security.tokens import API_TOKEN, SECRET, TOKENS, token

SCHEMA: Final = {
    "type": "object",
    "properties": {"switch": {"type": "boolean"}, "name": {"type": "string", "pattern": "^(a+)+$"}},
    "additionalProperties": False,
}
LINE: Final = re.compile(r"\d\d:\d\d:\d\d \[|WARNING: |ERROR: ")
"""How each line of a log begins, of the gateway's and of the other server's."""
BAD: Final = re.compile(r"traceback|exception|^FORGED|[\x00-\x08\x0b-\x1f\x7f]", re.IGNORECASE | re.MULTILINE)
GENEROUS: Final = {
    "messages_per_second": 100_000,
    "messages_burst": 100_000,
    "bytes_per_second": "1 GB",
    "bytes_burst": "1 GB",
    "connections_per_address": 10_000,
    "connections_per_user": 10_000,
    "handshakes_per_address_per_second": 100_000,
    "handshakes_burst": 100_000,
    "publishes_per_room_per_second": 100_000,
    "publishes_per_room_burst": 100_000,
    "url_bytes": "128 KiB",
}
WITNESS_ROOM: Final = "shared/witness"


def config(broker_port: int, folder: Path) -> dict[str, Any]:
    """Everything that has a door, for those who may do everything, something, or nothing."""
    (folder / "jwt.key").write_text(SECRET)
    (folder / "command.json").write_text(json.dumps(SCHEMA))
    everything = {action: ["#"] for action in ("subscribe", "publish", "request", "presence")}
    own = {action: ["users/{user}/#", "teams/{claims.team}/#"] for action in everything}
    checked = {"topic": "checked/{device}", "room": "checked/{device}", "direction": "to_device"}
    return configuration(
        broker_port,
        identity={
            "jwt": {"algorithms": ["HS256"], "secret_file": "jwt.key"},
            "tokens": [{"name": "ci", "sha256": hash_token(API_TOKEN), "roles": ["operator"]}],
        },
        access=[
            {"roles": ["all"], **everything},
            {"roles": ["operator"], **{action: ["open/#"] for action in everything}},
            {"roles": ["*"], **own},
            {"roles": ["witness"], "subscribe": [WITNESS_ROOM]},
        ],
        rooms=[{"room": "#", "presence": True}],
        peerjs={"rooms": ["#"], "expire_seconds": 300},
        namespaces={"b": {}},
        limits=GENEROUS,
        heartbeat={"interval_seconds": 300},  # the witness answers no pings
        logging={"level": "debug", "format": "console"},
        origins=["https://listed.example"],
        routes=[
            *ROUTES,
            {**checked, "schema": "command.json", "payload": "json"},
            {"topic": "tree/{rest...}", "room": "tree/{rest...}", "direction": "both", "payload": "json"},
        ],
    )


class Spy:
    """A device that hears every topic."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._lock = threading.Lock()
        self._topics: list[str] = []
        granted = threading.Event()
        self._client.on_message = self._take
        self._client.on_subscribe = lambda *_: granted.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe("#", 0)
        assert granted.wait(10)

    def _take(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._topics.append(message.topic)

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, 1).wait_for_publish(10)

    def until(self, topic: str) -> list[str]:
        """The topics that came before one that must come."""
        wait_until(lambda: topic in self._topics, f"a device hears of {topic}")
        with self._lock:
            found, self._topics = self._topics, []
        return [each for each in found if each != topic]

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def subscriber(gateway: GatewayProcess, bearer: str, *rooms: str) -> RawWebSocket:
    """A session that hears rooms."""
    host = f"127.0.0.1:{gateway.port}"
    head = f"GET /ws HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {bearer}\r\n".encode()
    client = RawWebSocket(gateway.port, head + UPGRADE + b"\r\n")
    for room in rooms:
        client.say(json.dumps({"type": "subscribe", "room": room}).encode())
    waiting = set(rooms)
    for _, data in client.frames():
        waiting.discard(json.loads(data).get("room"))
        if not waiting:
            break
    return client


class Target:
    """One gateway for many attacks."""

    def __init__(self, gateway: GatewayProcess, broker_port: int, *, plain: bool) -> None:
        self.port = gateway.port
        self.plain = plain
        self._gateway = gateway
        self.broker_port = broker_port
        self._spy = Spy(broker_port)
        self._witness = subscriber(gateway, token("witness", "witness"), WITNESS_ROOM, "users/witness/#")
        self._listener = subscriber(gateway, TOKENS["all"](), "sites/#", "raw/#", "tree/#", "text/#")
        self._read_bytes = gateway.output.stat().st_size
        self._count = 0

    def heard_of(self, topic: str, payload: bytes) -> list[dict[str, Any]]:
        """What a browser hears when a device publishes."""
        self._hear_to_the_fence()
        self._spy.publish(topic, payload)
        return self._hear_to_the_fence()

    def _hear_to_the_fence(self) -> list[dict[str, Any]]:
        self._spy.publish("raw/fence", b"0")
        heard = []
        for opcode, data in self._listener.frames():
            assert opcode == 1, (opcode, data)
            said = json.loads(data)
            if said.get("room") == "raw/fence":
                break
            heard.append(said)
        self._spy.until("raw/fence")
        return heard

    def check(self, reaches: tuple[str, ...] = ()) -> None:
        """Prove that nobody was hurt: what is sent gets to a device and to the witness, and nothing else does."""
        assert self._gateway.process.poll() is None, self._gateway.text
        self._count += 1
        fence = Case("fence", "", (), "", room=WITNESS_ROOM, body=b"%d" % self._count)
        assert http("POST", "/publish")(self, fence) == "ok"
        strays = []
        for _, data in self._witness.frames():
            told = json.loads(data)
            if (told["type"], told.get("room"), told.get("data")) == ("message", WITNESS_ROOM, self._count):
                break
            strays.append(told)
        else:
            raise AssertionError("the witness lost its connection")
        assert not strays, "the witness heard what it should not"
        others = set(self._spy.until(WITNESS_ROOM)) - {*reaches, "tidegate/status"}
        assert not others, f"devices heard of {others}"
        self._check_log()

    def _check_log(self) -> None:
        with self._gateway.output.open("rb") as log:
            log.seek(self._read_bytes)
            data = log.read()
        self._read_bytes += len(data)
        text = data.decode()
        assert not BAD.search(text), text[-3000:]
        assert all(LINE.match(line) for line in text.splitlines()), text[-3000:]
        assert SECRET not in text

    def stop(self) -> None:
        for client in (self._witness, self._listener):
            client.close()
        self._spy.stop()


@contextmanager
def target(folder: Path, *, plain: bool = False, embedded: bool = False) -> Iterator[Target]:
    """A gateway, a broker, which may be its own, and those who must notice nothing."""
    place = folder / "gateway"
    place.mkdir()
    with ExitStack() as stack:
        port = 0 if embedded else stack.enter_context(mosquitto(folder)).port
        settings = config(port, place)
        if embedded:
            settings = {**settings, "upstreams": {}, "broker": {"port": 0}}
        running = stack.enter_context(GatewayProcess(place, settings, plain=plain))
        running.wait_until_ready()
        if embedded:
            (port,) = map(int, re.findall(r"MQTT +127\.0\.0\.1:(\d+) \(embedded broker\)", running.text))
        found = Target(running, port, plain=plain)
        stack.callback(found.stop)
        yield found
