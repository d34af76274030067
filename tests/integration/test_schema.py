"""What misfits a route's JSON Schema, over every transport that publishes: told with its path, and not sent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Device, browser
from tests.real import GatewayProcess, Mosquitto, configuration

SCHEMA = {
    "type": "object",
    "properties": {"switch": {"type": "boolean"}, "name": {"type": "string", "pattern": "^(a+)+$"}},
    "additionalProperties": False,
}
TOLD = 'data.switch: expected boolean, found "on"'


@pytest.fixture
def gateway(broker: Mosquitto, tmp_path: Path, start_gateway: Callable[..., GatewayProcess]) -> GatewayProcess:
    path = tmp_path / "command.json"
    path.write_text(json.dumps(SCHEMA))
    route: dict[str, Any] = {
        "topic": "checked/{device}",
        "room": "checked/{device}",
        "direction": "to_device",
        "qos": 1,
        "reply": "answers/{device}",
        "schema": str(path),
    }
    config = configuration(broker.port)
    running = start_gateway({**config, "routes": [route]})
    running.wait_until_ready()
    return running


async def test_what_misfits_is_told_with_its_path_and_never_sent(gateway: GatewayProcess, device: Device) -> None:
    device.subscribe("checked/#")
    wrong = {"switch": "on"}
    async with browser(gateway) as client:
        for kind in ("publish", "request"):
            told = await client.ask(type=kind, room="checked/a", data=wrong)
            assert (told["type"], told["code"], told["message"]) == ("error", "bad_message", TOLD)
        for path in ("publish", "request"):
            answer = httpx.post(f"{gateway.url}/{path}?room=checked/a", json=wrong)
            assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (400, "bad_message", TOLD)
        stalling = {"name": "a" * 30_000 + "b"}
        told = await client.ask(type="publish", room="checked/a", data=stalling)
        assert told["message"].startswith('data.name: expected text that matches "^(a+)+$", found "aaa')
        assert (await client.ask(type="publish", room="checked/a", data={"switch": True}))["type"] == "ack"
    (only,) = device.received(1)
    assert only.payload == b'{"switch":true}'
