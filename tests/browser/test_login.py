"""The dashboard of a gateway with users, in Debian's Chromium; and what other sites' pages can do to its visitors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ARTEFACTS, wait_for
from tests.browser.test_cross_site import elsewhere  # noqa: F401 - a fixture
from tests.certificates import Authority
from tests.real import GatewayProcess, wait_until
from tests.unit.test_passwords import CHEAP

PASSWORD = "correct horse"
STATE = "[data-testid=connection]"
FORM = "[data-testid=login]"
Start = Callable[..., GatewayProcess]


@pytest.fixture
def start(tmp_path: Path, demo_config: dict[str, Any]) -> Iterator[Start]:
    """Starts gateways with users."""
    started: list[GatewayProcess] = []
    users = tmp_path / "users.yaml"
    names = ("ann", "bob")
    users.write_text(yaml.safe_dump({name: {"password_hash": CHEAP.hash(PASSWORD), "roles": ["a"]} for name in names}))

    def run(*arguments: str, identity: dict[str, Any] | None = None, **more: Any) -> GatewayProcess:
        options = {key: more.pop(key) for key in ("trust", "port") if key in more}
        config = {
            **demo_config,
            "rooms": [{"room": "chat/#"}],
            "identity": {"users_file": str(users), **(identity or {})},
            "access": [{"roles": ["*"], "subscribe": ["#"]}, {"roles": ["a"], "publish": ["#"]}],
            **more,
        }
        started.append(GatewayProcess(tmp_path / f"gateway-{len(started)}", config, *arguments, **options))
        started[-1].wait_until_ready()
        return started[-1]

    yield run
    for running in started:
        running.stop()


def log_in(page: Page, user: str = "ann", password: str = PASSWORD) -> None:
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_label("Password").press("Enter")


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_who_logs_in_sees_and_switches_and_who_logs_out_sees_nothing(
    start: Start, open_page: Callable[..., Page], transport: str
) -> None:
    gateway = start("--demo")
    page = open_page(f"{gateway.url}/?transport={transport}")
    expect(page.locator(STATE)).to_have_text("not logged in")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    expect(page.locator("main")).to_be_hidden()
    expect(page.get_by_label("User name")).to_be_focused()

    log_in(page, password="wrong")
    expect(page.get_by_role("alert")).to_have_text("The user name or the password is wrong.")
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.get_by_label("Password")).to_have_value("")
    log_in(page)
    expect(page.locator(STATE)).to_have_text("live")
    expect(page.locator("[data-testid=user]")).to_have_text("ann")
    expect(page.locator(FORM)).to_be_hidden()
    expect(page.locator("[data-testid=tile]")).to_have_count(12)
    switch = page.locator("[data-device=fan-4] [data-testid=switch]")
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")

    page.reload()
    expect(page.locator(STATE)).to_have_text("live")
    page.get_by_role("button", name="Log out").click()
    expect(page.locator(STATE)).to_have_text("not logged in")
    expect(page.locator("[data-testid=tile]")).to_have_count(0)
    assert page.context.cookies() == []


def test_too_many_tries_have_to_wait_and_the_button_says_how_long(start: Start, open_page: Callable[..., Page]) -> None:
    gateway = start(limits={"failed_logins": 1, "failed_login_delay_seconds": 2})
    page = open_page(gateway.url)
    log_in(page, password="wrong")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    log_in(page)
    expect(page.get_by_role("alert")).to_have_text("Too many tries: wait 2 s.")
    button = page.locator(f"{FORM} [type=submit]")
    expect(button).to_have_text("Wait 1 s")
    expect(button).to_be_disabled()
    expect(button).to_have_text("Log in")
    log_in(page)
    expect(page.locator(STATE)).to_have_text("live")


def test_a_form_that_lacks_something_says_so(start: Start, open_page: Callable[..., Page]) -> None:
    page = open_page(start().url)
    log_in(page, user="", password="")
    expect(page.get_by_role("alert")).to_have_text("Enter your user name and your password.")


def test_who_is_let_in_anyway_may_log_in_too(start: Start, open_page: Callable[..., Page]) -> None:
    gateway = start(identity={"anonymous": {"roles": ["guest"]}})
    page = open_page(gateway.url)
    expect(page.locator(STATE)).to_have_text("live")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Not now").click()
    expect(page.locator(FORM)).to_be_hidden()
    page.locator("[data-testid=open]").click()
    log_in(page)
    expect(page.locator("[data-testid=user]")).to_have_text("ann")
    expect(page.locator("[data-testid=open]")).to_be_hidden()


def test_a_wrong_cookie_is_dropped_by_the_browser(start: Start, open_page: Callable[..., Page]) -> None:
    gateway = start(identity={"anonymous": {"roles": ["guest"]}})
    page = open_page(f"{gateway.url}/healthz")
    page.context.add_cookies([{"name": "tidegate_session", "value": "stale", "url": gateway.url}])
    page.goto(gateway.url)  # is refused once, and so asks to log in
    expect(page.locator(STATE)).to_have_text("not logged in")
    assert page.context.cookies() == []
    page.reload()
    expect(page.locator(STATE)).to_have_text("live")


@pytest.mark.parametrize(
    "door",
    ["new WebSocket('ws://' + location.host + '/ws')", "new EventSource('/sse?room=a')", "fetch('/last?room=a')"],
)
def test_a_wrong_cookie_is_dropped_whichever_door_refuses_it(
    start: Start, open_page: Callable[..., Page], door: str
) -> None:
    gateway = start(identity={"anonymous": {"roles": ["guest"]}})
    page = open_page(f"{gateway.url}/healthz")
    page.context.add_cookies([{"name": "tidegate_session", "value": "stale", "url": gateway.url}])
    page.evaluate(f"() => {{ window.door = {door}; }}")
    wait_until(lambda: page.context.cookies() == [], "the cookie is dropped")


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_a_page_stays_logged_in_while_it_is_open_and_says_when_that_is_over(
    start: Start, open_page: Callable[..., Page], transport: str
) -> None:
    gateway = start(identity={"session_seconds": 3, "session_max_seconds": 6})
    page = open_page(f"{gateway.url}/?transport={transport}")
    log_in(page)
    expect(page.locator(STATE)).to_have_text("live")
    (first,) = page.context.cookies()
    wait_until(lambda: page.context.cookies()[0]["value"] != first["value"], "the cookie is renewed")
    expect(page.locator(STATE)).to_have_text("live")
    expect(page.locator(STATE)).to_have_text("not logged in", timeout=20_000)
    expect(page.locator(".why")).to_have_text("Your login has ended.")
    expect(page.get_by_label("User name")).to_have_value("ann")
    log_in(page)
    expect(page.locator(STATE)).to_have_text("live")


def test_a_gateway_that_starts_anew_without_a_secret_asks_again(start: Start, open_page: Callable[..., Page]) -> None:
    first = start()
    page = open_page(first.url)
    log_in(page)
    expect(page.locator(STATE)).to_have_text("live")
    first.stop()
    expect(page.locator(STATE)).to_have_text("reconnecting…")
    start(port=first.port)
    expect(page.locator(STATE)).to_have_text("not logged in")
    log_in(page)
    expect(page.locator(STATE)).to_have_text("live")


def test_the_cookie_is_out_of_reach_for_scripts_and_bound_to_the_host_over_tls(
    start: Start, chromium: Browser, tmp_path: Path
) -> None:
    authority = Authority()
    gateway = start(listen=authority.listen(tmp_path), trust=authority.trust)
    page = chromium.new_page(ignore_https_errors=True)
    page.goto(gateway.url)
    log_in(page)
    expect(page.locator(STATE)).to_have_text("live")
    (cookie,) = page.context.cookies()
    assert cookie["name"] == "__Host-tidegate_session"
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
    assert page.evaluate("document.cookie") == ""
    page.close()


def test_pages_from_elsewhere_can_not_use_a_login_nor_make_one(
    start: Start,
    chromium: Browser,
    elsewhere: str,  # noqa: F811
) -> None:
    gateway = start()
    page = chromium.new_page()
    page.goto(gateway.url)
    log_in(page)
    expect(page.locator(STATE)).to_have_text("live")
    cookies = page.context.cookies()
    page.goto(elsewhere)  # the same host, another port: the same site, so the browser does send the cookie
    post = """([action, fields]) => new Promise((resolve) => {
      const frame = document.body.appendChild(Object.assign(document.createElement("iframe"), {name: "f"}));
      const form = document.body.appendChild(Object.assign(document.createElement("form"), {method: "post", action}));
      form.target = "f";
      for (const [name, value] of Object.entries(fields))
        form.append(Object.assign(document.createElement("input"), {name, value}));
      frame.onload = () => { form.remove(); frame.remove(); resolve(); };
      form.submit();
    })"""
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status))
    for path, fields in (
        ("/publish?room=chat/form", {"a": "1"}),
        ("/logout", {}),
        ("/login", {"user": "bob", "password": PASSWORD}),
    ):
        page.evaluate(post, [f"{gateway.url}{path}", fields])
    asked = page.evaluate(
        """async (url) => {
          const socket = new WebSocket(url.replace("http", "ws") + "/ws", "tidegate.v1.json");
          const how = {credentials: "include"};
          return [
            await new Promise((resolve) => {
              socket.onmessage = () => resolve("open"); socket.onerror = () => resolve("refused");
            }),
            await fetch(url + "/session", how).then((answer) => answer.text(), () => "refused"),
            await fetch(url + "/publish?room=chat/fetch", {...how, method: "POST", mode: "no-cors", body: "1"})
              .then((answer) => answer.status, () => "refused"),
          ];
        }""",
        gateway.url,
    )
    assert asked == ["refused", "refused", 0]
    assert answers.count(403) >= 4
    assert 200 not in answers
    assert page.context.cookies() == cookies
    page.goto(gateway.url)
    expect(page.locator("[data-testid=user]")).to_have_text("ann")
    assert page.evaluate("fetch('last?room=chat/%23').then((answer) => answer.json())")["last"] == []
    assert (
        page.evaluate("fetch('publish?room=chat/a', {method: 'POST', body: '1'}).then((answer) => answer.status)")
        == 403
    )
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "width", "height"), [("desktop", 1280, 800), ("phone", 390, 844)])
def test_the_form_and_the_bar_fit_every_screen(
    start: Start, open_page: Callable[..., Page], name: str, width: int, height: int, scheme: str
) -> None:
    gateway = start("--demo", limits={"failed_logins": 1, "failed_login_delay_seconds": 90})
    page = open_page(gateway.url, width, height, color_scheme=scheme, device_scale_factor=2 if width < 500 else 1)
    expect(page.locator(FORM)).to_be_visible()
    fits = "document.documentElement.scrollWidth"
    assert page.evaluate(fits) <= width
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"login-{name}-{scheme}.png")
    log_in(page, password="wrong")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    log_in(page)
    expect(page.get_by_role("alert")).to_contain_text("wait")
    assert page.evaluate(fits) <= width
    for control in page.locator(f"{FORM} :is(input, button:not([hidden]))").all():
        box = control.bounding_box()
        assert box is not None
        assert box["height"] >= 44
    page.screenshot(path=ARTEFACTS / f"login-wait-{name}-{scheme}.png")
    page.reload()
    log_in(page, "bob")
    expect(page.locator("[data-testid=tile]")).to_have_count(12)
    wait_for(page, "Number(document.querySelector('[data-testid=rate]').textContent) > 0")
    assert page.evaluate(fits) <= width
    page.screenshot(path=ARTEFACTS / f"logged-in-{name}-{scheme}.png")


def test_another_user_sees_nothing_of_the_one_before(start: Start, open_page: Callable[..., Page]) -> None:
    gateway = start("--demo", identity={"session_seconds": 2, "session_max_seconds": 2})
    page = open_page(gateway.url)
    log_in(page)
    expect(page.locator("[data-testid=tile]")).to_have_count(12)
    page.evaluate("window.before = true")
    expect(page.locator(".why")).to_have_text("Your login has ended.")
    expect(page.locator("main")).to_be_hidden()
    log_in(page, "bob")
    expect(page.locator("[data-testid=user]")).to_have_text("bob")
    wait_until(lambda: page.evaluate("window.before") is None, "the page is loaded anew")
