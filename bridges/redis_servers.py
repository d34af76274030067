"""Finds the server that has the keys of a hash tag, and connects to it: by address, by sentinels, or in a cluster."""

import asyncio
import ssl
from typing import Any, Final

from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.sentinel import Sentinel
from redis.crc import key_slot
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from bridges.redis_options import RedisOptions, RedisUnavailable

__all__ = ["connect"]

LEAST_VERSION: Final = 7
"""Functions of streams, and sharded pub/sub, came with it."""


async def connect(options: RedisOptions, tag: str) -> Connection:
    """A connection to the primary that has the keys with this tag; addresses are tried in turn.

    Raises:
        RedisUnavailable: none answers as it should; says what each said.
    """
    found = []
    for host, port in await _addresses(options):
        try:
            return await _lead_on(options, tag, await _open(options, host, port))
        except (RedisUnavailable, RedisError, OSError, ssl.SSLError) as error:
            found.append(f"{host}:{port}: {str(error) or type(error).__name__}")
    raise RedisUnavailable("; ".join(found))


async def _addresses(options: RedisOptions) -> tuple[tuple[str, int], ...]:
    if options.service is None:
        return options.addresses
    sentinels = Sentinel(options.addresses, **{**_parameters(options), "db": 0})  # type: ignore[no-untyped-call]
    try:
        return (await sentinels.discover_master(options.service),)
    except (RedisError, OSError, ssl.SSLError) as error:
        raise RedisUnavailable(f"sentinels for {options.service}: {error}") from None
    finally:
        for each in sentinels.sentinels:
            await each.aclose()


def _parameters(options: RedisOptions) -> dict[str, Any]:
    tls: dict[str, Any] = {}
    if options.tls:
        tls = {"ssl_ca_certs": None if options.ca_file is None else str(options.ca_file)}
        if options.service is not None:
            tls["ssl"] = True
    return {
        "username": options.username,
        "password": options.password,
        "db": options.database,
        "socket_connect_timeout": options.connect_timeout_seconds,
        "socket_timeout": options.connect_timeout_seconds,
        **tls,
    }


async def _open(options: RedisOptions, host: str, port: int) -> Connection:
    parameters = _parameters(options)
    parameters.pop("ssl", None)
    kind = SSLConnection if options.tls else Connection
    connection = kind(
        host=host,
        port=port,
        protocol=3,
        client_name=f"tidegate-{options.node}",
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **parameters,
    )
    async with asyncio.timeout(options.connect_timeout_seconds):  # wait_for of Python 3.11 may swallow a cancellation
        await connection.connect()  # type: ignore[no-untyped-call]
    return connection


async def _lead_on(options: RedisOptions, tag: str, connection: Connection) -> Connection:
    """The connection itself, or in a cluster one to the node that has the slot of the tag."""
    try:
        hello = await _ask(connection, "HELLO")
        _check(hello)
        if hello[b"mode"] != b"cluster":
            return connection
        host, port = _owner(await _ask(connection, "CLUSTER", "SLOTS"), key_slot(tag.encode()))
    except BaseException:
        await connection.disconnect()
        raise
    if (host or connection.host, port) == (connection.host, connection.port):
        return connection
    host = host or connection.host
    await connection.disconnect()
    return await _open(options, host, port)


def _check(hello: dict[bytes, Any]) -> None:
    version = hello[b"version"].decode()
    if int(version.partition(".")[0]) < LEAST_VERSION:
        raise RedisUnavailable(f"Redis {version}: expected version {LEAST_VERSION} or later")
    if hello[b"mode"] != b"cluster" and hello[b"role"] != b"master":
        raise RedisUnavailable("it is a replica: expected the primary, or the addresses of its sentinels")


async def _ask(connection: Connection, *command: str) -> Any:
    await connection.send_command(*command)
    return await connection.read_response(disable_decoding=True)


def _owner(ranges: list[list[Any]], slot: int) -> tuple[str, int]:
    for first, last, primary, *_ in ranges:
        if first <= slot <= last:
            return (primary[0] or b"").decode(), primary[1]
    raise RedisUnavailable(f"no node of the cluster has slot {slot}")
