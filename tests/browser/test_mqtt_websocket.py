"""MQTT clients in a real page: mqtt.js as the document shows it, and Paho."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.javascript import CLIENTS
from tests.real import GatewayProcess

DOCUMENT = (Path(__file__).parents[2] / "docs" / "mqtt-websocket.md").read_text()
(SNIPPET,) = re.findall(r"^```js\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
PAHO = """
const client = new Paho.Client(location.hostname, Number(location.port), "/mqtt", "paho-page");
client.onMessageArrived = (message) => console.log(`${message.destinationName} says ${message.payloadString}`);
client.onMessageDelivered = (message) => {
  if (message.payloadString === "hello") console.log("the room has it");
};
client.connect({
  mqttVersion: 4,
  onSuccess() {
    client.subscribe("sensors/oslo/#", { qos: 1 });
    client.send("chat/hall", "hello", 1);
  },
  onFailure: ({ errorMessage }) => console.log(errorMessage),
});
"""


def hears(page: Page, said: list[str], expected: str, again: Callable[[], None]) -> None:
    for _ in range(200):
        if expected in said:
            return
        again()
        page.wait_for_timeout(50)
    raise AssertionError(f"expected {expected!r}, found {said}")


@pytest.mark.parametrize(
    ("library", "script"), [("mqtt/dist/mqtt.js", SNIPPET), ("paho-mqtt/paho-mqtt.js", PAHO)], ids=["mqtt.js", "paho"]
)
def test_pages_speak_mqtt(
    broker_only: GatewayProcess, chromium: Browser, publish: Callable[[str, str], None], library: str, script: str
) -> None:
    page = chromium.new_page(bypass_csp=True)  # a page of the reader's own
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{broker_only.url}/healthz")
    page.add_script_tag(path=CLIENTS / "node_modules" / library)
    page.add_script_tag(content=script)
    topic = "sensors/oslo/boiler-1/temperature"
    hears(page, said, f"{topic} says 68.50", lambda: publish(topic, "68.50"))
    hears(page, said, "the room has it", lambda: None)
    page.close()
