"""Webhooks against a real receiver that fails on purpose: nothing lost, nothing out of order, each call signed."""

import signal
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.certificates import Authority
from tests.integration.conftest import browser
from tests.integration.test_websocket import metric
from tests.real import GatewayProcess, Mosquitto, mosquitto, wait_until
from tests.receiver import Receiver, receiver, secret_file

SECRET = b"k" * 32
FAST = {"retry_min_seconds": 0.01, "retry_max_seconds": 0.05, "breaker_seconds": 0.2, "timeout_seconds": 0.5}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def start(start_gateway: Callable[..., GatewayProcess], upstream: Mosquitto) -> Callable[..., GatewayProcess]:
    """Starts a gateway with one webhook, called `hook`."""

    def started(url: str, config: dict[str, Any] | None = None, /, **webhook: Any) -> GatewayProcess:
        return start_gateway(
            {
                "upstreams": {"plant": {"url": f"mqtt://127.0.0.1:{upstream.port}"}},
                "rooms": [{"room": "chat/#", "history": {"messages": 5000}, "presence": True}],
                "presence": {"grace_seconds": 0},
                "limits": {"messages_burst": 10_000, "messages_per_second": 10_000, "bytes_burst": "10 MiB",
                           "publishes_per_room_burst": 10_000},
                "logging": {"format": "console"},
                **(config or {}),
                "webhooks": {"hook": {"url": url, "rooms": ["chat/#"], **FAST, **webhook}},
            }
        )  # fmt: skip

    return started


def publish(gateway: GatewayProcess, first: int, last: int, room: str = "chat/hall") -> None:
    """The numbers from first up to last, as messages."""
    lines = "".join(f'{{"data": {n}}}\n' for n in range(first, last))
    headers = {"content-type": "application/x-ndjson"}
    answer = httpx.post(f"{gateway.url}/publish?room={room}", content=lines, headers=headers)
    assert answer.json()["published"] == last - first, answer.text


def numbers(events: list[dict[str, Any]]) -> list[Any]:
    return [event["data"] for event in events if event["type"] == "message"]


def breaker(gateway: GatewayProcess) -> str:
    states = ("closed", "half_open", "open")
    return next(s for s in states if metric(gateway, f'tidegate_webhook_breaker{{state="{s}",webhook="hook"}}'))


def outcome(gateway: GatewayProcess, name: str) -> float:
    return metric(gateway, f'tidegate_webhook_events_total{{outcome="{name}",webhook="hook"}}')


def test_messages_are_told_in_order_signed_and_over_one_connection(
    start: Callable[..., GatewayProcess], endpoint: Receiver, tmp_path: Path
) -> None:
    lines = (SECRET.decode(), f"whsec_{b64encode(b'n' * 32).decode()}")
    gateway = start(endpoint.url, secret_file=str(secret_file(tmp_path, *lines)))
    publish(gateway, 0, 300)
    publish(gateway, 0, 1, room="elsewhere")
    events = endpoint.heard(300)

    assert numbers(events) == list(range(300))
    assert {"type": "message", "room": "chat/hall", "data": 7}.items() <= events[7].items()
    assert events[7]["cursor"]
    first = endpoint.calls[0]
    assert first.headers["content-type"] == "application/json"
    assert first.data | {"events": []} == {"namespace": "default", "webhook": "hook", "missed": 0, "events": []}
    assert all(call.is_signed_by(SECRET) and call.is_signed_by(b"n" * 32) for call in endpoint.calls)
    assert len(endpoint.calls) < 100
    assert len({call.id for call in endpoint.calls}) == len(endpoint.calls)
    assert endpoint.connections == 1
    wait_until(lambda: outcome(gateway, "delivered") == 300, "they are counted")
    assert "s3cret-path" not in gateway.text


def test_failures_are_tried_again_with_the_same_id_until_the_endpoint_recovers(
    start: Callable[..., GatewayProcess], endpoint: Receiver
) -> None:
    gateway = start(endpoint.url, breaker_failures=100, batch_events=10)
    endpoint.answers.extend([500, 503, "close", "hang", (302, {"location": "/elsewhere"}), 429, 408, 425])
    publish(gateway, 0, 50)
    assert numbers(endpoint.heard(50)) == list(range(50))

    failed, then = endpoint.calls[:8], endpoint.calls[8]
    assert {(call.id, call.body) for call in failed} == {(then.id, then.body)}
    assert metric(gateway, 'tidegate_webhook_failures_total{webhook="hook"}') == 8
    assert outcome(gateway, "dropped") == outcome(gateway, "refused") == 0


def test_what_the_endpoint_asks_to_wait_is_waited(start: Callable[..., GatewayProcess], endpoint: Receiver) -> None:
    gateway = start(endpoint.url)
    endpoint.answers.append((503, {"retry-after": "1"}))
    publish(gateway, 0, 1)
    endpoint.heard(1)
    assert endpoint.calls[1].at - endpoint.calls[0].at >= 0.9


def test_the_breaker_opens_lets_one_call_through_and_closes(
    start: Callable[..., GatewayProcess], endpoint: Receiver
) -> None:
    gateway = start(endpoint.url, breaker_failures=3, breaker_seconds=0.3)
    endpoint.always = 500
    publish(gateway, 0, 1)
    endpoint.wait(lambda calls: len(calls) >= 3, "it is tried three times")
    wait_until(lambda: breaker(gateway) == "open", "the breaker opens")
    endpoint.wait(lambda calls: len(calls) >= 5, "it is tried now and then")
    assert endpoint.calls[4].at - endpoint.calls[3].at >= 0.29
    endpoint.always = None
    assert numbers(endpoint.heard(1)) == [0]
    wait_until(lambda: breaker(gateway) == "closed", "the breaker closes")
    assert "fails again and again" in gateway.text


def test_an_endpoint_that_is_away_loses_nothing_that_the_log_keeps(
    start: Callable[..., GatewayProcess], endpoint: Receiver
) -> None:
    gateway = start(endpoint.url, {"limits": {"lag_seconds": 0.2, "messages_burst": 10_000, "bytes_burst": "10 MiB",
                                              "publishes_per_room_burst": 10_000}}, queue_events=40)  # fmt: skip
    endpoint.always = "close"
    publish(gateway, 0, 500)
    publish(gateway, 500, 600)
    slow = 'tidegate_closed_sessions_total{code="slow_consumer"}'
    wait_until(lambda: metric(gateway, "tidegate_lagging_sessions") == 0, "its session has ended")
    assert metric(gateway, slow) == 0  # that is no client
    assert metric(gateway, 'tidegate_webhook_pending{webhook="hook"}') <= 21
    endpoint.always = None
    assert numbers(endpoint.heard(600)) == list(range(600))
    publish(gateway, 600, 610)
    assert numbers(endpoint.heard(610)) == list(range(610))
    assert outcome(gateway, "dropped") == 0


def test_where_the_log_does_not_reach_it_is_said(start: Callable[..., GatewayProcess], endpoint: Receiver) -> None:
    gateway = start(endpoint.url, queue_events=20, rooms=["plain/#"])
    endpoint.always = 500
    publish(gateway, 0, 50, room="plain/x")
    endpoint.always = None
    heard = endpoint.heard(11)
    wait_until(lambda: endpoint.events[-1]["type"] == "subscribed", "it is told what lacks")

    assert numbers(heard) == list(range(len(numbers(heard))))
    gap = endpoint.events[-1]
    assert (gap["room"], gap["recovered"]) == ("plain/#", False)


def test_who_comes_and_goes_is_told(start: Callable[..., GatewayProcess], endpoint: Receiver) -> None:
    gateway = start(endpoint.url, events=["connect", "disconnect", "joined", "left"])

    async def visit() -> None:
        async with browser(gateway) as client:
            await client.ask(type="subscribe", room="chat/hall")
            endpoint.heard(2)

    import asyncio

    asyncio.run(visit())
    connect, joined, *ends = endpoint.heard(4)
    session = connect["session"]
    assert connect["type"] == "connect"
    assert (connect["transport"], connect["identity"]) == ("websocket", None)
    assert (joined["type"], joined["room"], joined["who"]) == ("joined", "chat/hall", {"session": session})
    left, disconnect = sorted(ends, key=lambda event: event["type"], reverse=True)
    assert (left["type"], left["who"]) == ("left", {"session": session})
    assert disconnect["session"] == session
    assert (disconnect["type"], disconnect["code"]) == ("disconnect", None)
    assert metric(gateway, 'tidegate_sessions{transport="webhook"}') == 0


def test_a_route_names_a_webhook_for_its_rooms(
    start: Callable[..., GatewayProcess], endpoint: Receiver, upstream: Mosquitto
) -> None:
    from tests.integration.conftest import Device

    route = {"topic": "s/{site}/{what}", "room": "sites/{site}/{what}", "webhook": "hook"}
    other = {"topic": "o/{site}", "room": "others/{site}"}
    start(endpoint.url, {"routes": [route, other]}, rooms=[])
    device = Device(upstream.port)
    try:
        device.publish("o/oslo", "1", 1)
        device.publish("s/oslo/power", "2", 1)
        (event,) = endpoint.heard(1)
    finally:
        device.stop()
    assert (event["room"], event["topic"], event["data"]) == ("sites/oslo/power", "s/oslo/power", 2)


def test_what_is_refused_is_not_tried_again_and_the_next_call_says_so(
    start: Callable[..., GatewayProcess], endpoint: Receiver
) -> None:
    gateway = start(endpoint.url)
    endpoint.answers.append(400)
    publish(gateway, 0, 1)
    endpoint.wait(lambda calls: len(calls) == 1, "it is refused")
    wait_until(lambda: outcome(gateway, "refused") == 1, "that is counted")
    publish(gateway, 1, 2)
    assert numbers(endpoint.heard(1)) == [1]
    assert endpoint.calls[-1].data["missed"] == 1
    assert metric(gateway, 'tidegate_drops_total{cause="webhook_refused"}') == 1


def test_an_endpoint_that_is_gone_is_not_called_again(start: Callable[..., GatewayProcess], endpoint: Receiver) -> None:
    gateway = start(endpoint.url)
    endpoint.answers.append(410)
    publish(gateway, 0, 1)
    wait_until(lambda: "is given up until the gateway is restarted" in gateway.text, "it is given up")
    publish(gateway, 1, 50)
    assert metric(gateway, 'tidegate_webhook_pending{webhook="hook"}') == 0
    assert len(endpoint.calls) == 1


def test_what_is_tried_for_too_long_is_dropped(start: Callable[..., GatewayProcess], endpoint: Receiver) -> None:
    gateway = start(endpoint.url, give_up_seconds=0.1, batch_events=1)
    endpoint.always = 500
    publish(gateway, 0, 1)
    wait_until(lambda: outcome(gateway, "dropped") == 1, "it is dropped")
    endpoint.always = None
    publish(gateway, 1, 2)
    assert numbers(endpoint.heard(1)) == [1]
    assert endpoint.calls[-1].data["missed"] == 1


def test_what_waits_is_told_while_the_gateway_ends_and_nothing_again_after_a_restart(
    start: Callable[..., GatewayProcess], endpoint: Receiver
) -> None:
    first = start(endpoint.url, batch_events=5)
    endpoint.answers.append(500)
    publish(first, 0, 200)
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 0
    assert numbers(endpoint.events) == list(range(200))
    second = start(endpoint.url)
    publish(second, 200, 210)
    assert numbers(endpoint.heard(210)) == list(range(210))


def test_what_cannot_be_told_at_the_end_is_dropped_and_said(
    start: Callable[..., GatewayProcess], endpoint: Receiver
) -> None:
    gateway = start(endpoint.url, timeout_seconds=30)
    endpoint.always = "hang"
    publish(gateway, 0, 10)
    endpoint.wait(lambda calls: calls, "it is called")
    gateway.send_signal(signal.SIGTERM)
    assert gateway.wait() == 0
    assert "10 events were dropped: shutdown" in gateway.text


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_is_verified(start: Callable[..., GatewayProcess], tmp_path: Path, *, trusted: bool) -> None:
    authority = Authority()
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes((authority if trusted else Authority()).root_pem)
    with receiver(authority.issue(tmp_path)) as endpoint:
        gateway = start(endpoint.url, ca_file=str(authorities))
        publish(gateway, 0, 1)
        if trusted:
            assert numbers(endpoint.heard(1)) == [0]
        else:
            wait_until(lambda: "certificate verify failed" in gateway.text, "it is not trusted")
            assert endpoint.calls == []
