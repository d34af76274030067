"""socket.io-client as a page loads it, in Debian's Chromium: polling with the upgrade to WebSocket, and each alone."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import wait_for
from tests.javascript import CLIENTS
from tests.real import GatewayProcess

BUNDLE = CLIENTS / "node_modules" / "socket.io-client" / "dist" / "socket.io.min.js"

CONNECT = """async (transports) => {
  window.heard = [];
  window.socket = io({ ...(transports && { transports }) });
  socket.on("message", (message) => heard.push(message));
  socket.on("drawn", (line, colour) => heard.push([line, colour]));
  await new Promise((resolve, reject) => { socket.once("connect", resolve); socket.once("connect_error", reject); });
  return socket.emitWithAck("subscribe", "chat/page");
}"""


@pytest.mark.parametrize("transports", [None, ["websocket"], ["polling"]])
def test_a_page_hears_and_speaks(
    broker_only: GatewayProcess, open_page: Callable[..., Page], transports: list[str] | None
) -> None:
    page = open_page(broker_only.url, bypass_csp=True)
    page.add_script_tag(path=BUNDLE)
    assert page.evaluate(CONNECT, transports)["type"] == "subscribed"
    if transports is None:
        wait_for(page, "() => socket.io.engine.transport.name === 'websocket'")
    page.evaluate("() => socket.emitWithAck('publish', 'chat/page', new Uint8Array([1, 255]))")
    page.evaluate("() => socket.emit('emit', 'chat/page', 'drawn', [[0, 1], 'red'])")
    wait_for(page, "() => heard.length === 2")
    assert page.evaluate("() => [...new Uint8Array(heard[0].data)]") == [1, 255]
    assert page.evaluate("() => heard[1]") == [[0, 1], "red"]


def test_the_documents_snippet_works(broker_only: GatewayProcess, open_page: Callable[..., Page]) -> None:
    document = (Path(__file__).parents[2] / "docs" / "socketio.md").read_text()
    (snippet,) = re.findall(r"^```js\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    page = open_page(broker_only.url, bypass_csp=True)
    page.add_script_tag(path=BUNDLE)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.add_script_tag(content=snippet)
    for _ in range(100):
        if len(said) == 2:
            break
        page.wait_for_timeout(50)
    assert said == ["chat/hall hello", "drawn in red"]
