"""Presence in pages, in Chromium: the document's snippet, and a reload."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, Page

from tests.real import GatewayProcess, wait_until

DOCUMENT = (Path(__file__).parents[2] / "docs" / "presence.md").read_text()


def block(language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)[0]  # type: ignore[no-any-return]


@pytest.fixture
def gateway(tmp_path: Path, demo_config: dict[str, Any]) -> Iterator[GatewayProcess]:
    """The gateway with the configuration of the document."""
    config = {"broker": demo_config["broker"], **yaml.safe_load(block("yaml"))}
    with GatewayProcess(tmp_path / "gateway", config) as running:
        running.wait_until_ready()
        yield running


def load(page: Page, url: str) -> None:
    """Load the page with the snippet, anew if it is there already, and wait until it has said who is there."""
    page.goto(f"{url}/healthz")
    with page.expect_console_message(lambda message: message.text == "1 fine", timeout=20_000):
        page.set_content(f"<!doctype html><script type=module>{block('js')}</script>")


def test_the_snippet_shows_who_is_there_and_a_reload_changes_nothing(
    gateway: GatewayProcess, chromium: Browser
) -> None:
    page, said = chromium.new_page(bypass_csp=True), list[str]()
    page.on("console", lambda message: said.append(message.text) if message.type == "log" else None)
    load(page, gateway.url)
    member = page.evaluate("sessionStorage.member")
    assert said[0] == f"there: chat/hall {{member: {member}}}"
    said.clear()
    load(page, gateway.url)
    assert said == ["1 fine"]
    answer = httpx.get(f"{gateway.url}/presence?room=chat/hall").json()
    assert answer == {"room": "chat/hall", "count": 1, "members": [{"member": member, "state": {"mood": "fine"}}]}
    page.close()
    wait_until(
        lambda: httpx.get(f"{gateway.url}/presence?room=chat/hall").json()["count"] == 0, "the page is gone for good"
    )
