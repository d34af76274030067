"""One run: clients and publishers at work while one fault comes after the other, and the log read in the end."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from benchmarks.faults.breakages import DATA_LOSS, FAULTS, Fault
from benchmarks.faults.cluster import Cluster
from benchmarks.faults.crowd import Crowd, Phase
from benchmarks.faults.publishing import Publishing
from benchmarks.faults.report import Report, Row

__all__ = ["Options", "Run"]

DEVICES_A_GROUP: Final = 5
HALLS: Final = 10
RECOVERY_SECONDS: Final = 90.0
WANDERING_SECONDS: Final = 0.5
"""How often somebody subscribes to one more room."""


@dataclass(frozen=True)
class Options:
    """How much of what."""

    clients: int = 300
    rate: float = 500.0
    """Messages a second, of all who publish together."""
    seconds: float = 60.0
    """How long they publish at least; longer if the faults take longer."""
    pause_seconds: float = 10.0
    """How long Redis is paused, and a gateway cut off from it."""
    calm_seconds: float = 2.0
    """Before, between and after the faults."""
    groups: int = 10
    """Groups of devices, five in each."""
    only: str = ""
    """Only faults whose name has this."""
    rounds: int = 1
    """How often each of them happens, but for the last one."""
    seed: int = 1


class Run:
    """Clients and publishers of one cluster, and what becomes of them."""

    def __init__(self, options: Options, cluster: Cluster, say: Callable[[str], None] = lambda _: None) -> None:
        random = Random(options.seed)
        groups = {
            f"faults/{group}/+": [f"faults/{group}/{device}" for device in range(DEVICES_A_GROUP)]
            for group in range(options.groups)
        }
        halls = [f"halls/{number}" for number in range(HALLS)]
        self.report = Report()
        self._options, self._cluster, self._say = options, cluster, say
        self._publishing = Publishing(groups, halls, options.rate, cluster.port, random)
        self._crowd = Crowd(options.clients, groups, halls, random)

    async def run(self) -> None:
        """All of it.

        Raises:
            ExceptionGroup: something was waited for in vain.
        """
        cluster, clients = self._cluster, self._crowd.clients
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(device.stay(cluster.broker.port)) for device in self._publishing.devices]
            started += [tasks.create_task(client.live(cluster.port)) for client in clients]
            await self._until(lambda: all(client.arrived.is_set() for client in clients), lambda: "all are there")
            started.append(tasks.create_task(self._publishing.run()))
            await self._break(tasks)
            for task in started:
                task.cancel()

    async def _break(self, tasks: asyncio.TaskGroup) -> None:
        options, start = self._options, time.monotonic()
        self._begin("nothing")
        wandering = tasks.create_task(self._wander())
        with self._publishing.on():
            await asyncio.sleep(options.calm_seconds)
            for fault in [fault for fault in FAULTS if options.only in fault.name] * options.rounds:
                await self._suffer(fault)
            await asyncio.sleep(max(0.0, start + options.seconds - time.monotonic()))
        wandering.cancel()
        await self._settle()
        before = await self._publishing.evidence()
        self.report.judge(self._crowd, before)
        if options.only in DATA_LOSS.name:
            for client in self._crowd.clients:
                client.ledger.begin_anew()
            with self._publishing.on():
                await self._suffer(DATA_LOSS)
            await self._settle()
            after = await self._publishing.evidence()
            after.since = before.judged
            self.report.judge(self._crowd, after)

    async def _wander(self) -> None:
        while True:
            await asyncio.sleep(WANDERING_SECONDS)
            self._crowd.wander()

    def _begin(self, name: str) -> Row:
        """Begin a phase."""
        row = Row(name, Phase(len(self.report.rows)))
        self.report.rows.append(row)
        self._crowd.phase = row.phase
        self._publishing.phase = row.phase.number
        return row

    async def _suffer(self, fault: Fault) -> None:
        """Let a fault happen, and wait until all have all again."""
        row, start = self._begin(fault.name), time.time()
        if fault is DATA_LOSS:
            row.phase.is_data_lost = True
            self._cluster.data_is_gone = self._crowd.lose_data
        await fault.happen(self._cluster, self._options.pause_seconds)
        row.lasted_seconds = time.time() - start
        await self._recover()
        row.recovered_seconds = max(0.0, row.phase.newest_late - start)
        await asyncio.sleep(self._options.calm_seconds)
        self._say(f"{row.name}: all had all after {row.recovered_seconds:.1f} s")

    async def _recover(self) -> None:
        newest = self._publishing.newest
        await asyncio.to_thread(self._cluster.wait_until_ready)
        await self._until(
            lambda: self._crowd.has(newest), lambda: f"all have all; not yet: {self._crowd.behind(newest)}"
        )

    async def _settle(self) -> None:
        """Wait until all that was published is acknowledged or given up, and all clients have it."""
        await self._until(lambda: self._publishing.is_idle, lambda: "all is acknowledged")
        await self._recover()

    async def _until(self, condition: Callable[[], bool], what: Callable[[], str]) -> None:
        end = time.monotonic() + RECOVERY_SECONDS
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {RECOVERY_SECONDS:g} s in vain: {what()}")
            await asyncio.sleep(0.05)
