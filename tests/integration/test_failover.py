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


def come_back(program: NodeProgram) -> None:
    """Subscribe again from the last message on, once the client has noticed that it was disconnected."""
    program.wait_for(lambda event: event["event"] == "closed")
    program.do("subscribe", room=ROOM, since=told(program)[-1]["cursor"])


def has_clients(deployed: Deployment, name: str, transport: str, number: int) -> bool:
    line = f'tidegate_sessions{{namespace="default",transport="{transport}"}} {number}.0'
    return line in deployed.gateways[name].get("/metrics").text


def is_asked(deployed: Deployment, name: str) -> bool:
    """Whether nginx leads polls to a gateway."""
    before = deployed.log("nginx").count(f"127.0.0.1:{deployed.ports[name]}\n")
    for _ in range(4):
        assert httpx.get(f"{deployed.url}/poll?room={ROOM}&wait=0", verify=deployed.trust).status_code == 200
    return deployed.log("nginx").count(f"127.0.0.1:{deployed.ports[name]}\n") > before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to end"])
def test_clients_go_on_at_the_other_gateway_and_miss_nothing(
    deployed: Deployment, start: Callable[..., NodeProgram], number: signal.Signals
) -> None:
    by_themselves = [start("eventsource.js"), start("eventsource.js"), start("polling.js")]
    by_cursor = [
        start("socketio.js", "polling"),
        start("socketio.js", "polling,websocket"),
        start("mqttjs.js", reconnect=50),
    ]
    (ended,) = (name for name in GATEWAYS if has_clients(deployed, name, "socketio", 2))
    (other,) = set(GATEWAYS) - {ended}
    # What was sent to a gateway that is killed may be stored or not; one that is told to end answers all.
    url = deployed.gateways[other].url if number == signal.SIGKILL else deployed.url
    with Publisher(url, deployed.trust) as publisher:
        publisher.wait_for(50)
        deployed.gateways[ended].send_signal(number)
        assert deployed.gateways[ended].wait() in (0, -signal.SIGKILL)
        for method in ("GET", "POST"):
            assert httpx.request(method, f"{deployed.url}/session", verify=deployed.trust).status_code < 500
        for program in by_cursor:
            come_back(program)
        publisher.wait_for(50)
    assert publisher.refused == []
    for program in [*by_themselves, *by_cursor]:
        program.wait_for(lambda event: event["event"] == "message", publisher.published)
        assert [event["data"] for event in told(program)] == list(range(publisher.published))
    if number == signal.SIGTERM:
        deployed.start_gateway(ended)
        wait_until(lambda: is_asked(deployed, ended), "the gateway that is back is asked again")
