"""A gateway of docker/ ends: clients that are connected by way of nginx go on at the other one, and miss nothing."""

import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.deployment import GATEWAYS, Deployment, deployment
from tests.javascript import NodeProgram, node_program
from tests.real import DEADLINE_SECONDS, wait_until

ROOM = "chat/failover"


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    with deployment(
        tmp_path,
        rooms=[{"room": "chat/#", "history": {"messages": 5000}}],
        limits={"messages_per_second": 10_000, "messages_burst": 10_000, "publishes_per_room_per_second": 10_000},
        drain_seconds=1,
    ) as running:
        yield running


class Publisher:
    """Publishes 0, 1, 2, … at an address, each once the one before is acknowledged."""

    def __init__(self, url: str, trust: ssl.SSLContext) -> None:
        self._url = f"{url}/publish?room={ROOM}"
        self._trust = trust
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.published = 0
        self.refused: list[str] = []

    def _run(self) -> None:
        while not self._ending.wait(0.002):
            with httpx.Client(verify=self._trust, timeout=DEADLINE_SECONDS) as http:
                answer = http.post(self._url, json=self.published)
            if answer.status_code == 200:
                self.published += 1
            else:
                self.refused.append(answer.text)

    def wait_for(self, more: int) -> None:
        """Until so many more are published."""
        wanted = self.published + more
        wait_until(lambda: self.published >= wanted or self.refused, "more is published")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()


@pytest.fixture
def start(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., NodeProgram]]:
    """Starts clients from npm, subscribed to the room."""
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(deployed.certificate))
    with ExitStack() as started:

        def start(script: str, *arguments: str, **options: Any) -> NodeProgram:
            running = started.enter_context(node_program(script, *arguments))
            running.do("connect", url=deployed.url, **options)
            running.do("subscribe", room=ROOM)
            return running

        yield start


def told(program: NodeProgram) -> list[dict[str, Any]]:
    return [event for event in tuple(program.events) if event["event"] == "message"]


def come_back(program: NodeProgram, times: int = 1) -> None:
    """Subscribe again from the last message on, once the client has noticed that it was disconnected so often."""
    program.wait_for(lambda event: event["event"] == "closed", times)
    program.do("subscribe", room=ROOM, since=told(program)[-1]["cursor"])


def has_clients(deployed: Deployment, name: str, transport: str, number: int) -> bool:
    line = f'tidegate_sessions{{namespace="default",transport="{transport}"}} {number}.0'
    return line in deployed.gateways[name].get("/metrics").text


class Clients:
    """Those that come back by themselves, as far as their protocol goes, and those that then say their cursor."""

    def __init__(self, start: Callable[..., NodeProgram]) -> None:
        self._by_themselves = [start("eventsource.js"), start("eventsource.js"), start("polling.js")]
        self._by_cursor = [start("socketio.js", "polling"), start("socketio.js", "polling,websocket")]
        self._by_cursor.append(start("mqttjs.js", reconnect=50))

    def come_back(self, times: int = 1) -> None:
        """Wait until they are back, those whose gateway has ended so often."""
        for program in self._by_cursor:
            come_back(program, times)

    def check(self, published: int) -> None:
        """They have been told all, once and in order."""
        for program in [*self._by_themselves, *self._by_cursor]:
            program.wait_for(lambda event: event["event"] == "message", published)
            assert [event["data"] for event in told(program)] == list(range(published))


@pytest.fixture
def clients(start: Callable[..., NodeProgram]) -> Clients:
    return Clients(start)


def both(deployed: Deployment) -> tuple[str, str]:
    """The gateway of those who keep to one, and the other one."""
    (one,) = (name for name in GATEWAYS if has_clients(deployed, name, "socketio", 2))
    (other,) = set(GATEWAYS) - {one}
    return one, other


def test_clients_of_a_gateway_that_is_killed_go_on_at_the_other_and_miss_nothing(
    deployed: Deployment, clients: Clients
) -> None:
    killed, other = both(deployed)
    # By way of nginx nobody would know what became of the message that the gateway was just reading.
    with Publisher(deployed.gateways[other].url, deployed.trust) as publisher:
        publisher.wait_for(50)
        deployed.gateways[killed].send_signal(signal.SIGKILL)
        deployed.gateways[killed].wait()
        for method in ("GET", "POST"):
            assert httpx.request(method, f"{deployed.url}/session", verify=deployed.trust).status_code < 500
        clients.come_back()
        publisher.wait_for(50)
    clients.check(publisher.published)


def test_gateways_are_restarted_one_after_the_other_without_a_request_that_fails(
    deployed: Deployment, clients: Clients
) -> None:
    with Publisher(deployed.url, deployed.trust) as publisher:
        for times, name in enumerate(both(deployed), start=1):
            publisher.wait_for(50)
            deployed.gateways[name].send_signal(signal.SIGTERM)
            assert deployed.gateways[name].wait() == 0
            clients.come_back(times)
            deployed.start_gateway(name)
        publisher.wait_for(50)
    assert publisher.refused == []
    clients.check(publisher.published)
