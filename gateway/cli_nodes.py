"""The command line about gateways that are one: `tidegate nodes`."""

import asyncio
from datetime import UTC, datetime
from random import SystemRandom

import typer

from gateway.cli_common import DEFAULT_CONFIG, Config, fail, load
from gateway.core.clock import SystemClock

__all__ = ["nodes"]


def nodes(config: Config = DEFAULT_CONFIG) -> None:
    """List the gateways that share the Redis of a configuration, and when each was heard of last."""
    from bridges.redis_nodes import read_list  # slow to import, and other commands don't need it
    from bridges.redis_options import RedisUnavailable
    from gateway.cluster import Cluster

    settings = load(config)
    cluster = Cluster.of(settings, SystemClock(), SystemRandom())
    if cluster is None:
        fail(f"tidegate: expected an `engine.url` of Redis, which joins gateways; found {settings.engine.url}")
    try:
        found = asyncio.run(read_list(cluster.options, cluster.common.tag))
    except RedisUnavailable as error:
        fail(f"tidegate: Redis can't be reached: {error}")
    for node, silent_seconds in found:
        since = datetime.fromtimestamp(node.since, UTC)
        typer.echo(
            f"{node.name}: Tidegate {node.version}, process {node.pid} on {node.host}, since {since:%Y-%m-%d %H:%M:%S} "
            f"UTC, heard {silent_seconds:.1f} s ago"
        )
    if not found:
        fail("tidegate: no gateway is there")
