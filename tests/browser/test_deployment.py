"""Pages served by docker/'s nginx over TLS, in Chromium: the dashboard, and peers that find one another."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_dashboard import DEVICE, TILE
from tests.browser.test_peerjs import HELPER, PEERJS, call, heard
from tests.deployment import Deployment, deployment

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(tmp_path_factory.mktemp("docker"), peerjs={"rooms": ["calls/+"]}) as running:
        yield running


def test_the_dashboard_shows_what_devices_say_and_its_switch_reaches_them(
    deployed: Deployment, open_page: OpenPage
) -> None:
    deployed.start_devices()
    page = open_page(deployed.url, ignore_https_errors=True)
    expect(page.locator("[data-testid=connection]")).to_have_text("live")
    expect(page.locator(TILE)).to_have_count(12)
    switch = page.locator(f"{DEVICE} [data-testid=switch]")
    switch.click()
    expect(switch).to_have_text("off")


def test_peers_of_many_rooms_find_one_another(deployed: Deployment, open_page: OpenPage) -> None:
    pages = [open_page(f"{deployed.url}/healthz", bypass_csp=True, ignore_https_errors=True) for _ in "12"]
    for page in pages:
        for script in (PEERJS, HELPER):
            page.add_script_tag(path=script)
    for room in ("calls/oslo", "calls/bergen", "calls/tromso"):
        options = {"host": "localhost", "port": deployed.ports["https"], "path": "/peerjs", "key": room}
        for page, name in zip(pages, ("ann", "bob"), strict=True):
            page.evaluate("peers.heard.length = 0")
            page.evaluate(
                "([id, options]) => peers.open(id, options)", [name, {**options, "config": {"iceServers": []}}]
            )
            heard(page, "open ")
        call(pages[0], "bob", room)
        assert heard(pages[0], "bob") == f"bob {room}, too"
        for page in pages:
            page.evaluate("peers.peer.destroy()")
