"""DNS rebinding in real Chromium: a name of somebody else's that leads to the gateway."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import ARGUMENTS
from tests.real import GatewayProcess

NAME = "evil.example"
ASK = """async () => {
  const asked = (path, options) => fetch(path, options).then((answer) => answer.status);
  return {
    last: await asked("/last?room=a"),
    metrics: await asked("/metrics"),
    publish: await asked("/publish?room=chat/x", {method: "POST", body: "1"}),
    client: await import("/tidegate.js").then(() => "loaded", () => "refused"),
    websocket: await new Promise((resolve) => {
      const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
      socket.onmessage = () => { resolve("open"); socket.close(); };
      socket.onerror = () => resolve("refused");
    }),
    sse: await new Promise((resolve) => {
      const source = new EventSource("/sse?room=a");
      source.onopen = () => { resolve("open"); source.close(); };
      source.onerror = () => { resolve("refused"); source.close(); };
    }),
  };
}"""


@pytest.fixture
def rebound(chromium: Browser) -> Iterator[Page]:
    """A page in a browser whose resolver was told that a name leads to this machine."""
    rules = f"--host-resolver-rules=MAP {NAME} 127.0.0.1"
    browser = chromium.browser_type.launch(executable_path="/usr/bin/chromium", args=[*ARGUMENTS, rules])
    yield browser.new_page()
    browser.close()


@pytest.mark.parametrize("hosts", [[], [NAME]], ids=["a name of nobody's", "a name of the gateway's"])
def test_a_page_reaches_the_gateway_only_by_a_name_of_the_gateways(
    tmp_path: Path, rebound: Page, hosts: list[str]
) -> None:
    config = {"broker": {"port": 0}, "rooms": [{"room": "chat/#"}], "hosts": hosts}
    with GatewayProcess(tmp_path / "gateway", config) as gateway:
        gateway.wait_until_ready()
        rebound.goto(f"http://{NAME}:{gateway.port}/healthz")  # a page of that origin: it may ask whatever it wants
        got = rebound.evaluate(ASK)
        statuses = dict.fromkeys(("last", "metrics", "publish"), 421)
        refused = {**statuses, "client": "refused", "websocket": "refused", "sse": "refused"}
        taken = {"last": 200, "metrics": 200, "publish": 200, "client": "loaded", "websocket": "open", "sse": "open"}
        assert got == (taken if hosts else refused)
        assert bool(gateway.get("/last?room=chat/x").json()["last"]) == bool(hosts)
