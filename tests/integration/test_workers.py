"""`tidegate run --workers`: several processes on one port, seen to by a parent."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.config import Settings
from gateway.run_workers import _problems
from tests.integration.conftest import Browser, browser
from tests.integration.test_program import handles
from tests.real import TIDEGATE, GatewayProcess, Mosquitto, Running, configuration, free_port, listens, wait_until
from tests.redis import RedisServer, redis_server

WORKERS = 3
FOREVER = 3000


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    first = free_port()
    while any(listens(first + number) for number in range(count)):
        first = free_port()
    return first


class Gateway(GatewayProcess):
    """A gateway of several workers."""

    def __init__(self, folder: Path, plant: Mosquitto, redis: RedisServer, **changes: Any) -> None:
        self.first_ops_port = free_ports(WORKERS)
        ops, engine = {"port": self.first_ops_port}, {"url": redis.url, "prefix": f"w{self.first_ops_port}"}
        options = changes.pop("options", {})
        config = configuration(plant.port, ops=ops, engine=engine, cluster={"node": "n"}, **changes)
        super().__init__(folder, config, "--workers", str(WORKERS), **options)

    def of_worker(self, index: int, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.first_ops_port + index}{path}")

    def sessions(self) -> list[int]:
        """How many WebSocket clients each worker has."""
        line = re.compile(r'tidegate_sessions{namespace="default",transport="websocket"} (\d+)')
        found = [line.search(self.of_worker(index, "/metrics").text) for index in range(WORKERS)]
        return [int(match[1]) for match in found if match]

    def restarts(self, index: int) -> int:
        """How often a worker was started again."""
        with suppress(httpx.TransportError):
            found = re.search(
                rf'tidegate_worker_restarts_total{{worker="{index}"}} (\d+)', self.of_worker(index, "/metrics").text
            )
            return int(found[1]) if found else -1
        return -1

    def pids(self) -> list[int]:
        """The workers' processes."""
        return children_of(self.process.pid)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def until(condition: Callable[[], Any], what: str) -> Any:
    return await asyncio.to_thread(wait_until, condition, what)


async def bye_of(client: Browser) -> dict[str, Any]:
    """How a client is sent away."""
    while (heard := await client.hear())["type"] != "bye":
        pass
    return heard


async def subscribers(gateway: Gateway, clients: AsyncExitStack, count: int) -> list[Browser]:
    found = [await clients.enter_async_context(browser(gateway)) for _ in range(count)]
    for client in found:
        await client.ask(type="subscribe", room="chat/x")
    return found


async def test_several_processes_are_one_gateway(tmp_path: Path, plant: Mosquitto, redis: RedisServer) -> None:
    with Gateway(tmp_path / "gateway", plant, redis) as gateway:
        async with AsyncExitStack() as clients:
            await until(lambda: all(gateway.of_worker(n, "/readyz").status_code == 200 for n in range(WORKERS)), "up")
            everybody = await subscribers(gateway, clients, 24)
            shares = gateway.sessions()
            print(f"connections of each worker: {shares}")
            assert sum(shares) == 24
            assert sum(map(bool, shares)) >= 2  # the system spreads them
            await everybody[0].say(type="publish", room="chat/x", data="to all")
            for client in everybody:
                assert (await client.messages(1))[0]["data"] == "to all"

            lost = gateway.pids()[-1]
            os.kill(lost, signal.SIGKILL)
            await until(lambda: 1 in map(gateway.restarts, range(WORKERS)), "another one serves in its place")
            assert lost not in gateway.pids()
            assert len(gateway.pids()) == WORKERS
            remaining = sum(gateway.sessions())
            assert remaining < 24
            answers = [await until(lambda: httpx.get(gateway.url), "it serves") for _ in range(20)]
            assert {answer.status_code for answer in answers} == {200}

            gateway.send_signal(signal.SIGHUP)
            await until(lambda: gateway.text.count("nothing has changed in the configuration") == WORKERS, "all reload")

            newcomer = await clients.enter_async_context(browser(gateway))
            gateway.send_signal(signal.SIGTERM)
            heard = await bye_of(newcomer)
            assert (heard["code"], heard["retry"]) == ("shutting_down", True)
            assert await asyncio.to_thread(gateway.wait) == 0
        assert gateway.text.count("Tidegate 0.") == 1
        assert f"workers    {WORKERS}" in gateway.text
        assert re.search(r"worker \d ended by SIGKILL; it is started again in", gateway.text)
        assert re.search(r"worker \d serves again", gateway.text)
        assert '"worker": 2' in gateway.text
        assert "Traceback" not in gateway.text


async def test_a_signal_for_all_processes_is_one_and_not_two(
    tmp_path: Path, plant: Mosquitto, redis: RedisServer
) -> None:
    options = {"start_new_session": True}
    with Gateway(tmp_path / "gateway", plant, redis, drain_seconds=FOREVER, options=options) as gateway:
        async with AsyncExitStack() as clients:
            everybody = await subscribers(gateway, clients, 12)
            os.killpg(gateway.process.pid, signal.SIGTERM)  # as systemd and terminals do
            await until(lambda: not listens(gateway.port), "nobody is let in any more")
            states = [gateway.of_worker(index, "/readyz").json()["status"] for index in range(WORKERS)]
            assert states == ["draining"] * WORKERS
            assert sum(gateway.sessions()) >= 10  # they have an hour, nearly
            os.killpg(gateway.process.pid, signal.SIGTERM)
            for client in everybody:
                assert (await bye_of(client))["code"] == "shutting_down"
            assert await asyncio.to_thread(gateway.wait) == 0


def test_ctrl_c_ends_it_in_good_order_whenever_it_comes(tmp_path: Path, plant: Mosquitto, redis: RedisServer) -> None:
    config = configuration(plant.port, listen={"port": 0}, engine={"url": redis.url})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    for moment in range(6):
        command: list[str | Path] = [TIDEGATE, "run", "--workers", "2"]
        with Running(command, tmp_path / f"{moment}.log", cwd=tmp_path, start_new_session=True) as program:
            wait_until(lambda: handles(program.process.pid, signal.SIGTERM), "Python has started")
            time.sleep(moment * 0.15)  # any moment will do
            os.killpg(program.process.pid, signal.SIGINT)
            assert program.wait() == 0, program.text
            assert "Traceback" not in program.text
            with pytest.raises(ProcessLookupError):
                os.killpg(program.process.pid, 0)


async def test_no_worker_outlives_a_parent_that_was_killed(
    tmp_path: Path, plant: Mosquitto, redis: RedisServer
) -> None:
    with Gateway(tmp_path / "gateway", plant, redis) as gateway:
        pids = gateway.pids()
        async with browser(gateway) as client:
            gateway.send_signal(signal.SIGKILL)
            assert (await bye_of(client))["code"] == "shutting_down"
        await until(lambda: not any(map(is_alive, pids)), "the workers end")
        assert "the process that started this one is gone" in gateway.text


def test_what_keeps_a_worker_from_starting_is_told_once(tmp_path: Path, plant: Mosquitto, redis: RedisServer) -> None:
    first = free_ports(WORKERS)
    config = configuration(plant.port, listen={"port": 0}, ops={"port": first}, engine={"url": redis.url})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with Running([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(first + 1)], tmp_path / "other.log"):
        wait_until(lambda: listens(first + 1), "another program has the port of the second worker")
        command = [str(TIDEGATE), "run", "--workers", str(WORKERS)]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    told = [line for line in ended.stderr.splitlines() if line.startswith("tidegate: ")]
    assert told == [
        f"tidegate: port {first + 1} on 127.0.0.1 is taken by another program: "
        "set `ops.port` or TIDEGATE_OPS__PORT to another, or leave it out"
    ]
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert not listens(first)


def test_a_port_that_others_share_is_taken(tmp_path: Path, plant: Mosquitto, redis: RedisServer) -> None:
    with Gateway(tmp_path / "gateway", plant, redis) as gateway:
        config = configuration(plant.port, listen={"port": gateway.port}, engine={"url": redis.url})
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        ended = subprocess.run(
            [TIDEGATE, "run", "--workers", "2"], cwd=tmp_path, capture_output=True, text=True, timeout=30
        )
    assert f"port {gateway.port} on 127.0.0.1 is taken by another program" in ended.stderr
    assert ended.returncode == 1


UPSTREAM = {"upstreams": {"plant": {"url": "mqtt://localhost"}}}
SHARED = {"upstreams": {"plant": {"url": "mqtt://localhost", "ingest": "shared", "session": "clean"}}}
KEPT = {
    "upstreams": {
        "plant": {"url": "mqtt://localhost", "ingest": "shared", "client_id": "plant", "session": "persistent"}
    }
}
REDIS = {"engine": {"url": "redis://localhost"}}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({**UPSTREAM, **REDIS, "ops": {"port": 9090}}, []),
        (UPSTREAM, ["`engine.url` such as redis://localhost:6379, found memory:"]),
        (
            {**UPSTREAM, "engine": {"url": "sqlite:a.db"}},
            ["`engine.url` such as redis://localhost:6379, found sqlite:"],
        ),
        (REDIS, ["`upstreams`: the embedded one belongs to one process"]),
        ({}, ["`engine.url`", "`upstreams`"]),
        ({**UPSTREAM, **REDIS, "ops": {"port": 65_534}}, ["`ops.port` of at most 65533"]),
        ({**SHARED, **REDIS}, []),
        ({**SHARED, **REDIS, "cluster": {"node": "a"}}, []),
        ({**KEPT, **REDIS, "cluster": {"node": "a"}}, ["expected `session: clean` of plant"]),
    ],
    ids=range(9),
)
def test_what_several_processes_need_is_said(config: dict[str, Any], told: list[str]) -> None:
    found = list(_problems(Settings.model_validate(config), WORKERS))
    assert len(found) == len(told)
    assert all(expected in problem for expected, problem in zip(told, found, strict=True))


def test_without_a_redis_it_says_so_and_ends(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("upstreams: {plant: {url: 'mqtt://localhost'}}\n")
    ended = subprocess.run(
        [TIDEGATE, "run", "--workers", "2"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert ended.stderr == (
        "tidegate: --workers 2 needs a Redis that joins them: "
        "expected `engine.url` such as redis://localhost:6379, found memory:\n"
    )
    assert ended.returncode == 1
