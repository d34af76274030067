"""What a WebSocket client can do wrong, what it is told, and that nobody else notices."""

import asyncio
import json
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from gateway.core.errors import PROTOCOL_CLOSE_CODES, error_table
from tests.integration.conftest import Device, browser
from tests.real import GatewayProcess, Mosquitto, configuration, wait_until

ERROR_CODES = {error.code for error in error_table()}
CLOSE_CODES = set(PROTOCOL_CLOSE_CODES) | {error.close_code for error in error_table() if error.close_code}
GENEROUS = {
    "messages_per_second": 100_000,
    "messages_burst": 100_000,
    "bytes_per_second": "1 GB",
    "bytes_burst": "1 GB",
}


def metric(gateway: GatewayProcess, line: str) -> float:
    """One figure of `/metrics`, of the default namespace; 0 if it isn't there yet."""
    for text in gateway.get("/metrics").text.splitlines():
        name, _, value = text.rpartition(" ")
        if re.sub(r',?namespace="default",?', "", name) == line:
            return float(value)
    return 0.0


def sessions(gateway: GatewayProcess, transport: str = "websocket") -> float:
    return metric(gateway, f'tidegate_sessions{{transport="{transport}"}}')


async def test_malformed_input_gets_a_named_error_and_the_connection_stays(gateway: GatewayProcess) -> None:
    async with browser(gateway) as client:
        frames: list[tuple[str | bytes, str]] = [
            ("nonsense", "expected a JSON object"),
            ('{"type":"subscribe"}', "room"),
            ('{"type":"subscribe","room":"a+"}', "wildcard"),
            ('{"type":"publish","room":"raw/x","data":1}', "only devices write"),
            (b"\x00", "text frame"),
        ]
        for frame, named in frames:
            await client.connection.send(frame)
            error = await client.hear()
            assert error["type"] == "error"
            assert named in error["message"]
        assert (await client.ask(type="ping"))["type"] == "pong"


async def test_unknown_subprotocol_is_refused_and_none_is_taken(gateway: GatewayProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(gateway.ws_url, subprotocols=[Subprotocol("mqtt")]):
            pass
    assert refused.value.response.status_code == 400
    assert orjson.loads(refused.value.response.body)["code"] == "wrong_subprotocol"
    async with browser(gateway, subprotocols=None) as client:
        assert client.connection.subprotocol is None


async def test_pages_of_other_origins_are_refused_on_every_way_in(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port, origins=["https://dash.example"]))
    for origin, taken in [(gateway.url, True), ("https://dash.example", True), ("https://evil.example", False)]:
        headers = {"Origin": origin}
        status = 200 if taken else 403
        for method, path in [("GET", "/last?room=raw/x"), ("POST", "/publish?room=chat/x")]:
            answer = httpx.request(method, gateway.url + path, headers=headers, content=b"1")
            assert answer.status_code == status, (origin, path)
        with httpx.stream("GET", f"{gateway.url}/sse?room=raw/x", headers=headers) as stream:
            assert stream.status_code == status
            if origin == "https://dash.example":
                assert stream.headers["access-control-allow-origin"] == origin
        if taken:
            async with browser(gateway, additional_headers=headers):
                pass
        else:
            with pytest.raises(InvalidStatus) as refused:
                async with browser(gateway, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == 403


def test_a_page_whose_name_leads_here_all_at_once_gets_nothing(gateway: GatewayProcess) -> None:
    for name, status in (("evil.example", 421), ("localhost", 200)):
        host = f"{name}:{gateway.port}"
        headers = {"Host": host, "Origin": f"http://{host}"}
        answer = httpx.post(f"{gateway.url}/publish?room=chat/x", json=1, headers=headers)
        assert answer.status_code == status


async def test_a_flood_gets_the_named_error_then_is_closed_and_others_notice_nothing(
    gateway: GatewayProcess, device: Device
) -> None:
    async with browser(gateway) as healthy, browser(gateway) as flooder:
        await healthy.ask(type="subscribe", room="raw/x")
        with suppress(ConnectionClosed):
            for _ in range(200):
                await flooder.say(type="ping")
        heard = []
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                heard.append(await flooder.hear())
        limited = [answer for answer in heard if answer.get("code") == "rate_limited"]
        assert limited[0]["retry_after_seconds"] > 0
        assert (limited[-1]["type"], limited[-1]["retry"]) == ("bye", True)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4429
        device.publish("raw/x", "1")
        assert (await healthy.messages(1))[0]["data"] == 1
    assert metric(gateway, 'tidegate_closed_sessions_total{code="rate_limited"}') == 1


async def test_too_large_a_message_is_named_and_closes(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port, limits={"message_bytes": "1 KiB"}))
    async with browser(gateway) as client:
        await client.connection.send("x" * 100_000)
        error = await client.hear()
        assert error["code"] == "message_too_large"
        with pytest.raises(ConnectionClosed) as closed:
            await client.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    answer = httpx.post(f"{gateway.url}/publish?room=chat/x", content=b"1" * 2000)
    assert (answer.status_code, answer.json()["code"]) == (413, "message_too_large")


async def test_connections_are_limited_per_address_and_in_all_and_given_back(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port, limits={"connections_per_address": 2, "connections": 3}))
    async with browser(gateway), browser(gateway):
        with pytest.raises(InvalidStatus) as refused:
            async with browser(gateway):
                pass
        response = refused.value.response
        assert (response.status_code, response.headers["retry-after"]) == (429, "5")
        assert orjson.loads(response.body)["code"] == "too_many_connections_from_address"
        assert httpx.get(f"{gateway.url}/sse?room=a").status_code == 429
        async with browser(gateway, local_addr=("127.0.0.2", 0)):
            with pytest.raises(InvalidStatus) as refused:
                async with browser(gateway, local_addr=("127.0.0.3", 0)):
                    pass
            assert refused.value.response.status_code == 503
    await asyncio.to_thread(wait_until, lambda: sessions(gateway) == 0, "the sessions end")
    async with browser(gateway):
        pass


async def test_no_client_passes_the_limits_by_saying_that_it_comes_from_elsewhere(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port, limits={"connections_per_address": 2}))

    def from_(address: str) -> dict[str, str]:
        return {"X-Forwarded-For": address, "Forwarded": f"for={address}"}

    async with (
        browser(gateway, additional_headers=from_("192.0.2.1")),
        browser(gateway, additional_headers=from_("192.0.2.2")),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with browser(gateway, additional_headers=from_("192.0.2.3")):
                pass
        assert refused.value.response.status_code == 429
        assert httpx.get(f"{gateway.url}/sse?room=a", headers=from_("192.0.2.4")).status_code == 429


async def test_a_session_ends_whatever_way_it_ends(gateway: GatewayProcess) -> None:
    async with browser(gateway) as closing:
        await closing.ask(type="subscribe", room="#")
        assert sessions(gateway) == 1
    cut = raw_client(gateway)
    await asyncio.to_thread(wait_until, lambda: sessions(gateway) == 1, "the raw client is there")
    cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cut.close()  # a reset
    left = raw_client(gateway)
    left.shutdown(socket.SHUT_RDWR)
    left.close()
    broken = raw_client(gateway)
    broken.sendall(b"\xff\xff\xff\xff\xff\xff")  # no frame of RFC 6455
    await asyncio.to_thread(wait_until, lambda: sessions(gateway) == 0, "all sessions end")
    assert b"\x88" in broken.recv(65536)
    broken.close()


def raw_client(gateway: GatewayProcess, *rooms: str, receive_buffer_bytes: int | None = None) -> socket.socket:
    """A client without a library, for what none would do."""
    client = gateway.connect(receive_buffer_bytes)
    client.sendall(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    heard = b""
    while b"welcome" not in heard:
        heard += client.recv(4096)
    for room in rooms:
        text = b'{"type":"subscribe","room":"%s"}' % room.encode()
        client.sendall(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)
    return client


def raw_stream(gateway: GatewayProcess, room: str, receive_buffer_bytes: int | None = None) -> socket.socket:
    """An event stream's client without a library."""
    client = gateway.connect(receive_buffer_bytes)
    client.sendall(f"GET /sse?room={room} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client


@pytest.mark.parametrize("transport", ["websocket", "sse"])
@pytest.mark.parametrize("plain", [False, True], ids=["direct", "plain"])
async def test_a_client_that_doesnt_read_is_closed_with_a_reason_and_others_notice_nothing(
    broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess], transport: str, plain: bool
) -> None:
    gateway = start_gateway(configuration(broker.port, limits={"lag_seconds": 1}), plain=plain)
    payload = orjson.dumps("x" * 20_000)
    async with browser(gateway) as healthy:
        await healthy.ask(type="subscribe", room="raw/x")
        if transport == "websocket":
            stalled = raw_client(gateway, "raw/x", receive_buffer_bytes=4096)
        else:
            stalled = raw_stream(gateway, "raw/x")
        await asyncio.to_thread(wait_until, lambda: sessions(gateway, transport) >= 1, "the stalled client is there")
        count = 0
        while metric(gateway, 'tidegate_closed_sessions_total{code="slow_consumer"}') == 0:
            for _ in range(20):
                device.publish("raw/x", payload)
            await healthy.messages(20)
            count += 20
            assert count < 20_000, "the stalled client is never closed"
        assert gateway.process.poll() is None
        device.publish("raw/x", "1")
        assert (await healthy.messages(1))[0]["data"] == 1
        stalled.settimeout(10)
        tail = await asyncio.to_thread(_read_to_the_end, stalled)
        stalled.close()
        assert b"slow_consumer" in tail


def _read_to_the_end(client: socket.socket) -> bytes:
    tail = b""
    with suppress(OSError):
        while part := client.recv(65536):
            tail = (tail + part)[-100_000:]
    return tail


async def test_one_large_message_is_no_sign_of_a_slow_client(
    broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port, limits={"write_buffer_bytes": "16 KiB"}))
    async with browser(gateway, max_size=None) as client:
        await client.ask(type="subscribe", room="raw/x")
        device.publish("raw/x", orjson.dumps("x" * 2_000_000), qos=1)
        device.publish("raw/x", "1", qos=1)
        big, small = await client.messages(2)
        assert (len(big["data"]), small["data"]) == (2_000_000, 1)


async def test_a_client_that_answers_no_ping_is_closed(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port, heartbeat={"interval_seconds": 0.2, "timeout_seconds": 0.2}))
    silent = raw_client(gateway)
    async with browser(gateway) as lively:
        heard = await asyncio.to_thread(_read_to_the_end, silent)
        silent.close()
        assert b"\x89" in heard  # a ping
        assert b"keepalive" in heard
        assert (await lively.ask(type="ping"))["type"] == "pong"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
REQUESTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["subscribe", "unsubscribe", "publish", "ping", "auth", ""])},
    optional={"id": JSON, "room": st.text(max_size=12) | JSON, "data": JSON, "since": JSON, "binary": JSON},
)
FRAMES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200),
    (JSON | REQUESTS).map(lambda v: json.dumps(v)),
)


async def test_no_frames_end_the_server_or_another_session_and_all_are_answered_from_the_table(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port, limits=GENEROUS))
    async with browser(gateway) as witness:
        await witness.ask(type="subscribe", room="witness/x")
        loop = asyncio.get_running_loop()

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(FRAMES, min_size=1, max_size=10))
        def attack(frames: list[bytes | str]) -> None:
            asyncio.run_coroutine_threadsafe(_attack(gateway, frames), loop).result(60)

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.binary(min_size=1, max_size=300))
        def attack_raw(noise: bytes) -> None:
            _attack_raw(gateway, noise)

        await asyncio.to_thread(attack)
        await asyncio.to_thread(attack_raw)
        assert gateway.process.poll() is None
        assert (await witness.ask(type="ping"))["type"] == "pong"
        assert metric(gateway, 'tidegate_closed_sessions_total{code="internal_error"}') == 0
        assert "Traceback" not in gateway.text


async def _attack(gateway: GatewayProcess, frames: list[bytes | str]) -> None:
    async with browser(gateway) as client:
        try:
            for frame in frames:
                await client.connection.send(frame)
            await client.say(type="ping", id="the last of all")
            while True:
                heard = await client.hear()
                assert heard["type"] != "error" or heard["code"] in ERROR_CODES
                if heard.get("id") == "the last of all":
                    return
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            assert closed.rcvd.code in CLOSE_CODES


def _attack_raw(gateway: GatewayProcess, noise: bytes) -> None:
    """Bytes that need not even be frames: the server answers, closes with a code of the table, or waits for more."""
    client = raw_client(gateway)
    client.sendall(noise)
    client.shutdown(socket.SHUT_WR)
    heard = _read_to_the_end(client)
    client.close()
    at = heard.rfind(b"\x88")
    if at >= 0 and len(heard) >= at + 4 and heard[at + 1] >= 2:
        assert int.from_bytes(heard[at + 2 : at + 4], "big") in CLOSE_CODES


async def test_noise_instead_of_http_harms_nobody(gateway: GatewayProcess) -> None:
    async with browser(gateway) as client:
        for noise in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000, b"\r\n" * 100):
            with socket.create_connection(("127.0.0.1", gateway.port)) as raw, suppress(OSError):
                raw.sendall(noise)
                raw.shutdown(socket.SHUT_WR)
                raw.settimeout(5)
                raw.recv(4096)
        with pytest.raises((InvalidHandshake, OSError)):
            async with connect(gateway.ws_url.replace("/ws", "/nothing")):
                pass
        assert (await client.ask(type="ping"))["type"] == "pong"
    gateway.wait_until_ready()


async def test_goodbye_is_said_when_the_gateway_ends(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port))
    async with browser(gateway) as client:
        gateway.process.terminate()
        bye = await client.hear()
        assert (bye["type"], bye["code"], bye["retry"]) == ("bye", "shutting_down", True)
        with pytest.raises(ConnectionClosed) as closed:
            await client.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
