from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from playwright.sync_api import Browser, Page, sync_playwright

from tests.real import GatewayProcess, free_port

ROOT = Path(__file__).parents[2]
ARTEFACTS = ROOT / "artifacts"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def wait_for(page: Page, expression: str, arg: Any = None) -> None:
    """Wait until an expression is true. Playwright's own way evaluates text within the page, which the pages forbid."""
    for _ in range(400):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"waited in vain: {expression}")


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages, and fails the test for any error that a page met."""
    errors: list[str] = []
    contexts = []

    def start(url: str, width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(url)
        return page

    yield start
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def demo_config() -> dict[str, Any]:
    """The routes of the repository's own configuration, on ports of the test's own."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    return {"broker": {"port": free_port()}, "routes": config["routes"]}


@pytest.fixture
def demo(tmp_path: Path, demo_config: dict[str, Any]) -> Iterator[GatewayProcess]:
    """What `make run` starts: the embedded broker, the simulated devices, the dashboard."""
    with GatewayProcess(tmp_path / "demo", demo_config, "--demo") as running:
        yield running


@pytest.fixture
def broker_only(tmp_path: Path, demo_config: dict[str, Any]) -> Iterator[GatewayProcess]:
    """The same without simulated devices: only what the test publishes."""
    with GatewayProcess(tmp_path / "gateway", demo_config) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def publish(demo_config: dict[str, Any]) -> Iterator[Callable[[str, str], None]]:
    """Publishes as a device does; returns once the broker has it."""
    device = paho.Client(CallbackAPIVersion.VERSION2)

    def send(topic: str, payload: str) -> None:
        if not device.is_connected():
            device.connect("127.0.0.1", demo_config["broker"]["port"])
            device.loop_start()
        device.publish(topic, payload, qos=1).wait_for_publish(10)

    yield send
    device.disconnect()
    device.loop_stop()
