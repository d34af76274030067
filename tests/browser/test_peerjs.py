"""The client of `peerjs` from npm, unchanged, in Chromium: pages meet through the gateway, and talk directly."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Page

from gateway.core.authentication import hash_token
from tests.browser.conftest import wait_for
from tests.javascript import CLIENTS
from tests.real import GatewayProcess, free_port

PEERJS = CLIENTS / "node_modules" / "peerjs" / "dist" / "peerjs.min.js"
HELPER = CLIENTS / "peerjs_page.js"
DOCUMENT = (Path(__file__).parents[2] / "docs" / "peerjs.md").read_text()
API_TOKEN = "tg_" + "a" * 64
CONFIG: dict[str, Any] = {
    "identity": {
        "anonymous": {"roles": ["guest"]},
        "tokens": [{"name": "ci", "sha256": hash_token(API_TOKEN), "roles": ["guest"]}],
    },
    "access": [{"roles": ["guest"], "subscribe": ["peerjs", "quiet"], "publish": ["peerjs"], "presence": ["peerjs"]}],
    "rooms": [{"room": "peerjs", "presence": True}],
    "peerjs": {"rooms": ["peerjs", "quiet"], "expire_seconds": 3},
}
OpenPage = Callable[..., Page]


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    config = {"broker": {"port": free_port()}, **CONFIG}
    with GatewayProcess(tmp_path_factory.mktemp("peerjs") / "gateway", config) as running:
        yield running


@pytest.fixture
def peer(gateway: GatewayProcess, open_page: OpenPage) -> Callable[..., Page]:
    """Opens pages, each in a context of its own, with a peer in it."""

    def start(identifier: str | None, *, wait: bool = True, **options: Any) -> Page:
        page = loaded(open_page, gateway)
        given = {"host": "127.0.0.1", "port": gateway.port, "path": "/peerjs", "config": {"iceServers": []}, **options}
        page.evaluate("([id, options]) => peers.open(id, options)", [identifier, given])
        if wait:
            heard(page, "open ")
        return page

    return start


def loaded(open_page: OpenPage, gateway: GatewayProcess) -> Page:
    page = open_page(f"{gateway.url}/healthz", bypass_csp=True)
    for script in (PEERJS, HELPER):
        page.add_script_tag(path=script)
    return page


def heard(page: Page, beginning: str) -> str:
    """The first that a page has noted, or notes yet, which begins so."""
    found = "(beginning) => peers.heard.find((each) => each.startsWith(beginning)) ?? null"
    wait_for(page, found, beginning)
    return str(page.evaluate(found, beginning))


def call(page: Page, identifier: str, text: str) -> None:
    page.evaluate("([id, text]) => peers.call(id, text)", [identifier, text])


def test_two_pages_open_a_data_channel_and_talk_both_ways(gateway: GatewayProcess, peer: Callable[..., Page]) -> None:
    ann, bob = peer("ann"), peer(None)
    given = heard(bob, "open ").removeprefix("open ")

    call(ann, given, "hello")

    assert heard(ann, given) == f"{given} hello, too"
    assert heard(bob, "ann") == "ann hello"
    members = httpx.get(f"{gateway.url}/presence?room=peerjs").json()["members"]
    assert members == [{"member": "ann"}, {"member": given}]
    assert ann.evaluate("new Promise((resolve) => peers.peer.listAllPeers(resolve))") == ["ann", given]


def test_a_page_that_comes_a_moment_later_is_still_called(peer: Callable[..., Page]) -> None:
    ann = peer("ann-1")
    call(ann, "bob-1", "early")

    peer("bob-1")

    assert heard(ann, "bob-1") == "bob-1 early, too"


def test_a_peer_that_reconnects_is_called_by_its_id(peer: Callable[..., Page]) -> None:
    ann, bob = peer("ann-2"), peer("bob-2")
    bob.evaluate("peers.peer.disconnect()")
    bob.evaluate("peers.heard.length = 0, peers.peer.reconnect()")
    assert heard(bob, "open ") == "open bob-2"

    call(ann, "bob-2", "again")

    assert heard(ann, "bob-2") == "bob-2 again, too"


def test_the_client_says_in_its_own_terms_what_is_wrong(peer: Callable[..., Page]) -> None:
    ann, bob = peer("ann-3", key="quiet"), peer("bob-3", key="quiet")
    call(ann, "bob-3", "not allowed")
    assert heard(ann, "error ") == "error peer-unavailable: Could not connect to peer bob-3"
    assert ann.evaluate("peers.peer.open")
    assert bob.evaluate("peers.heard") == ["open bob-3"]

    taken = peer("bob-3", key="quiet", wait=False)
    assert heard(taken, "error ") == 'error unavailable-id: ID "bob-3" is taken'

    elsewhere = peer("ann-3", key="other", wait=False)
    assert heard(elsewhere, "error ") == 'error invalid-key: API KEY "other" is invalid'

    refused = peer("ann-4", token="tg_wrong", wait=False)
    assert heard(refused, "error ").startswith("error server-error: the token is refused")


def test_the_documents_snippets_work(tmp_path: Path, open_page: OpenPage) -> None:
    begin, connect, identified = snippets("js")
    config = yaml.safe_load(snippets("yaml")[0])
    ann = {"name": "ann", "sha256": hash_token(API_TOKEN), "roles": ["crew"]}
    config["identity"] = {"tokens": [ann], "anonymous": {"roles": ["guest"]}}
    config["access"].append({"roles": ["guest"], "subscribe": ["peerjs"], "publish": ["peerjs"]})
    config["peerjs"].update(rooms=["calls/+", "peerjs"], ids="any")
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "turn.key").write_text("north")
    with GatewayProcess(tmp_path / "gateway", {"broker": {"port": free_port()}, **config}) as gateway:
        pages = [loaded(open_page, gateway) for _ in range(3)]
        said: list[str] = []
        for page in pages:
            page.on("console", lambda message: said.append(message.text))

        def run(page: Page, script: str, expected: str) -> str:
            page.evaluate("text => (Object.assign(self.document.body.appendChild(document.createElement('script')),"
                          " {type: 'module', textContent: text}), true)", script)  # fmt: skip
            for _ in range(200):
                found = [each for each in said if each.startswith(expected)]
                if found:
                    return found[0]
                page.wait_for_timeout(50)
            raise AssertionError(said)

        begin = begin.replace("config });", "config: { iceServers: [] } });")  # the documented servers aren't there
        other = run(pages[0], begin, "I am ").removeprefix("I am ")
        assert run(pages[1], begin + connect.replace("ID-OF-THE-OTHER", other), "you said") == "you said hello"
        script = f'const token = "{API_TOKEN}";{identified}peer.on("open", (id) => console.log("known as", id));'
        assert run(pages[2], script, "known as") == "known as ann-phone"
