"""What doors have in common: how a case becomes a request, and what an answer over HTTP comes to."""

import json
import struct
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote

from tests.security.case import Case
from tests.security.raw import UPGRADE, RawWebSocket, statuses
from tests.security.tokens import TOKENS

__all__ = ["Door", "Ports", "close_code", "head", "opened", "outcome"]


class Ports(Protocol):
    """Where the gateway is, and what devices and browsers do around it."""

    port: int
    broker_port: int

    def heard_of(self, topic: str, payload: bytes) -> list[dict[str, Any]]:
        """What a browser hears when a device publishes."""
        ...


Door: TypeAlias = Callable[[Ports, Case], str]


def head(ports: Ports, case: Case, method: str, path: str, more: bytes = b"") -> bytes:
    """The head of a request: what the case says of it, and else what is usual."""
    headers = case.headers
    if not any(name.lower() == "host" for name, _ in headers):
        headers = (("Host", f"127.0.0.1:{ports.port}"), *headers)
    if case.token is not None:
        headers = (*headers, ("Authorization", f"Bearer {TOKENS[case.token]()}"))
    query = f"room={quote(case.room, safe='', errors='surrogatepass')}" if case.query is None else case.query
    target = f"{case.namespace}{path}?{query}" if query else f"{case.namespace}{path}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{method} {target} HTTP/1.1\r\n{lines}".encode("latin-1") + more + b"\r\n"


def outcome(heard: bytes) -> str:
    """`ok`, or the code of the problem; the status where there is none."""
    (status, *_) = statuses(heard) or [0]
    if 100 < status < 300:
        return "ok"
    try:
        return str(json.loads(heard.partition(b"\r\n\r\n")[2])["code"])
    except (ValueError, KeyError):
        return str(status)


def opened(ports: Ports, case: Case, path: str = "/ws", more: bytes = b"") -> RawWebSocket:
    """A WebSocket, if it is let in."""
    return RawWebSocket(ports.port, head(ports, case, "GET", path, UPGRADE + more))


def close_code(data: bytes) -> int:
    """With what a frame closes (RFC 6455 §7.1.5)."""
    return int(struct.unpack_from("!H", data)[0]) if len(data) >= 2 else 1005
