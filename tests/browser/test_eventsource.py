"""Chromium's own EventSource: by the login's cookie, and by tickets, and what each does when the stream is cut."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Page

from gateway.core.authentication import hash_token
from tests.browser.conftest import wait_for
from tests.http_proxy import Cutter, cutter
from tests.real import GatewayProcess
from tests.unit.test_passwords import CHEAP

TOKEN = "tg_" + "a" * 64
OPEN = """address => {
  window.heard = [];
  window.kinds = [];
  window.source = new EventSource(address);
  source.onmessage = event => heard.push([JSON.parse(event.data).data, event.lastEventId]);
  for (const kind of ["welcome", "subscribed"]) source.addEventListener(kind, event => kinds.push(kind));
}"""


@pytest.fixture
def served(tmp_path: Path, demo_config: dict[str, Any]) -> Iterator[GatewayProcess]:
    users = tmp_path / "users.yaml"
    users.write_text(yaml.safe_dump({"ann": {"password_hash": CHEAP.hash("correct horse"), "roles": ["a"]}}))
    tokens = [{"name": "ci", "sha256": hash_token(TOKEN), "roles": ["a"]}]
    config = {
        **demo_config,
        "rooms": [{"room": "chat/#", "history": {"messages": 100}}],
        "identity": {"users_file": str(users), "tokens": tokens},
        "access": [{"roles": ["a"], "subscribe": ["#"], "publish": ["#"]}],
    }
    with GatewayProcess(tmp_path / "gateway", config) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def between(served: GatewayProcess) -> Iterator[Cutter]:
    with cutter(served.port) as running:
        yield running


def say(gateway: GatewayProcess, *values: int) -> None:
    for value in values:
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(f"{gateway.url}/publish?room=chat/x", json=value, headers=headers)
        assert answer.status_code == 200


def heard(page: Page, values: list[int]) -> None:
    wait_for(page, "count => heard.length >= count", len(values))
    assert [value for value, _ in page.evaluate("heard")] == values


def test_by_its_cookie_it_goes_on_where_it_was_cut(
    served: GatewayProcess, between: Cutter, open_page: Callable[..., Page]
) -> None:
    page = open_page(f"http://localhost:{between.port}/")
    page.evaluate(
        """() => fetch("/login", {method: "POST", headers: {"content-type": "application/json"},
                                  body: '{"user": "ann", "password": "correct horse"}'})"""
    )
    page.evaluate(OPEN, "/sse?room=chat/x")
    wait_for(page, "kinds.length == 2")
    assert page.evaluate("kinds") == ["welcome", "subscribed"]
    say(served, 1, 2)
    heard(page, [1, 2])
    between.cut()
    say(served, 3, 4)
    heard(page, [1, 2, 3, 4])


def test_a_ticket_lets_in_once_and_a_newer_one_goes_on_by_the_cursor(
    served: GatewayProcess, between: Cutter, open_page: Callable[..., Page]
) -> None:
    page = open_page(f"http://localhost:{between.port}/")
    ticket = """token => fetch("/ticket", {method: "POST", headers: {authorization: `Bearer ${token}`}})
                          .then(response => response.json()).then(({ticket}) => ticket)"""
    page.evaluate(OPEN, "/sse?room=chat/x&ticket=" + page.evaluate(ticket, TOKEN))
    wait_for(page, "kinds.includes('subscribed')")
    say(served, 1)
    heard(page, [1])
    since = page.evaluate("heard[0][1]")
    between.cut()
    say(served, 2, 3)
    wait_for(page, "source.readyState == EventSource.CLOSED")
    page.evaluate(OPEN, f"/sse?room=chat/x&since={since}&ticket=" + page.evaluate(ticket, TOKEN))
    heard(page, [2, 3])
