"""What all clients are tried against: one gateway, one broker, one device, and three people with what they may do."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.real import DEADLINE_SECONDS, GatewayProcess, configuration, mosquitto, wait_until

__all__ = ["Bench", "bench"]

TOKENS: Final = {name: f"tg_{hashlib.sha256(name.encode()).hexdigest()}" for name in ("operator", "guest", "flooder")}
"""Who may do all, who may only look at sites, and who may do all but slowly."""

ROUTES: Final = [
    {
        "topic": "sensors/{device}/{metric}",
        "room": "sites/{device}/{metric}",
        "payload": "json",
        "qos": 1,
        "history": {"messages": 5000},
    },
    {
        "topic": "commands/{device}",
        "room": "devices/{device}/commands",
        "direction": "to_device",
        "payload": "json",
        "qos": 1,
    },
]
CONFIGURATION: Final[dict[str, Any]] = {
    "identity": {
        "tokens": [
            {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), "roles": [name]}
            for name, token in TOKENS.items()
        ]
    },
    "access": [
        {"roles": ["operator", "flooder"], "subscribe": ["#"], "publish": ["#"], "presence": ["#"], "history": ["#"]},
        {"roles": ["guest"], "subscribe": ["sites/#"], "history": ["sites/#"]},
    ],
    "rooms": [
        {"room": "calls/+", "presence": True},
        {"room": "people/+", "presence": True},
    ],
    "presence": {"grace_seconds": 0.2},
    "peerjs": {"rooms": ["calls/+"]},
    "limits": {
        "connections_per_address": 5000,
        "handshakes_per_address_per_second": 1000,
        "messages_per_second": 500,
        "messages_burst": 1000,
        "by_role": {"flooder": {"messages_per_second": 2, "messages_burst": 8}},
    },
    "routes": ROUTES,
}


class Bench:
    """The gateway, and the device behind it."""

    def __init__(self, gateway: GatewayProcess, device: paho.Client) -> None:
        self.gateway = gateway
        self._device = device
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._commands: list[tuple[str, Any]] = []
        device.on_message = self._take

    def _take(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._commands.append((message.topic, json.loads(message.payload)))

    def name(self) -> str:
        """A name that nothing else has."""
        return f"d{next(self._numbers)}"

    def measure(self, device: str, *values: Any) -> None:
        """Have a device say values, one after the other; returns once the broker has them."""
        sent = [self._device.publish(f"sensors/{device}/t", json.dumps(value), qos=1) for value in values]
        for each in sent:
            each.wait_for_publish(DEADLINE_SECONDS)

    def last(self, device: str) -> list[Any]:
        """What the gateway knows that a device has said last."""
        query = {"room": f"sites/{device}/t"}
        answer = httpx.get(f"{self.gateway.url}/last", params=query, headers=self.authorization)
        return [message["data"] for message in answer.raise_for_status().json()["last"]]

    def reached(self, device: str) -> list[Any]:
        """What has reached a device."""
        with self._lock:
            return [data for topic, data in self._commands if topic == f"commands/{device}"]

    def members(self, room: str) -> list[str]:
        """Who is in a room: their users."""
        answer = httpx.get(f"{self.gateway.url}/presence", params={"room": room}, headers=self.authorization)
        return [each["user"] for each in answer.raise_for_status().json()["members"]]

    def sessions(self, transport: str) -> int:
        """How many sessions of a transport there are."""
        found = 0.0
        for line in httpx.get(f"{self.gateway.url}/metrics").text.splitlines():
            if line.startswith("tidegate_sessions{") and f'transport="{transport}"' in line:
                found += float(line.rpartition(" ")[2])
        return int(found)

    def limited(self) -> int:
        """How often clients were held to the rate of messages."""
        found = [
            line for line in httpx.get(f"{self.gateway.url}/metrics").text.splitlines() if "tidegate_limited" in line
        ]
        return sum(int(float(line.rpartition(" ")[2])) for line in found if 'limit="messages_per_second"' in line)

    @property
    def authorization(self) -> dict[str, str]:
        """What the operator shows over HTTP."""
        return {"Authorization": f"Bearer {TOKENS['operator']}"}

    def ticket(self, who: str) -> str:
        """A ticket for who can't show a token."""
        answer = httpx.post(f"{self.gateway.url}/ticket", headers={"Authorization": f"Bearer {TOKENS[who]}"})
        ticket: str = answer.raise_for_status().json()["ticket"]
        return ticket


@contextmanager
def bench(directory: Path) -> Iterator[Bench]:
    """All of it, running."""
    with (
        mosquitto(directory) as broker,
        GatewayProcess(directory / "gateway", configuration(broker.port, **CONFIGURATION)) as gateway,
    ):
        gateway.wait_until_ready()
        device = paho.Client(CallbackAPIVersion.VERSION2)
        device.max_inflight_messages_set(1000)
        device.connect("127.0.0.1", broker.port)
        granted = threading.Event()
        device.on_subscribe = lambda *_: granted.set()
        device.loop_start()
        wait_until(device.is_connected, "the device is connected")
        device.subscribe("commands/#", 1)
        assert granted.wait(DEADLINE_SECONDS)
        try:
            yield Bench(gateway, device)
        finally:
            device.disconnect()
            device.loop_stop()
