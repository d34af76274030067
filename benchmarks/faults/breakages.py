"""The faults, one after the other: each breaks a part of the cluster and mends it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.faults.cluster import Cluster

__all__ = ["DATA_LOSS", "FAULTS", "Fault"]

AWAY_SECONDS: Final = 0.5
"""How long what was ended stays away."""


@dataclass(frozen=True)
class Fault:
    """One fault."""

    name: str
    happen: Callable[[Cluster, float], Awaitable[None]]
    """Breaks and mends. What is paused or cut off is so for this many seconds."""


async def kill(cluster: Cluster, seconds: float) -> None:  # noqa: ARG001
    await _start_again(cluster, (await _owner(cluster) + 1) % len(cluster.gateways), cluster.kill)


async def drain(cluster: Cluster, seconds: float) -> None:  # noqa: ARG001
    await _start_again(cluster, (await _owner(cluster) + 2) % len(cluster.gateways), cluster.drain)


async def kill_owner(cluster: Cluster, seconds: float) -> None:  # noqa: ARG001
    await _start_again(cluster, await _owner(cluster), cluster.kill)


async def _owner(cluster: Cluster) -> int:
    return await asyncio.to_thread(cluster.owner)


async def _start_again(cluster: Cluster, number: int, end: Callable[[int], None]) -> None:
    await asyncio.to_thread(end, number)
    await asyncio.sleep(AWAY_SECONDS)
    await asyncio.to_thread(cluster.start, number)


async def restart_broker(cluster: Cluster, seconds: float) -> None:  # noqa: ARG001
    await asyncio.to_thread(cluster.broker.stop)
    await asyncio.sleep(AWAY_SECONDS)
    await asyncio.to_thread(cluster.broker.start)


async def restart_redis(cluster: Cluster, seconds: float) -> None:  # noqa: ARG001
    await asyncio.to_thread(cluster.redis.kill)
    await asyncio.sleep(AWAY_SECONDS)
    await asyncio.to_thread(cluster.redis.start)


async def pause_redis(cluster: Cluster, seconds: float) -> None:
    cluster.redis.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    cluster.redis.send_signal(signal.SIGCONT)


async def cut_off(cluster: Cluster, seconds: float) -> None:
    cluster.between.freeze()
    await asyncio.sleep(seconds)
    cluster.between.thaw()


async def lose_data(cluster: Cluster, seconds: float) -> None:  # noqa: ARG001
    await asyncio.to_thread(cluster.redis.kill)
    await asyncio.to_thread(cluster.redis.forget)
    await asyncio.sleep(AWAY_SECONDS)
    cluster.data_is_gone()
    await asyncio.to_thread(cluster.redis.start)


FAULTS: Final = (
    Fault("a gateway is killed (SIGKILL)", kill),
    Fault("a gateway is drained (SIGTERM)", drain),
    Fault("the upstream's owner is killed", kill_owner),
    Fault("the broker restarts", restart_broker),
    Fault("Redis restarts with its data", restart_redis),
    Fault("Redis is paused", pause_redis),
    Fault("a gateway is cut off from Redis", cut_off),
)
DATA_LOSS: Final = Fault("Redis restarts without its data", lose_data)
