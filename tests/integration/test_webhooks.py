"""Webhooks against a real receiver that fails on purpose: nothing lost, nothing out of order, each call signed."""

import os
import signal
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.certificates import Authority
from tests.integration.conftest import Device, browser
from tests.integration.test_websocket import metric
from tests.real import GatewayProcess, Mosquitto, mosquitto, wait_until
from tests.receiver import Receiver, receiver, secret_file

SECRET = b"k" * 32
FAST = {"retry_min_seconds": 0.01, "retry_max_seconds": 0.05, "breaker_seconds": 0.2, "timeout_seconds": 20}
MANY = {"messages_burst": 10_000, "messages_per_second": 10_000, "bytes_burst": "10 MiB", "lag_seconds": 0.2,
        "publishes_per_room_burst": 10_000, "rooms_per_address": 10_000}  # fmt: skip
SHARED: dict[str, dict[str, Any]] = {
    "signed": {},
    "failing": {"breaker_failures": 100, "batch_events": 10, "timeout_seconds": 0.5},
    "asked": {},
    "breaker": {"breaker_failures": 3, "breaker_seconds": 0.3},
    "away": {"queue_events": 40},
    "gap": {"queue_events": 20, "rooms": ["plain/#"]},
    "comings": {"events": ["connect", "disconnect", "joined", "left"]},
    "route": {"rooms": []},
    "refused": {},
    "gone": {},
    "dropped": {"give_up_seconds": 0.1, "batch_events": 1},
    "odd": {"timeout_seconds": 2},
    "trusted": {},
    "untrusted": {},
}
"""What is tried in namespaces of one gateway, each with a receiver and a webhook of its own."""


def configuration(broker_port: int, webhook: dict[str, Any]) -> dict[str, Any]:
    """Of a gateway with one webhook."""
    return {
        "upstreams": {"plant": {"url": f"mqtt://127.0.0.1:{broker_port}"}},
        "rooms": [{"room": "chat/#", "history": {"messages": 5000}, "presence": True}],
        "presence": {"grace_seconds": 0},
        "limits": MANY,
        "logging": {"format": "console"},
        "webhooks": {"hook": {"rooms": ["chat/#"], **FAST, **webhook}},
    }


class Case:
    """A namespace, its webhook `hook`, and the receiver of that."""

    def __init__(self, gateway: GatewayProcess, endpoint: Receiver, namespace: str = "default") -> None:
        self.gateway = gateway
        self.endpoint = endpoint
        self.namespace = namespace
        self.path = "" if namespace == "default" else f"/n/{namespace}"

    def publish(self, first: int, last: int, room: str = "chat/hall") -> None:
        """The numbers from first up to last, as messages."""
        lines = "".join(f'{{"data": {n}}}\n' for n in range(first, last))
        headers = {"content-type": "application/x-ndjson"}
        answer = httpx.post(f"{self.gateway.url}{self.path}/publish?room={room}", content=lines, headers=headers)
        assert answer.json()["published"] == last - first, answer.text

    def metric(self, name: str, **labels: str) -> float:
        """A figure of the namespace."""
        of_it = {} if self.namespace == "default" else {"namespace": self.namespace}
        given = ",".join(f'{key}="{value}"' for key, value in sorted({**labels, **of_it}.items()))
        return metric(self.gateway, f"tidegate_{name}{{{given}}}" if given else f"tidegate_{name}")

    def outcome(self, name: str) -> float:
        """How many events had it."""
        return self.metric("webhook_events_total", outcome=name, webhook="hook")

    def breaker(self) -> str:
        """Its state."""
        states = ("closed", "half_open", "open")
        return next(state for state in states if self.metric("webhook_breaker", state=state, webhook="hook"))


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def shared(upstream: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    """One gateway with all of `SHARED`."""
    folder = tmp_path_factory.mktemp("webhooks")
    authority = Authority()
    tls = authority.issue(folder)
    (folder / "trusted.pem").write_bytes(authority.root_pem)
    (folder / "untrusted.pem").write_bytes(Authority().root_pem)
    secrets = secret_file(folder, SECRET.decode(), f"whsec_{b64encode(b'n' * 32).decode()}")
    with ExitStack() as stack:
        endpoints = {name: stack.enter_context(receiver(tls if "trusted" in name else None)) for name in SHARED}
        namespaces: dict[str, Any] = {}
        for name, options in SHARED.items():
            of_tls = {"ca_file": str(folder / f"{name}.pem")} if "trusted" in name else {}
            options = {"url": endpoints[name].url, "secret_file": str(secrets), **of_tls, **options}
            whole = configuration(upstream.port, options)
            namespaces[name] = {key: whole[key] for key in ("rooms", "webhooks")}
        namespaces["route"]["routes"] = [
            {"topic": "s/{site}/{what}", "room": "sites/{site}/{what}", "webhook": "hook"},
            {"topic": "o/{site}", "room": "others/{site}"},
        ]
        config = {**configuration(upstream.port, {"url": "http://127.0.0.1:9"}), "namespaces": namespaces}
        nobody = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
        environment = {**os.environ, **nobody}  # which is passed over
        gateway = stack.enter_context(GatewayProcess(folder / "gateway", config, env=environment))
        gateway.wait_until_ready()
        yield {name: Case(gateway, endpoint, name) for name, endpoint in endpoints.items()}


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def start(start_gateway: Callable[..., GatewayProcess], upstream: Mosquitto, endpoint: Receiver) -> Callable[..., Case]:
    """Starts a gateway of the test's own."""

    def started(**webhook: Any) -> Case:
        config = configuration(upstream.port, {"url": endpoint.url, **webhook})
        return Case(start_gateway(config), endpoint)

    return started


def numbers(events: list[dict[str, Any]]) -> list[Any]:
    return [event["data"] for event in events if event["type"] == "message"]


def test_messages_are_told_in_order_signed_and_over_one_connection(shared: dict[str, Case]) -> None:
    case = shared["signed"]
    case.publish(0, 300)
    case.publish(0, 1, room="elsewhere")
    events = case.endpoint.heard(300)

    assert numbers(events) == list(range(300))
    assert {"type": "message", "room": "chat/hall", "data": 7}.items() <= events[7].items()
    assert events[7]["cursor"]
    calls = list(case.endpoint.calls)
    assert calls[0].headers["content-type"] == "application/json"
    assert {**calls[0].data, "events": []} == {"namespace": "signed", "webhook": "hook", "missed": 0, "events": []}
    assert all(call.is_signed_by(SECRET) and call.is_signed_by(b"n" * 32) for call in calls)
    assert len(calls) < 100
    assert len({call.id for call in calls}) == len(calls)
    assert case.endpoint.connections < len(calls)
    wait_until(lambda: case.outcome("delivered") == 300, "they are counted")
    assert "s3cret-path" not in case.gateway.text


def test_failures_are_tried_again_with_the_same_id_until_the_endpoint_recovers(shared: dict[str, Case]) -> None:
    case = shared["failing"]
    case.endpoint.answers.extend([500, 503, "close", "hang", (302, {"location": "/elsewhere"}), 429, 408, 425])
    case.publish(0, 50)
    assert numbers(case.endpoint.heard(50)) == list(range(50))

    failed, then = case.endpoint.calls[:8], case.endpoint.calls[8]
    assert {(call.id, call.body) for call in failed} == {(then.id, then.body)}
    assert case.metric("webhook_failures_total", webhook="hook") >= 8
    assert case.outcome("dropped") == case.outcome("refused") == 0
    assert "answers 302: no redirect is followed" in case.gateway.text


def test_what_the_endpoint_asks_to_wait_is_waited(shared: dict[str, Case]) -> None:
    case = shared["asked"]
    case.endpoint.answers.append((503, {"retry-after": "1"}))
    case.publish(0, 1)
    case.endpoint.heard(1)
    assert case.endpoint.calls[1].at - case.endpoint.calls[0].at >= 0.9


def test_the_breaker_opens_lets_one_call_through_and_closes(shared: dict[str, Case]) -> None:
    case, endpoint = shared["breaker"], shared["breaker"].endpoint
    endpoint.always = 500
    case.publish(0, 1)
    endpoint.wait(lambda calls: len(calls) >= 3, "it is tried three times")
    wait_until(lambda: case.breaker() == "open", "the breaker opens")
    endpoint.wait(lambda calls: len(calls) >= 5, "it is tried now and then")
    assert endpoint.calls[4].at - endpoint.calls[3].at >= 0.29
    endpoint.always = None
    assert numbers(endpoint.heard(1)) == [0]
    wait_until(lambda: case.breaker() == "closed", "the breaker closes")
    assert "webhook 'hook' of namespace breaker fails again and again" in case.gateway.text


def test_an_endpoint_that_is_away_loses_nothing_that_the_log_keeps(shared: dict[str, Case]) -> None:
    case, endpoint = shared["away"], shared["away"].endpoint
    endpoint.always = "close"
    case.publish(0, 500)
    case.publish(500, 600)
    wait_until(lambda: case.metric("lagging_sessions") == 0, "its session has ended")
    assert case.metric("closed_sessions_total", code="slow_consumer") == 0  # that is no client
    assert case.metric("webhook_pending", webhook="hook") <= 40
    endpoint.always = None
    assert numbers(endpoint.heard(600)) == list(range(600))
    case.publish(600, 610)
    assert numbers(endpoint.heard(610)) == list(range(610))
    assert case.outcome("dropped") == 0


def test_where_the_log_does_not_reach_it_is_said(shared: dict[str, Case]) -> None:
    case, endpoint = shared["gap"], shared["gap"].endpoint
    endpoint.always = 500
    case.publish(0, 50, room="plain/x")
    endpoint.always = None
    wait_until(lambda: endpoint.events and endpoint.events[-1]["type"] == "subscribed", "it is told what lacks")
    heard = endpoint.events
    assert numbers(heard) == list(range(len(heard) - 1))
    assert (heard[-1]["room"], heard[-1]["recovered"]) == ("plain/#", False)


async def test_who_comes_and_goes_is_told(shared: dict[str, Case]) -> None:
    case, endpoint = shared["comings"], shared["comings"].endpoint
    async with browser(_at(case)) as client:
        await client.ask(type="subscribe", room="chat/hall")
        endpoint.heard(2)

    connect, joined, *ends = endpoint.heard(4)
    session = connect["session"]
    assert (connect["type"], connect["transport"], connect["identity"]) == ("connect", "websocket", None)
    assert (joined["type"], joined["room"], joined["who"]) == ("joined", "chat/hall", {"session": session})
    left, disconnect = sorted(ends, key=lambda event: str(event["type"]), reverse=True)
    assert (left["type"], left["who"]) == ("left", {"session": session})
    assert (disconnect["type"], disconnect["session"], disconnect["code"]) == ("disconnect", session, None)
    assert case.metric("sessions", transport="webhook") == 0


def _at(case: Case) -> Any:
    """What `browser` needs of a gateway, for the case's namespace."""

    class At:
        trust = True
        ws_url = f"ws://127.0.0.1:{case.gateway.port}{case.path}/ws"

    return At


def test_a_route_names_a_webhook_for_its_rooms(shared: dict[str, Case], upstream: Mosquitto) -> None:
    device = Device(upstream.port)
    try:
        device.publish("o/oslo", "1", 1)
        device.publish("s/oslo/power", "2", 1)
        (event,) = shared["route"].endpoint.heard(1)
    finally:
        device.stop()
    assert (event["room"], event["topic"], event["data"]) == ("sites/oslo/power", "s/oslo/power", 2)


def test_what_is_refused_is_not_tried_again_and_the_next_call_says_so(shared: dict[str, Case]) -> None:
    case, endpoint = shared["refused"], shared["refused"].endpoint
    endpoint.answers.append(400)
    case.publish(0, 1)
    wait_until(lambda: case.outcome("refused") == 1, "it is refused, and counted")
    case.publish(1, 2)
    assert numbers(endpoint.heard(1)) == [1]
    assert endpoint.calls[-1].data["missed"] == 1
    assert case.metric("drops_total", cause="webhook_refused") == 1


def test_an_endpoint_that_is_gone_is_not_called_again(shared: dict[str, Case]) -> None:
    case = shared["gone"]
    case.endpoint.answers.append(410)
    case.publish(0, 1)
    wait_until(lambda: "is given up until the gateway is restarted" in case.gateway.text, "it is given up")
    case.publish(1, 50)
    assert case.metric("webhook_pending", webhook="hook") == 0
    assert len(case.endpoint.calls) == 1


def test_what_is_tried_for_too_long_is_dropped(shared: dict[str, Case]) -> None:
    case, endpoint = shared["dropped"], shared["dropped"].endpoint
    endpoint.always = 500
    case.publish(0, 1)
    wait_until(lambda: case.outcome("dropped") == 1, "it is dropped")
    endpoint.always = None
    case.publish(1, 2)
    assert numbers(endpoint.heard(1)) == [1]
    assert endpoint.calls[-1].data["missed"] == 1


def test_of_an_answer_the_status_counts_alone(shared: dict[str, Case]) -> None:
    case, endpoint = shared["odd"], shared["odd"].endpoint
    endpoint.answers.append((200, {"content-length": "1000000", "set-cookie": "a=b"}))
    case.publish(0, 1)
    endpoint.heard(1)
    case.publish(1, 2)
    assert numbers(endpoint.heard(2)) == [0, 1]
    assert [call.id for call in endpoint.calls].count(endpoint.calls[0].id) == 1
    assert "cookie" not in endpoint.calls[-1].headers


def test_tls_is_verified(shared: dict[str, Case]) -> None:
    for name in ("trusted", "untrusted"):
        shared[name].publish(0, 1)
    assert numbers(shared["trusted"].endpoint.heard(1)) == [0]
    case = shared["untrusted"]
    wait_until(lambda: case.metric("webhook_failures_total", webhook="hook") >= 1, "it is not trusted")
    assert "certificate verify failed" in case.gateway.text
    assert case.endpoint.calls == []


def test_what_waits_is_told_while_the_gateway_ends_and_nothing_again_after_a_restart(
    start: Callable[..., Case], endpoint: Receiver
) -> None:
    first = start(batch_events=5)
    first.publish(0, 30)
    first.gateway.send_signal(signal.SIGTERM)
    assert first.gateway.wait() == 0
    assert numbers(endpoint.events) == list(range(30))
    second = start()
    second.publish(30, 40)
    assert numbers(endpoint.heard(40)) == list(range(40))


def test_what_cannot_be_told_at_the_end_is_dropped_and_said(start: Callable[..., Case], endpoint: Receiver) -> None:
    case = start(timeout_seconds=30)
    endpoint.always = "hang"
    case.publish(0, 10)
    endpoint.wait(lambda calls: calls, "it is called")
    case.gateway.send_signal(signal.SIGTERM)
    assert case.gateway.wait() == 0
    assert "10 events were dropped: shutdown" in case.gateway.text


def test_without_webhooks_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys\nfrom gateway.app import Gateway\nfrom gateway.config import Settings\nGateway(Settings())\n"
        "assert 'httpx' not in sys.modules and 'bridges.webhooks' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
