"""A gateway of docker/ ends: clients that are connected by way of nginx go on at the other one, and miss nothing."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import httpx
import pytest

from tests.deployment import GATEWAYS, Deployment, deployment
from tests.javascript import NodeProgram, node_program
from tests.real import DEADLINE_SECONDS, wait_until

NUMBERS = count()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(
        tmp_path_factory.mktemp("failover"),
        rooms=[{"room": "chat/#", "history": {"messages": 5000}}],
        limits={"messages_per_second": 10_000, "messages_burst": 10_000, "publishes_per_room_per_second": 10_000},
        drain_seconds=1,
    ) as running:
        yield running


class Publisher:
    """Publishes 0, 1, 2, …, each once the one before is acknowledged."""

    def __init__(self, deployed: Deployment, url: str, room: str) -> None:
        self._url = f"{url}/publish?room={room}"
        self._trust = deployed.trust
        self._ending = threading.Event()
        self.published = 0
        self.failed: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.wait(0.002):
            with httpx.Client(verify=self._trust, timeout=DEADLINE_SECONDS) as http:
                answer = http.post(self._url, json=self.published)
                if answer.status_code == 200:
                    self.published += 1
                else:
                    self.failed.append(answer.text)

    def wait_for(self, more: int) -> None:
        """Until so many more are published."""
        wanted = self.published + more
        wait_until(lambda: self.published >= wanted or self.failed, "more is published")

    def stop(self) -> None:
        """No more."""
        self._ending.set()
        self._thread.join()


@pytest.fixture
def program(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., NodeProgram]]:
    """Starts clients from npm, subscribed to a room."""
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(deployed.certificate))
    with ExitStack() as started:

        def start(script: str, room: str, *arguments: str, **options: Any) -> NodeProgram:
            running = started.enter_context(node_program(script, *arguments))
            running.do("connect", url=deployed.url, **options)
            running.do("subscribe", room=room)
            return running

        yield start


def told(program: NodeProgram) -> list[dict[str, Any]]:
    return [event for event in tuple(program.events) if event["event"] == "message"]


def come_back(program: NodeProgram, room: str, happened: str) -> None:
    """Subscribe again from the last message on, once the client has noticed that it was disconnected."""
    program.wait_for(lambda event: event["event"] == happened)
    program.do("subscribe", room=room, since=told(program)[-1]["cursor"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to end"])
def test_clients_go_on_at_the_other_gateway_and_miss_nothing(
    deployed: Deployment, program: Callable[..., NodeProgram], number: signal.Signals
) -> None:
    room = f"chat/{next(NUMBERS)}"
    by_themselves = [program("eventsource.js", room) for _ in "12"] + [program("polling.js", room) for _ in "12"]
    socketio = [program("socketio.js", room, transports) for transports in ("polling", "polling,websocket")]
    mqtt = program("mqttjs.js", room, reconnect=50)
    (ended,) = (name for name in GATEWAYS if has_clients(deployed, name, "socketio", 2))
    (other,) = set(GATEWAYS) - {ended}
    # What was sent to a gateway that is killed may be stored or not; one that is told to end answers all.
    publisher = Publisher(deployed, deployed.gateways[other].url if number == signal.SIGKILL else deployed.url, room)
    publisher.wait_for(50)

    deployed.gateways[ended].send_signal(number)
    assert deployed.gateways[ended].wait() in (0, -signal.SIGKILL)
    for method in ("GET", "POST"):
        answer = httpx.request(method, f"{deployed.url}/session", verify=deployed.trust)
        assert answer.status_code < 500
    for each in socketio:
        come_back(each, room, "closed")
    come_back(mqtt, room, "closed")
    publisher.wait_for(50)
    publisher.stop()

    assert publisher.failed == []
    for each in [*by_themselves, *socketio, mqtt]:
        each.wait_for(lambda event: event["event"] == "message", publisher.published)
        assert [event["data"] for event in told(each)] == list(range(publisher.published))
    deployed.start_gateway(ended)
    if number == signal.SIGTERM:
        wait_until(lambda: answers(deployed, ended), "the gateway that is back is asked again")


def has_clients(deployed: Deployment, name: str, transport: str, number: int) -> bool:
    line = f'tidegate_sessions{{namespace="default",transport="{transport}"}} {number}.0'
    return line in deployed.gateways[name].get("/metrics").text


def answers(deployed: Deployment, name: str) -> bool:
    """Whether nginx asks a gateway for streams."""
    before = deployed.log("nginx").count(f"127.0.0.1:{deployed.ports[name]}\n")
    for _ in range(4):
        assert httpx.get(f"{deployed.url}/poll?room=chat/x&wait=0", verify=deployed.trust).status_code == 200
    return deployed.log("nginx").count(f"127.0.0.1:{deployed.ports[name]}\n") > before
