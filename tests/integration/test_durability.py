"""A log in SQLite: what a gateway knows after it was killed, and files that it can't use."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.integration.conftest import Device, browser
from tests.integration.test_resume import data
from tests.real import TIDEGATE, GatewayProcess, Mosquitto, configuration, wait_until

ENGINE = {"url": "sqlite:log.db"}


def durable(broker_port: int, folder: Path, **changes: Any) -> dict[str, Any]:
    """A log that outlives the gateway, and a session that the broker keeps meanwhile."""
    upstream = {"client_id": "gate-1", "session": "persistent"}
    return configuration(broker_port, engine={"url": f"sqlite:{folder / 'log.db'}"}, upstream=upstream, **changes)


async def test_a_killed_gateway_knows_history_last_values_and_cursors(
    tmp_path: Path, broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(durable(broker.port, tmp_path))
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="kept/x")
        for number in range(10):
            device.publish("kept/x", str(number), qos=1)
        cursor = (await client.messages(10))[3]["cursor"]
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()
    for number in range(10, 13):
        device.publish("kept/x", str(number), qos=1)
    again = start_gateway(durable(broker.port, tmp_path))
    async with browser(again) as client:
        answer = await client.ask(type="subscribe", room="kept/x", since=cursor)
        assert (answer["recovered"], answer["last"]) == (True, [])
        assert data(await client.messages(9)) == list(range(4, 13))
    history = httpx.get(f"{again.url}/history?room=kept/x").json()
    assert data(history["messages"]) == list(range(13))
    assert data(httpx.get(f"{again.url}/last?room=kept/x").json()["last"]) == [12]


def test_each_namespace_has_a_file_beside_the_configuration(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    config = configuration(broker.port, engine=ENGINE, namespaces={"factory-b": {"routes": []}})
    gateway = start_gateway(config)
    folder = gateway.output.parent
    assert {"log.db", "log.factory-b.db"} <= {path.name for path in folder.iterdir()}


def run_to_the_end(folder: Path, engine: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"listen": {"port": 0}, "broker": {"port": 0}, "engine": engine}))
    return subprocess.run([TIDEGATE, "run", "--config", path], capture_output=True, text=True, timeout=20)


def test_a_file_that_cant_be_used_is_one_sentence(
    tmp_path: Path, broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    start_gateway(durable(broker.port, tmp_path))
    (tmp_path / "text.db").write_text("this is no database " * 100)
    for url, named in [
        (f"sqlite:{tmp_path}/log.db", "in use by another program"),
        ("sqlite:text.db", "no SQLite database"),
        ("sqlite:nowhere/log.db", "nowhere/log.db"),
        ("redis://localhost", "expected `upstreams` beside it"),
    ]:
        ended = run_to_the_end(tmp_path, {"url": url})
        assert ended.returncode == 1, url
        assert named in ended.stderr
        assert "engine.url" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_gateway_that_is_stopped_has_written_everything(
    tmp_path: Path, broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(durable(broker.port, tmp_path))
    for number in range(500):
        device.publish("kept/x", str(number), qos=1)

    def newest(running: GatewayProcess) -> Any:
        last = httpx.get(f"{running.url}/last?room=kept/x").json()["last"]
        return last[0]["data"] if last else None

    wait_until(lambda: newest(gateway) == 499, "all is there")
    assert gateway.stop() == 0
    assert newest(start_gateway(durable(broker.port, tmp_path))) == 499
