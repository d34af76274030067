"""What devices say in real Chromium: the dashboard shows it as text, and goes on showing what other devices say."""

import json
from collections.abc import Iterator

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import wait_for
from tests.real import GatewayProcess, free_port
from tests.security.case import Case
from tests.security.cases_pages import CASES

HURT = """() => {
  const wanted = "script:not([src]), iframe, svg, object, embed, base, a[href], [onerror], [onload]";
  const made = [...document.querySelectorAll(wanted)];
  const images = [...document.images].filter((image) => !image.src.endsWith("/favicon.svg"));
  const keys = []; for (const key in {}) keys.push(key);
  const own = Object.getOwnPropertyNames(Object.prototype).length;
  return JSON.stringify([typeof pwned, made.map((e) => e.outerHTML), images.map((e) => e.outerHTML), keys, own]);
}"""
"""Whether a script ran, what is in the page that text alone can't make, and what all objects have."""


class Dashboard:
    """A page that stays open, and devices."""

    def __init__(self, page: Page, device: paho.Client) -> None:
        self.page = page
        self._device = device
        self._count = 0
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self.faults.append(said.text) if said.type != "info" else None)
        page.on("dialog", lambda dialog: self.faults.append(dialog.message))
        page.on("request", lambda request: self._requested(request.url))
        self.unhurt = page.evaluate(HURT)

    def _requested(self, url: str) -> None:
        if not url.startswith(self.page.url):
            self.faults.append(url)

    def say(self, topic: str, payload: bytes) -> None:
        self._device.publish(topic, payload, qos=1).wait_for_publish(10)

    def attack(self, case: Case) -> str:
        """What comes of it, once a healthy device's next value is shown."""
        self.say(case.topic, case.body)
        self._count += 1
        self.say("sensors/oslo/healthy/power", json.dumps({"value": self._count, "unit": "W"}).encode())
        shown = "document.querySelector('[data-device=healthy] [data-metric=power]')?.textContent"
        wait_for(self.page, f"Number.parseFloat({shown}) === {self._count}")
        hurt = self.page.evaluate(HURT)
        return "nothing runs" if hurt == self.unhurt and not self.faults else f"{hurt} {self.faults}"


@pytest.fixture(scope="module", params=["websocket", "sse"])
def dashboard(
    tmp_path_factory: pytest.TempPathFactory, chromium: Browser, request: pytest.FixtureRequest
) -> Iterator[Dashboard]:
    port = free_port()
    routes = [
        {"topic": "sensors/{site}/{device}/{metric}", "room": "sites/{site}/{device}/{metric}", "payload": "json"},
        {"topic": "alarms/{site}/{device}", "room": "alarms/{site}", "payload": "json"},
    ]
    config = {"broker": {"port": port}, "routes": routes}
    device = paho.Client(CallbackAPIVersion.VERSION2)
    with GatewayProcess(tmp_path_factory.mktemp("dashboard") / "gateway", config) as gateway:
        gateway.wait_until_ready()
        device.connect("127.0.0.1", port)
        device.loop_start()
        page = chromium.new_page()
        page.goto(f"{gateway.url}/?transport={request.param}")
        expect(page.locator("[data-testid=connection]")).to_have_text("live")
        yield Dashboard(page, device)
        page.close()
        device.disconnect()
        device.loop_stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_device_says_is_text_to_the_dashboard(dashboard: Dashboard, case: Case) -> None:
    assert dashboard.attack(case) == case.outcome


def test_an_attack_that_got_in_would_be_noticed(dashboard: Dashboard) -> None:
    page = dashboard.page
    polluted = (
        f"() => {{ Object.prototype.pwned = 1; const hurt = ({HURT})(); delete Object.prototype.pwned; return hurt; }}"
    )
    assert page.evaluate(polluted) != dashboard.unhurt
    page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<img class=in src=/x onerror=pwned=1>')")
    assert "<img" in dashboard.attack(CASES[0])
    assert "Content Security Policy" in str(dashboard.faults)
    page.evaluate("() => document.querySelector('.in').remove()")
    dashboard.faults.clear()
    assert dashboard.attack(CASES[0]) == CASES[0].outcome
