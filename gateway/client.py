"""A small client of a running gateway, for `tidegate sub` and `pub`, over WebSocket, and for `tidegate ticket`.

Where a token is shown, no redirect is followed: it could lead the token to somebody else.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from random import Random
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from gateway.core.wire import SUBPROTOCOL

__all__ = ["ClientError", "endpoint", "fetch_ticket", "publish", "subscribe"]

TIMEOUT_SECONDS: Final = 10.0
MAXIMUM_ANSWER_BYTES: Final = 65_536
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 15.0
PASSING_STATUSES: Final = (429, 502, 503, 504)
"""What a gateway that leaves answers, or a proxy whose gateway does."""


class ClientError(Exception):
    """The gateway can't be reached, or refused; the text says which and why."""

    def __init__(self, text: str, *, may_pass: bool = False) -> None:
        super().__init__(text)
        self.may_pass = may_pass
        """Whether it may be otherwise soon."""


async def subscribe(
    url: str, rooms: Sequence[str], token: str | None, notice: Callable[[str], None], random: Random
) -> AsyncGenerator[dict[str, Any], None]:
    """The last values of some rooms or patterns, then their messages as they come, over one connection after the other.

    Args:
        url: Where the gateway listens.
        rooms: Those that are subscribed to.
        token: Says who this is.
        notice: Is told why there is to be another connection, and of messages that are lost.
        random: For the pauses: not all who lost their gateway come back in the same moment.

    Raises:
        ClientError: the gateway can't be reached at first, or refuses.
    """
    place = _Place(list(dict.fromkeys(rooms)), notice)
    attempts = 0
    while True:
        try:
            async with _connected(url, token) as connection:
                for request in place.requests():
                    await _send(connection, type="subscribe", id=0, **request)
                async for received in _objects(connection):
                    attempts = 0
                    for message in place.take(received):
                        yield message
        except ClientError as error:
            if not (place.known and error.may_pass):
                raise
            notice(f"{error}: connecting again")
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempts)
        attempts += 1
        await asyncio.sleep(random.uniform(0.2, 1.0) * longest)


class _Place:
    """Where a subscriber is: what it comes back with."""

    def __init__(self, rooms: list[str], notice: Callable[[str], None]) -> None:
        self._rooms = rooms
        self._notice = notice
        self._told: set[str] = set()
        """Rooms of which all was heard up to the cursor."""
        self._cursor = ""
        self.known = False
        """Whether the gateway has let it in once."""

    def requests(self) -> list[dict[str, Any]]:
        """What to subscribe to: first the rooms to come back to, then those that are new."""
        again = [room for room in self._rooms if room in self._told]
        new = [room for room in self._rooms if room not in self._told]
        return [*([{"room": again, "since": self._cursor}] if again else []), *([{"room": new}] if new else [])]

    def take(self, received: dict[str, Any]) -> list[dict[str, Any]]:
        """The messages in what the gateway said."""
        match received["type"]:
            case "welcome":
                self.known = True
            case "message":
                self._cursor = received["cursor"]
                return [received]
            case "subscribed":
                room = received["room"]
                if "cursor" in received:
                    self._cursor = received["cursor"]
                    if room in self._told and not received["recovered"]:
                        self._notice(f"{room}: the gateway hasn't kept all that came meanwhile; its last values follow")
                    self._told.add(room)
                return list(received["last"])
        return []


async def publish(url: str, room: str, data: Any, token: str | None = None) -> None:
    """Publish into a room; returns once the gateway has acknowledged it.

    Raises:
        ClientError: the gateway can't be reached, or refuses.
    """
    async with _connected(url, token) as connection:
        await _send(connection, type="publish", id=0, room=room, data=data)
        async for received in _objects(connection):
            if received["type"] == "ack":
                return


def fetch_ticket(url: str, token: str) -> tuple[str, float]:
    """A ticket for who shows a token, and for how many seconds it lets in.

    Raises:
        ClientError: the gateway can't be reached, or refuses.
    """
    parts, named = urlsplit(endpoint(url, "ticket")), _parts(url)[1]
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    try:
        with closing(kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)) as connection:
            connection.request("POST", parts.path, headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            body = response.read(MAXIMUM_ANSWER_BYTES)
            if response.status != 200:
                raise ClientError(_problem(body) or f"{named}: expected status 200, found {response.status}")
            answer = orjson.loads(body)
            return str(answer["ticket"]), float(answer["expires_in_seconds"])
    except OSError as error:
        raise ClientError(f"no gateway answers at {named}: {error.strerror or error}") from None
    except (HTTPException, ValueError, KeyError, TypeError):
        raise ClientError(f"{named}: expected the answer of a gateway, found another one") from None


def _problem(body: bytes) -> str | None:
    """What problem details (RFC 9457) say, if these are some."""
    try:
        details = orjson.loads(body)
        return f"{details['code']}: {details['detail']}"
    except (ValueError, KeyError, TypeError):
        return None


def endpoint(url: str, name: str) -> str:
    """The address of one of the gateway's endpoints, for `ws` with the scheme of WebSocket.

    Raises:
        ClientError: the gateway's address is none.
    """
    parts, named = _parts(url)
    schemes = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
    if parts.scheme not in schemes or not parts.hostname:
        raise ClientError(f"{named!r} is no address: expected one such as http://localhost:8080")
    scheme = schemes[parts.scheme]
    if name == "ws":
        scheme = scheme.replace("http", "ws")
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((scheme, netloc, f"{parts.path.rstrip('/')}/{name}", "", ""))


async def _send(connection: ClientConnection, **fields: Any) -> None:
    await connection.send(orjson.dumps(fields).decode())


async def _objects(connection: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    async for text in connection:
        received: dict[str, Any] = orjson.loads(text)
        if received["type"] == "error":
            raise ClientError(f"{received['code']}: {received['message']}")
        if received["type"] == "bye":
            raise ClientError(f"{received['code']}: {received['reason']}", may_pass=received["retry"])
        yield received
    raise ClientError("the gateway closed the connection", may_pass=True)


def _parts(url: str) -> tuple[SplitResult, str]:
    """An address taken apart, and how to name it: without a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname and parts.hostname.encode("idna")  # both may be wrong
    except ValueError:
        named = "what was given" if "@" in url else repr(url)
        raise ClientError(f"{named} is no address: expected one such as http://localhost:8080") from None
    return parts, urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _address(url: str) -> tuple[str, str]:
    """Where the WebSocket is, and how to name that: without a password."""
    parts, named = _parts(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws", "", "")), named


class _Direct(connect):
    """Connects to where it is told to, and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow none."""
        return exc


@asynccontextmanager
async def _connected(url: str, token: str | None) -> AsyncIterator[ClientConnection]:
    address, named = _address(url)
    try:
        opening = connect(address, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=None)
        if token is not None:
            headers = {"Authorization": f"Bearer {token}"}
            opening = _Direct(
                address, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=None, additional_headers=headers
            )
        async with opening as connection:
            yield connection
    except InvalidURI:
        raise ClientError(f"{named!r} is no address: expected one such as http://localhost:8080") from None
    except InvalidStatus as error:
        status = error.response.status_code
        told = _problem(error.response.body or b"") or f"status {status}"
        text = f"{named}: the gateway refused the connection: {told}"
        raise ClientError(text, may_pass=status in PASSING_STATUSES) from None
    except InvalidHandshake as error:
        raise ClientError(f"{named}: the gateway refused the connection: {error}", may_pass=True) from None
    except ConnectionClosed as error:
        raise ClientError(f"{named}: the connection was lost: {error}", may_pass=True) from None
    except OSError as error:
        raise ClientError(f"no gateway answers at {named}: {error.strerror or error}", may_pass=True) from None
