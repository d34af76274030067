"""The programs in Python of the documents, run as written beside a gateway that is configured as written."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.test_snippets import snippets
from tests.real import GatewayProcess, Running, free_port, listens, wait_until

SECRET = "k" * 32


def program(document: str) -> str:
    """The one program that a document shows."""
    (found,) = (snippet for snippet in snippets("python") if snippet.document == document)
    return found.text


def webhook() -> dict[str, Any]:
    """The webhook that the documents show."""
    (found,) = (snippet for snippet in snippets("yaml") if snippet.document == "webhooks.md")
    shown: dict[str, Any] = yaml.safe_load(found.text)
    return shown


@pytest.fixture
def hook_port() -> int:
    return free_port()


@pytest.fixture
def gateway(tmp_path: Path, hook_port: int) -> Iterator[GatewayProcess]:
    """With the documented webhook, which leads to the documented program."""
    config = webhook()
    config["webhooks"]["alarms"]["url"] = f"http://127.0.0.1:{hook_port}/hooks/tidegate"
    config["webhooks"]["alarms"]["retry_max_seconds"] = 0.5
    (tmp_path / "webhook.key").write_text(f"{SECRET}\n")
    config["webhooks"]["alarms"]["secret_file"] = str(tmp_path / "webhook.key")
    rooms = [{"room": "chat/#", "history": {"messages": 10}}]
    with GatewayProcess(tmp_path / "gateway", {"broker": {"port": 0}, "rooms": rooms, **config}) as running:
        running.wait_until_ready()
        yield running


def run(folder: Path, name: str, text: str) -> Running:
    path = folder / name
    path.write_text(text)
    return Running([sys.executable, path], folder / f"{name}.log", cwd=folder)


def test_the_publisher_publishes_and_nothing_twice(gateway: GatewayProcess, tmp_path: Path) -> None:
    text = program("publishing.md").replace("localhost:8080", f"localhost:{gateway.port}")
    for name in ("first.py", "second.py"):
        with run(tmp_path, name, text) as publisher:
            assert publisher.wait() == 0, publisher.text
            assert publisher.text == "3 published, 0 refused\n"
    kept = httpx.get(f"{gateway.url}/history?room=chat/hall").json()["messages"]
    assert [message["data"] for message in kept] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_the_receiver_takes_what_is_signed_and_nothing_else(
    gateway: GatewayProcess, tmp_path: Path, hook_port: int
) -> None:
    text = program("webhooks.md").replace("9000", str(hook_port))
    with run(tmp_path, "receiver.py", text) as hook:
        wait_until(lambda: listens(hook_port), "the receiver listens")
        httpx.post(f"{gateway.url}/publish?room=alarms/oslo", json=7).raise_for_status()
        wait_until(lambda: "message alarms/oslo 7\n" in hook.text, hook.text)
        headers = {"webhook-id": "msg_1", "webhook-timestamp": "1764082800", "webhook-signature": "v1,AAAA"}
        forged = httpx.post(f"http://127.0.0.1:{hook_port}/", json={"data": {"events": []}}, headers=headers)
        assert forged.status_code == 401
