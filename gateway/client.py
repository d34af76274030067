"""A small client of a running gateway, for `tidegate sub` and `tidegate pub`, over WebSocket."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from gateway.core.wire import SUBPROTOCOL

__all__ = ["ClientError", "publish", "subscribe"]


class ClientError(Exception):
    """The gateway can't be reached, or refused; the text says which and why."""


async def subscribe(url: str, rooms: Sequence[str]) -> AsyncGenerator[dict[str, Any], None]:
    """The last values of some rooms or patterns, then their messages as they come.

    Raises:
        ClientError: the gateway can't be reached, refuses, or goes away.
    """
    async with _connected(url) as connection:
        await _send(connection, type="subscribe", id=0, room=list(dict.fromkeys(rooms)))
        async for received in _objects(connection):
            match received["type"]:
                case "subscribed":
                    for message in received["last"]:
                        yield message
                case "message":
                    yield received


async def publish(url: str, room: str, data: Any) -> None:
    """Publish into a room; returns once the gateway has acknowledged it.

    Raises:
        ClientError: the gateway can't be reached, or refuses.
    """
    async with _connected(url) as connection:
        await _send(connection, type="publish", id=0, room=room, data=data)
        async for received in _objects(connection):
            if received["type"] == "ack":
                return


async def _send(connection: ClientConnection, **fields: Any) -> None:
    await connection.send(orjson.dumps(fields).decode())


async def _objects(connection: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    async for text in connection:
        received: dict[str, Any] = orjson.loads(text)
        if received["type"] == "error":
            raise ClientError(f"{received['code']}: {received['message']}")
        if received["type"] == "bye":
            raise ClientError(f"{received['code']}: {received['reason']}")
        yield received
    raise ClientError("the gateway closed the connection")


def _address(url: str) -> tuple[str, str]:
    """Where the WebSocket is, and how to name that: without a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname and parts.hostname.encode("idna")  # both may be wrong
    except ValueError:
        named = "what was given" if "@" in url else repr(url)
        raise ClientError(f"{named} is no address: expected one such as http://localhost:8080") from None
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    address = urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws", "", ""))
    return address, urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[ClientConnection]:
    address, named = _address(url)
    try:
        async with connect(address, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=None) as connection:
            yield connection
    except InvalidURI:
        raise ClientError(f"{named!r} is no address: expected one such as http://localhost:8080") from None
    except InvalidHandshake as error:
        raise ClientError(f"{named}: the gateway refused the connection: {error}") from None
    except ConnectionClosed as error:
        raise ClientError(f"{named}: the connection was lost: {error}") from None
    except OSError as error:
        raise ClientError(f"no gateway answers at {named}: {error.strerror or error}") from None
