"""Gateways with one Redis, behind nginx, are restarted one after the other: no message is lost, none comes twice."""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.integration.conftest import Browser
from tests.integration.test_snippets import snippets
from tests.javascript import NodeProgram, node_program
from tests.nginx import nginx
from tests.real import (
    DEADLINE_SECONDS,
    TIDEGATE,
    GatewayProcess,
    Mosquitto,
    Running,
    configuration,
    free_port,
    wait_until,
)
from tests.redis import RedisServer, redis_server

ROOM = "log/x"
StartNode = Callable[[str, int], GatewayProcess]
Heard = Callable[[], list[int]]


class Publisher:
    """Publishes numbers by HTTP, each once, until it is to stop; each has to be acknowledged."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish)
        self.sent = 0
        self.refused: list[str] = []

    def _publish(self) -> None:
        with httpx.Client(base_url=self._url, timeout=DEADLINE_SECONDS) as http:
            while not self._over.wait(0.01):
                answer = http.post(f"/publish?room={ROOM}", json=self.sent + 1)
                if answer.status_code != 200:
                    self.refused.append(f"{answer.status_code} {answer.text}")
                self.sent += 1

    def reach(self, number: int) -> None:
        wait_until(lambda: self.sent >= number, f"{number} messages were published; refused: {self.refused}")

    def __enter__(self) -> "Publisher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def start_node(plant: Mosquitto, redis: RedisServer, tmp_path: Path) -> Iterator[StartNode]:
    """Starts a gateway on a port, one of several with the same Redis."""
    with ExitStack() as started:

        def start(name: str, port: int) -> GatewayProcess:
            config = configuration(
                plant.port,
                engine={"url": redis.url, "prefix": tmp_path.name.replace("_", "-")[-60:]},
                limits={"messages_per_second": 1000, "messages_burst": 1000, "publishes_per_room_per_second": 1000},
                rooms=[{"room": "log/#", "history": {"messages": 10_000}}, {"room": "hall", "presence": True}],
                presence={"grace_seconds": 1},
                drain_seconds=0.5,
            )
            running = started.enter_context(GatewayProcess(tmp_path / name, config, port=port))
            running.wait_until_ready()
            return running

        yield start


def restart(gateway: GatewayProcess, start: Callable[[], GatewayProcess]) -> GatewayProcess:
    gateway.send_signal(signal.SIGTERM)
    assert gateway.wait() == 0
    assert "Traceback" not in gateway.text
    return start()


def of_node(program: NodeProgram, who: str | None = None) -> Heard:
    """What one client of a program heard."""

    def heard() -> list[int]:
        return [said["data"] for said in tuple(program.events) if said["event"] == "message" and said.get("who") == who]

    return heard


def of_sub(sub: Running) -> Heard:
    """What `tidegate sub` heard."""
    return lambda: [
        json.loads(line)["data"] for line in sub.text.splitlines(keepends=True) if line[:1] + line[-2:] == "{}\n"
    ]


def clients_of(url: str, folder: Path, clients: ExitStack) -> dict[str, Heard]:
    """Clients of all kinds that come back by themselves."""
    found: dict[str, Heard] = {}
    ours, events = (clients.enter_context(node_program(name)) for name in ("tidegatejs.js", "eventsource.js"))
    for number, transport in enumerate(("websocket", "sse") * 3):
        who = f"tidegate.js {number}, {transport}"
        ours.do("connect", who=who, url=url, transport=transport)
        ours.do("subscribe", who=who, room=ROOM)
        found[who] = of_node(ours, who)
    events.do("connect", url=url)
    events.do("subscribe", room=ROOM)
    found["EventSource"] = of_node(events)
    for number in range(2):
        command: list[str | Path] = [TIDEGATE, "sub", ROOM, "--url", url]
        found[f"tidegate sub {number}"] = of_sub(clients.enter_context(Running(command, folder / f"sub-{number}.log")))
    return found


def test_gateways_are_restarted_one_after_the_other(start_node: StartNode, tmp_path: Path) -> None:
    ports = (free_port(), free_port())
    first, second = start_node("a", ports[0]), start_node("b", ports[1])
    (location,), (upstream,) = snippets("nginx"), snippets("nginx upstream")
    servers = upstream.text.replace("8080", str(ports[0])).replace("8081", str(ports[1]))
    through = location.text.replace("127.0.0.1:8080", "gateways")
    with ExitStack() as clients:
        url = f"http://127.0.0.1:{clients.enter_context(nginx(tmp_path, through, http=servers))}"
        heard = clients_of(url, tmp_path, clients)
        with Publisher(url) as publisher:
            wait_until(lambda: all(heard_so_far() for heard_so_far in heard.values()), "all hear")
            publisher.reach(100)
            restart(first, lambda: start_node("a", ports[0]))
            publisher.reach(publisher.sent + 50)
            restart(second, lambda: start_node("b", ports[1]))
            publisher.reach(publisher.sent + 50)
        assert publisher.refused == []
        wait_until(
            lambda: all(publisher.sent in heard_so_far()[-1:] for heard_so_far in heard.values()), "all is heard"
        )
        for who, heard_so_far in heard.items():
            numbers = heard_so_far()
            assert numbers == list(range(numbers[0], publisher.sent + 1)), who
        told = [(tmp_path / f"sub-{number}.log").read_text().count("shutting_down") for number in range(2)]
        assert all(told)


@asynccontextmanager
async def member(gateway: GatewayProcess, name: str) -> AsyncIterator[Browser]:
    """A client that is in the hall under a name of its own."""
    options = {"subprotocols": [Subprotocol("tidegate.v1.json")]}
    async with connect(f"{gateway.ws_url}?member={name}", **options) as connection:  # type: ignore[arg-type]
        client = Browser(connection)
        await client.ask(type="subscribe", room="hall")
        yield client


async def test_who_is_sent_away_has_not_left_unless_it_stays_away(start_node: StartNode) -> None:
    leaving, staying = start_node("a", free_port()), start_node("b", free_port())
    async with member(staying, "observer") as observer:

        async def present() -> list[str]:
            answer = await observer.ask(type="presence", room="hall")
            return sorted(each["member"] for each in answer["data"]["members"])

        async def next_change() -> tuple[str, str]:
            while (heard := await observer.hear())["type"] not in ("joined", "left"):
                pass
            return heard["type"], heard["who"]["member"]

        async with member(leaving, "ann") as ann, member(leaving, "bob") as bob:
            joined = {await next_change(), await next_change()} - {("joined", "observer")}
            while len(joined) < 2:
                joined.add(await next_change())
            assert joined == {("joined", "ann"), ("joined", "bob")}
            leaving.send_signal(signal.SIGTERM)
            for client in (ann, bob):
                while (await client.hear())["type"] != "bye":
                    pass
        async with member(staying, "ann"):  # who comes back; bob doesn't
            assert await asyncio.to_thread(leaving.wait) == 0
            assert "ann" in await present()
            assert await next_change() == ("left", "bob")
            assert await present() == ["ann", "observer"]
