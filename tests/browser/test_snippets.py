"""The documents' snippets for pages, run in Chromium as written."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.real import GatewayProcess, wait_until

ROOT = Path(__file__).parents[2]


def snippets(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


def test_the_readmes_page_shows_a_value(
    broker_only: GatewayProcess, chromium: Browser, publish: Callable[[str, str], None]
) -> None:
    (html,) = snippets("README.md", "html")
    publish("sensors/oslo/boiler-1/temperature", '{"value": 68.5}')
    page = chromium.new_page(bypass_csp=True)  # a page of the reader's own
    page.goto(f"{broker_only.url}/healthz")
    page.set_content(html)
    expect(page.locator("#value")).to_have_text("68.5")
    publish("sensors/oslo/boiler-1/temperature", '{"value": 69.5}')
    expect(page.locator("#value")).to_have_text("69.5")
    page.close()


@pytest.mark.parametrize(
    ("document", "number", "expected"),
    [
        ("javascript-client", 0, "sites/oslo/fan-4/power {value: 7} now"),
        ("javascript-client", 1, "the broker has it"),
        ("polling", 0, "sites/oslo/fan-4/power 7"),
        ("raw-websocket", 0, 'lamp: {"on":true}'),
    ],
)
def test_the_clients_snippets_work(
    broker_only: GatewayProcess,
    chromium: Browser,
    publish: Callable[[str, str], None],
    document: str,
    number: int,
    expected: str,
) -> None:
    script = snippets(f"docs/{document}.md", "js")[number]
    html = f"<!doctype html><script type=module>{script}</script>"
    page = chromium.new_page(bypass_csp=True)  # a page of the reader's own
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{broker_only.url}/healthz")
    page.set_content(html)
    for _ in range(100):
        publish("sensors/oslo/fan-4/power", '{"value": 7}')
        if expected in said:
            break
        page.wait_for_timeout(50)
    assert expected in said
    page.close()


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_a_device_answers_the_clients_request(demo: GatewayProcess, chromium: Browser, transport: str) -> None:
    script = snippets("docs/javascript-client.md", "js")[2].replace(
        "connect()", f'connect({{transport: "{transport}"}})'
    )
    readings = f"{demo.url}/last?room=sites/oslo/fan-4/power"
    wait_until(lambda: httpx.get(readings).json()["last"], "the simulated fan is there")
    page = chromium.new_page(bypass_csp=True)  # a page of the reader's own
    page.goto(f"{demo.url}/healthz")
    with page.expect_console_message(lambda message: message.text == "the fan is on"):
        page.set_content(f"<!doctype html><script type=module>{script}</script>")
    page.close()
