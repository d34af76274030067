"""The JavaScript client in a namespace, in Chromium."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser

from tests.real import GatewayProcess

DOCUMENT = (Path(__file__).parents[2] / "docs" / "namespaces.md").read_text()


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.fixture
def gateway(tmp_path: Path, demo_config: dict[str, Any]) -> Iterator[GatewayProcess]:
    """The gateway with the namespaces of the document."""
    config = {**demo_config, "namespaces": yaml.safe_load(block("yaml"))["namespaces"]}
    with GatewayProcess(tmp_path / "gateway", config) as running:
        running.wait_until_ready()
        yield running


ANSWER = """
import { connect } from "/tidegate.js";
const gate = connect({ url: "/n/factory-b/", transport: "%s" });
gate.subscribe("chat/#", (message) => console.log(message.room, message.data));
gate.addEventListener("state", async ({ detail }) => {
  if (detail === "open") await gate.publish("chat/hall", "hello");
});
"""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (block("js"), "lines/line-1/press-2/force 7"),
        (ANSWER % "websocket", "chat/hall hello"),
        (ANSWER % "sse", "chat/hall hello"),
    ],
    ids=["the snippet", "websocket", "sse"],
)
def test_the_client_talks_to_a_namespace(
    gateway: GatewayProcess, chromium: Browser, publish: Callable[[str, str], None], script: str, expected: str
) -> None:
    publish("factory-b/line-1/press-2/force", "7")
    page = chromium.new_page(bypass_csp=True)  # a page of the reader's own
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{gateway.url}/healthz")
    page.set_content(f"<!doctype html><script type=module>{script}</script>")
    for _ in range(400):
        if expected in said:
            break
        page.wait_for_timeout(50)
    page.close()
    assert expected in said
