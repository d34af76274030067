"""Keys of a real identity provider: fetched over HTTP and TLS, rotated while clients come, and lost."""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from bridges.jwks_fetch import MAXIMUM_BYTES, Fetcher, FetchFailed
from tests.certificates import Authority
from tests.integration.conftest import Browser
from tests.integration.test_access import DOORS, granted, http, sse
from tests.provider import Provider, jwk, provider, sign
from tests.real import GatewayProcess, Mosquitto, configuration, free_port, wait_until

Start = Callable[..., GatewayProcess]
ALIKE = {"GET /poll", "POST /publish (NDJSON)", "socket.io publish", "socket.io request", "mqtt publish"}
"""Doors that let in as others do."""
ROTATED = [door for door in DOORS if door not in ALIKE]


@pytest.fixture
def idp() -> Iterator[Provider]:
    with provider() as running:
        running.publish(jwk("ES256", "a"))
        yield running


def guarded(broker: Mosquitto, url: str, **more: Any) -> dict[str, Any]:
    jwt = {"algorithms": ["ES256", "RS256"], "jwks_url": url, **more}
    access = [{"roles": ["operator"], "subscribe": ["#"], "publish": ["#"], "request": ["#"], "presence": ["#"]}]
    rooms = [{"room": "#", "presence": True}]
    limits = {"messages_burst": 10_000, "messages_per_second": 10_000, "connections_per_address": 1000}
    peerjs = {"rooms": ["#"]}
    return configuration(broker.port, identity={"jwt": jwt}, access=access, rooms=rooms, limits=limits, peerjs=peerjs)


def keys_of(gateway: GatewayProcess) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{gateway.url}/readyz").json()["keys"]
    return found


@pytest.mark.parametrize("plain", [False, True], ids=["direct", "plain"])
@pytest.mark.parametrize("door", ROTATED)
def test_a_rotation_is_noticed_at_no_door(
    door: str, plain: bool, idp: Provider, broker: Mosquitto, start_gateway: Start
) -> None:
    gateway = start_gateway(guarded(broker, idp.url, jwks_cooldown_seconds=0.1), plain=plain)
    assert granted(door, DOORS[door](gateway, "open/a", sign(kid="a")))
    idp.publish(jwk("RS256", "b"))

    assert granted(door, DOORS[door](gateway, "open/a", sign("RS256", "b")))
    assert DOORS[door](gateway, "open/a", sign(kid="a")) == "unauthenticated"


async def test_many_clients_come_during_a_rotation_and_all_wait_for_one_fetch(
    idp: Provider, broker: Mosquitto, start_gateway: Start
) -> None:
    gateway = start_gateway(guarded(broker, idp.url, jwks_cooldown_seconds=0.1))
    before = idp.fetches
    idp.publish(jwk("ES256", "a"), jwk("RS256", "b"))
    idp.go_on.clear()

    async def come() -> str:
        async with connect(gateway.ws_url) as connection:
            client = Browser(connection)
            await client.say(type="auth", token=sign("RS256", "b"))
            return str((await client.ask(type="subscribe", room="chat/a"))["type"])

    async def post() -> int:
        headers = {"authorization": f"Bearer {sign('RS256', 'b')}"}
        async with httpx.AsyncClient(timeout=20) as web:
            return (await web.post(f"{gateway.url}/ticket", headers=headers)).status_code

    clients = [asyncio.create_task(come()) for _ in range(20)]
    posts = [asyncio.create_task(post()) for _ in range(20)]
    await asyncio.to_thread(wait_until, lambda: idp.fetches > before, "the provider is asked")
    async with connect(gateway.ws_url) as connection:  # one whose key is known doesn't wait
        assert (await Browser(connection).ask(type="auth", token=sign(kid="a")))["type"] == "ack"
    assert not any(task.done() for task in (*clients, *posts))
    idp.go_on.set()

    assert set(await asyncio.gather(*posts)) == {200}
    assert set(await asyncio.gather(*clients)) == {"subscribed"}
    assert idp.fetches == before + 1


async def test_a_live_connection_is_prolonged_by_a_token_of_a_new_key(
    idp: Provider, broker: Mosquitto, start_gateway: Start
) -> None:
    gateway = start_gateway(guarded(broker, idp.url, jwks_cooldown_seconds=0.1))
    async with connect(gateway.ws_url, additional_headers={"authorization": f"Bearer {sign(kid='a')}"}) as connection:
        client = Browser(connection)
        idp.publish(jwk("RS256", "b"))
        assert (await client.ask(type="auth", token=sign("RS256", "b")))["type"] == "ack"
        assert (await client.ask(type="auth", token=sign("RS256", "c")))["code"] == "unauthenticated"
        assert (await client.ask(type="ping"))["type"] == "pong"


async def test_one_who_leaves_while_waiting_does_no_harm(
    idp: Provider, broker: Mosquitto, start_gateway: Start
) -> None:
    gateway = start_gateway(guarded(broker, idp.url, jwks_cooldown_seconds=0.1))
    before = idp.fetches
    idp.go_on.clear()
    async with connect(gateway.ws_url) as connection:
        await Browser(connection).say(type="auth", token=sign(kid="b"))
        await asyncio.to_thread(wait_until, lambda: idp.fetches > before, "the provider is asked")
    idp.go_on.set()
    await asyncio.to_thread(
        wait_until,
        lambda: 'tidegate_sessions{namespace="default",transport="websocket"} 0.0' in metrics(gateway),
        "gone",
    )
    assert "Traceback" not in gateway.text


def metrics(gateway: GatewayProcess) -> str:
    return httpx.get(f"{gateway.url}/metrics").text


def test_a_flood_of_unknown_keys_reaches_the_provider_once_in_the_cooldown(
    idp: Provider, broker: Mosquitto, start_gateway: Start
) -> None:
    gateway = start_gateway(guarded(broker, idp.url, jwks_cooldown_seconds=300, jwks_refresh_seconds=300))
    before = idp.fetches
    with httpx.Client(timeout=20) as web:
        for number in range(300):
            answer = web.get(
                f"{gateway.url}/last?room=a", headers={"authorization": f"Bearer {sign(kid=f'k{number}')}"}
            )
            assert answer.status_code == 401
    assert idp.fetches == before
    assert 290 < answer.json()["retry_after_seconds"] <= 300
    assert DOORS["GET /last"](gateway, "a", sign(kid="a")) == "ok"


def test_a_gateway_whose_provider_is_away_at_the_start_is_ready_once_it_is_there(
    broker: Mosquitto, start_gateway: Start
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/keys"
    gateway = start_gateway(guarded(broker, url, jwks_cooldown_seconds=0.1), ready=False)
    wait_until(lambda: "Connection refused" in keys_of(gateway).get("problem", ""), "it says why")
    assert (httpx.get(f"{gateway.url}/readyz").status_code, keys_of(gateway)["state"]) == (503, "none")
    assert DOORS["sse"](gateway, "a", sign(kid="a")) == "unauthenticated"
    with provider(port) as idp:
        idp.publish(jwk("ES256", "a"))
        gateway.wait_until_ready()
        assert keys_of(gateway) == {"state": "known"}
        assert DOORS["sse"](gateway, "a", sign(kid="a")) == "ok"
    assert gateway.text.count("can't be reached") == 1


def test_keys_stay_when_the_configuration_is_read_anew(
    idp: Provider, broker: Mosquitto, start_gateway: Start, tmp_path: Path
) -> None:
    gateway = start_gateway(guarded(broker, idp.url))
    path = tmp_path / "gateway-0" / "config.yaml"
    idp.publish(jwk("RS256", "b"))
    path.write_text(path.read_text().replace("jwks_url:", "audience: tidegate\n    jwks_url:"))
    gateway.send_signal(signal.SIGHUP)
    wait_until(lambda: "is in effect" in gateway.text, "the change is taken")

    assert DOORS["GET /last"](gateway, "a", sign(kid="a")) == "unauthenticated"
    assert DOORS["GET /last"](gateway, "a", sign(kid="a", aud="tidegate")) == "ok"


BROKEN: dict[str, Callable[[Provider], None]] = {
    "a fault": lambda idp: setattr(idp, "status", 500),
    "a redirect": lambda idp: vars(idp).update(status=302, headers={"Location": "http://127.0.0.1:1/"}),
    "garbage": lambda idp: setattr(idp, "body", b"<html>not found</html>"),
    "other JSON": lambda idp: setattr(idp, "body", b'{"issuer": "https://login.example"}'),
    "a huge document": lambda idp: setattr(idp, "body", b" " * 50_000_000),
    "a compressed document": lambda idp: idp.headers.update({"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_keys_stay_when_the_provider_breaks(what: str, broker: Mosquitto, idp: Provider, start_gateway: Start) -> None:
    more = {"jwks_cooldown_seconds": 0.1, "jwks_refresh_seconds": 0.2}
    gateway = start_gateway(guarded(broker, idp.url, **more))
    BROKEN[what](idp)
    wait_until(lambda: "problem" in keys_of(gateway), "the problem is told")
    failed = idp.fetches
    wait_until(lambda: idp.fetches > failed + 3, "it is asked again and again")

    assert (keys_of(gateway)["state"], httpx.get(f"{gateway.url}/readyz").status_code) == ("known", 200)
    assert DOORS["GET /last"](gateway, "a", sign(kid="a")) == "ok"
    assert gateway.text.count("that are known stay") == 1
    assert gateway.resident_bytes() < 300_000_000


async def fetch(url: str, **options: Any) -> str:
    """The document, or why there is none."""
    try:
        return (await Fetcher(url, **{"timeout_seconds": 5, **options})()).decode()
    except FetchFailed as failed:
        return f"failed: {failed}"


async def test_the_whole_address_is_asked_and_no_proxy(idp: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await fetch(idp.url) == idp.body.decode()
    assert idp.paths == ["/keys?a=b"]


@pytest.mark.parametrize("status", [201, 204, 301, 302, 303, 304, 307, 308, 401, 404, 500])
async def test_another_status_is_a_failure_and_no_redirect_is_followed(status: int, idp: Provider) -> None:
    with provider() as elsewhere:
        idp.status, idp.headers, idp.body = status, {"Location": elsewhere.url}, b""
        assert (
            await fetch(idp.url)
            == f"failed: expected an answer with status 200, found {status}: no redirect is followed"
        )
        assert (idp.fetches, elsewhere.fetches) == (1, 0)


async def test_a_document_has_a_largest_size(idp: Provider) -> None:
    idp.body = b"x" * MAXIMUM_BYTES
    assert len(await fetch(idp.url)) == MAXIMUM_BYTES
    idp.body += b"x"
    assert "at most 262144 bytes" in await fetch(idp.url)


async def test_what_says_no_length_ends_with_the_connection(idp: Provider) -> None:
    idp.headers = {"Content-Length": ""}
    assert await fetch(idp.url) == idp.body.decode()


@contextmanager
def answering(*parts: bytes, pause_seconds: float = 0) -> Iterator[str]:
    """Somebody who answers these bytes, and then closes."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            for part in parts:
                try:
                    connection.sendall(part)
                except OSError:
                    return
                ended.wait(pause_seconds)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        ended.set()
        thread.join()
        listener.close()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "the answer was broken off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "the answer was broken off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "the answer was broken off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "expected an answer in HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", "expected an answer in HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400_000, "at most 262144 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000, "at most 262144 bytes"),
    ],
    ids=["nothing", "cut", "chunks cut", "no HTTP", "a wrong length", "a long header", "many headers"],
)
async def test_an_answer_that_is_none_is_a_failure(answer: bytes, told: str) -> None:
    with answering(answer) as url:
        assert (await fetch(url)).startswith(f"failed: {'expected a document of ' if 'bytes' in told else ''}{told}")


async def test_a_name_that_no_host_has_is_a_failure() -> None:
    for host in ("x" * 64, "nowhere.invalid", "a..b"):
        assert (await fetch(f"http://{host}/")).startswith("failed: it can't be reached")


async def test_chunks_are_put_together() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n") as url:
        assert await fetch(url) == "{}"


async def test_an_answer_that_trickles_is_given_up_after_a_time_in_all() -> None:
    drops = [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 200]
    started = time.monotonic()
    with answering(*drops, pause_seconds=0.05) as url:
        assert await fetch(url, timeout_seconds=0.3) == "failed: no whole answer came within 0.3 s"
    assert time.monotonic() - started < 10


async def test_who_answers_is_shown_by_its_certificate(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority()
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    ours.write_bytes(authority.root_pem)
    theirs.write_bytes(stranger.root_pem)
    with provider(tls=authority.issue(tmp_path)) as idp:
        assert await fetch(idp.url, ca_file=ours) == idp.body.decode()
        assert (await fetch(idp.url, ca_file=theirs)).startswith("failed: the certificate is not trusted")
        assert (await fetch(idp.url)).startswith("failed: the certificate is not trusted")
        assert (await fetch(idp.url.replace("https", "http"))).startswith("failed: ")
        assert (await fetch(idp.url, ca_file=tmp_path / "none.pem")).endswith("none.pem: No such file or directory")
        (tmp_path / "wrong.pem").write_text("nonsense")
        assert (await fetch(idp.url, ca_file=tmp_path / "wrong.pem")).startswith("failed: expected certificates (PEM)")
        assert idp.fetches == 1
    with provider(tls=authority.issue(tmp_path), host="127.0.0.2") as other:
        assert "mismatch" in await fetch(other.url, ca_file=ours)
        assert other.fetches == 0


def test_keys_come_over_tls_with_an_authority_of_ones_own(
    tmp_path: Path, broker: Mosquitto, start_gateway: Start
) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.root_pem)
    with provider(tls=authority.issue(tmp_path)) as idp:
        idp.publish(jwk("ES256", "a"))
        gateway = start_gateway(guarded(broker, idp.url, jwks_ca_file=str(tmp_path / "ca.pem")))
        assert http("GET", "/last")(gateway, "a", sign(kid="a")) == sse(gateway, "a", sign(kid="a")) == "ok"


def test_the_gateway_ends_at_once_though_the_provider_is_silent(
    idp: Provider, broker: Mosquitto, start_gateway: Start
) -> None:
    idp.go_on.clear()
    gateway = start_gateway(guarded(broker, idp.url), ready=False)
    wait_until(lambda: idp.fetches, "the provider is asked")
    assert gateway.stop() == 0
