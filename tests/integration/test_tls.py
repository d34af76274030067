"""The gateway's own TLS: `https`, `wss` and streams, with a real chain of certificates, and their renewal."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import orjson
import pytest

from tests.certificates import Authority, replace
from tests.integration.conftest import Device, browser
from tests.integration.test_websocket import metric, raw_client, raw_stream, sessions
from tests.real import GatewayProcess, Mosquitto, configuration, wait_until

Start = Callable[..., GatewayProcess]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def gateway(tmp_path: Path, broker: Mosquitto, authority: Authority, start_gateway: Start) -> GatewayProcess:
    listen = authority.listen(tmp_path)
    limits = {"handshake_seconds": 1}
    return start_gateway(configuration(broker.port, listen=listen, limits=limits), trust=authority.trust)


async def test_websocket_works_over_tls(gateway: GatewayProcess) -> None:
    assert f"dashboard  https://localhost:{gateway.port}" in gateway.text
    async with browser(gateway, origin=gateway.url) as client:
        await client.ask(type="subscribe", room="shared/x")
        await client.ask(type="publish", room="shared/x", data="ä" * 20_000)
        assert (await client.messages(1))[0]["data"] == "ä" * 20_000


def test_streams_and_requests_work_over_tls(gateway: GatewayProcess) -> None:
    with (
        httpx.Client(base_url=gateway.url, verify=gateway.trust) as http,
        http.stream("GET", "/sse?room=shared/x") as stream,
    ):
        lines = (line for line in stream.iter_lines() if line.startswith("data:"))
        assert any('"subscribed"' in line for line in lines)
        assert http.post("/publish?room=shared/x", json=1, headers={"Origin": gateway.url}).status_code == 200
        assert any('"data":1' in line for line in lines)


def test_browsers_are_told_to_come_over_tls_only(gateway: GatewayProcess) -> None:
    for path in ("/", "/tidegate.js", "/readyz", "/last?room=x", "/ws", "/nowhere"):
        assert gateway.get(path).headers["strict-transport-security"] == "max-age=31536000"
    with closing(gateway.connect()) as client:
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: x\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b"strict-transport-security: max-age" in client.recv(4096)


@pytest.mark.parametrize("connect", [raw_client, raw_stream], ids=["websocket", "sse"])
async def test_a_client_that_stalls_over_tls_costs_no_queue_and_is_told_all(
    gateway: GatewayProcess, device: Device, connect: Callable[..., socket.socket]
) -> None:
    count, pad = 1500, "x" * 2000
    stalled = connect(gateway, "kept/x", receive_buffer_bytes=4096)
    heard = b""
    while b'"subscribed"' not in heard:
        heard += await asyncio.to_thread(stalled.recv, 4096)
    for number in range(count):
        device.publish("kept/x", orjson.dumps({"n": number, "pad": pad}), qos=1)

    def all_there() -> bool:
        last = gateway.get("/last?room=kept/x").json()["last"]
        return bool(last) and last[0]["data"]["n"] == count - 1

    await asyncio.to_thread(wait_until, all_there, "all is there")
    assert metric(gateway, "tidegate_lagging_sessions{}") == 1
    device.publish("kept/x", '{"n": -1, "pad": ""}', qos=1)
    while b'{"n": -1' not in heard:
        heard += await asyncio.to_thread(stalled.recv, 1 << 20)
    stalled.close()
    numbers = [int(part.partition(b",")[0]) for part in heard.split(b'"data":{"n":')[1:]]
    assert [n for n in numbers if n >= 0] == list(range(count))
    await asyncio.to_thread(wait_until, lambda: sessions(gateway) + sessions(gateway, "sse") == 0, "its session ends")


def told(client: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    heard = b""
    while part := client.recv(65536):
        heard += part
    return heard


def test_what_is_refused_before_a_request_is_understood_is_told_over_tls(gateway: GatewayProcess) -> None:
    with closing(gateway.connect()) as slow:
        slow.sendall(b"GET /heal")
        assert b'"code":"handshake_timeout"' in told(slow)
    with closing(gateway.connect()) as large:
        large.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000)
        assert b'"code":"headers_too_large"' in told(large)


def test_who_never_ends_the_handshake_is_disconnected(gateway: GatewayProcess) -> None:
    with closing(socket.create_connection(("127.0.0.1", gateway.port))) as silent:
        silent.settimeout(20)
        assert silent.recv(100) == b""


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(range(256))], ids=["http", "nonsense"]
)
def test_what_is_no_tls_is_refused_and_fills_no_log(gateway: GatewayProcess, said: bytes) -> None:
    before = gateway.text
    for _ in range(10):
        with closing(socket.create_connection(("127.0.0.1", gateway.port))) as client:
            client.settimeout(20)
            client.sendall(said)
            assert b"HTTP" not in told(client)
    assert gateway.get("/healthz").status_code == 200
    assert gateway.text == before


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_and_weak_ciphers_are_refused(gateway: GatewayProcess, authority: Authority) -> None:
    for version, ciphers, taken in [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0", False),
        (ssl.TLSVersion.TLSv1_2, "DEFAULT", True),
        (ssl.TLSVersion.TLSv1_3, "DEFAULT", True),
    ]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers(ciphers)
        context.minimum_version = context.maximum_version = version
        with closing(socket.create_connection(("127.0.0.1", gateway.port))) as client:
            client.settimeout(20)
            if taken:
                with context.wrap_socket(client) as wrapped:
                    assert wrapped.version() == version.name.replace("_", ".")
            else:
                with pytest.raises((ssl.SSLError, ConnectionResetError)):
                    context.wrap_socket(client)


async def test_everybody_hears_goodbye_over_tls(gateway: GatewayProcess) -> None:
    async with browser(gateway) as client:
        gateway.process.terminate()
        assert (await client.hear())["code"] == "shutting_down"
    assert gateway.wait() == 0
    assert "Traceback" not in gateway.text


def shown(gateway: GatewayProcess) -> bytes | None:
    """The certificate that a new connection sees, after it was checked."""
    with closing(gateway.connect()) as client:
        assert isinstance(client, ssl.SSLSocket)
        return client.getpeercert(binary_form=True)


async def until_refused(gateway: GatewayProcess, count: int) -> None:
    def refused() -> bool:
        return gateway.text.count("is not used, the old one stays") == count

    await asyncio.to_thread(wait_until, refused, "a bad certificate is logged")


async def test_a_renewed_certificate_is_seen_by_new_connections_and_old_ones_stay(
    tmp_path: Path, gateway: GatewayProcess, authority: Authority
) -> None:
    first = shown(gateway)
    async with browser(gateway) as client:
        authority.issue(tmp_path, elliptic=False)  # of another kind: nothing of the old one may be left
        await asyncio.to_thread(wait_until, lambda: shown(gateway) != first, "the new certificate is seen")
        assert (await client.ask(type="ping"))["type"] == "pong"
        second = shown(gateway)

        bad = [b"", b"nonsense", (tmp_path / "tls.pem").read_bytes()[:300]]
        for count, content in enumerate(bad, start=1):
            replace(tmp_path / "tls.pem", content)
            await until_refused(gateway, count)
            assert shown(gateway) == second
        authority.issue(tmp_path)
        await asyncio.to_thread(wait_until, lambda: shown(gateway) not in (first, second), "the third is seen")
        assert (await client.ask(type="ping"))["type"] == "pong"
