"""Pages of another origin in real Chromium: what they try with a visitor's browser, and what comes of it."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.certificates import Authority
from tests.real import GatewayProcess

ATTEMPTS = """async (gateway) => {
  const asked = (path, options) => fetch(gateway + path, options).then((answer) => answer.status, () => "refused");
  const text = {method: "POST", body: "1", headers: {"content-type": "text/plain"}};
  const json = {method: "POST", body: "1", headers: {"content-type": "application/json", "idempotency-key": "a"}};
  return {
    websocket: await new Promise((resolve) => {
      const socket = new WebSocket(gateway.replace("http", "ws") + "/ws", "tidegate.v1.json");
      socket.onmessage = (event) => { resolve(JSON.parse(event.data).type); socket.close(); };
      socket.onerror = () => resolve("refused");
    }),
    sse: await new Promise((resolve) => {
      const source = new EventSource(gateway + "/sse?room=a");
      source.onopen = () => { resolve("open"); source.close(); };
      source.onerror = () => { resolve("refused"); source.close(); };
    }),
    text: await asked("/publish?room=chat/text", text),
    blind: await asked("/publish?room=chat/blind", {...text, mode: "no-cors"}),
    json: await asked("/publish?room=chat/json", json),
    last: await asked("/last?room=a"),
    client: await import(gateway + "/tidegate.js").then(() => "loaded", () => "refused"),
  };
}"""
ROOMS = ("chat/text", "chat/blind", "chat/json")


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Another origin: the same host, another port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    started: list[GatewayProcess] = []

    def run(config: dict[str, Any], **options: Any) -> GatewayProcess:
        running = GatewayProcess(
            tmp_path / "gateway", {"broker": {"port": 0}, "rooms": [{"room": "chat/#"}], **config}, **options
        )
        started.append(running)
        running.wait_until_ready()
        return running

    yield run
    for running in started:
        running.stop()


def published(gateway: GatewayProcess) -> list[str]:
    return [room for room in ROOMS if gateway.get(f"/last?room={room}").json()["last"]]


def test_a_page_from_elsewhere_gets_nothing_and_changes_nothing(
    start: Callable[..., GatewayProcess], chromium: Browser, elsewhere: str
) -> None:
    gateway = start({})
    page = chromium.new_page()
    page.goto(elsewhere)
    outcome = page.evaluate(ATTEMPTS, gateway.url)
    assert outcome.pop("blind") == 0  # an answer that the page can't see
    assert set(outcome.values()) == {"refused"}, outcome
    assert published(gateway) == []
    page.goto(gateway.url)  # all that was tried works for the gateway's own pages
    own = page.evaluate(ATTEMPTS, gateway.url)
    assert (own["websocket"], own["sse"], own["text"], own["json"]) == ("welcome", "open", 200, 200)
    assert published(gateway) == list(ROOMS)
    page.close()


def test_a_page_of_a_listed_origin_may_do_it_all(
    start: Callable[..., GatewayProcess], chromium: Browser, elsewhere: str
) -> None:
    gateway = start({"origins": [elsewhere]})
    page = chromium.new_page()
    page.goto(elsewhere)
    assert page.evaluate(ATTEMPTS, gateway.url) == {
        "websocket": "welcome", "sse": "open", "text": 200, "blind": 0, "json": 200, "last": 200, "client": "loaded",
    }  # fmt: skip
    assert published(gateway) == list(ROOMS)
    page.close()


@pytest.mark.parametrize("listed", [False, True])
def test_no_page_has_the_dashboard_in_a_frame(
    start: Callable[..., GatewayProcess], chromium: Browser, elsewhere: str, listed: bool
) -> None:
    gateway = start({"origins": [elsewhere] if listed else []})
    page = chromium.new_page()
    page.goto(elsewhere)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.evaluate(
        "url => document.body.append(Object.assign(document.createElement('iframe'), {src: url}))", gateway.url
    )
    for _ in range(200):
        if said:
            break
        page.wait_for_timeout(50)
    assert "frame-ancestors 'none'" in said[0]
    assert page.frames[1].locator("[data-testid=connection]").count() == 0
    page.close()


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_the_dashboard_works_over_tls(
    tmp_path: Path, start: Callable[..., GatewayProcess], chromium: Browser, transport: str
) -> None:
    authority = Authority()
    gateway = start({"listen": authority.listen(tmp_path)}, trust=authority.trust)
    page = chromium.new_page(ignore_https_errors=True)
    page.goto(f"{gateway.url}/?transport={transport}")
    expect(page.locator("[data-testid=connection]")).to_have_text("live")
    page.close()


def test_a_script_that_gets_into_a_page_is_not_run(start: Callable[..., GatewayProcess], chromium: Browser) -> None:
    gateway = start({})
    page = chromium.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(gateway.url)
    page.evaluate(
        "() => { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">');"
        " const script = document.createElement('script'); script.textContent = 'document.title = 2';"
        " document.body.append(script); document.body.append(Object.assign(document.createElement('script'),"
        " {src: 'http://127.0.0.2/x.js'})); }"
    )
    for _ in range(200):
        if len([text for text in refused if "Content Security Policy" in text]) >= 3:
            break
        page.wait_for_timeout(50)
    assert len([text for text in refused if "Content Security Policy" in text]) >= 3
    assert page.title() == "Tidegate · live"
    page.close()
