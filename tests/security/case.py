"""What one attack is: data, which doors know how to send.

To add one, write a `Case` into the module of its category (`cases_*.py`), with a name that nothing else has, the doors
that it applies to (the keys of `doors.DOORS`), what is sent, and what is to come of it; then run
`python -m tests.security.table`, which prints the table into docs/security.md. A new category is a new module, named in
`table.MODULES`. Whatever the case, the runner proves afterwards that nobody else was hurt: see `target.Target.check`.
"""

from dataclasses import dataclass, fields
from typing import Any, Final

__all__ = ["ACTIONS", "BATCH", "CALL", "HTTP", "PATTERNS", "READS", "WRITES", "Case"]

BATCH: Final = "POST /publish (NDJSON)"
CALL: Final = "peerjs call"
WRITES: Final = ("ws publish", "POST /publish", BATCH, "socket.io publish", "mqtt publish")
ACTIONS: Final = (*WRITES, "ws request", "ws presence", "POST /request", "GET /presence", CALL)
"""Doors that take one room."""
PATTERNS: Final = (
    "ws subscribe",
    "sse",
    "GET /poll",
    "GET /last",
    "GET /history",
    "socket.io subscribe",
    "mqtt subscribe",
)
"""Doors that take patterns."""
READS: Final = (*PATTERNS, "GET /presence")
HTTP: Final = ("sse", "GET /poll", "POST /publish", "POST /request", "GET /last", "GET /history", "GET /presence")


@dataclass(frozen=True)
class Case:
    """One attack. What isn't said is as a client that behaves would send it."""

    name: str
    category: str
    doors: tuple[str, ...]
    outcome: str
    """`ok`, the code of an error, a status, or what the door calls it."""
    room: str = "open/x"
    query: str | None = None
    """The query as it is sent, instead of `room`."""
    body: bytes = b"1"
    """A body, a WebSocket message, or a device's payload, by the door."""
    raw: bytes = b""
    """Bytes that are sent as they are; `{token}` stands for one that is good."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers besides those needed; `Host` takes the place of the usual one."""
    token: str | None = "all"
    """Which of `tokens.TOKENS` is shown."""
    namespace: str = ""
    topic: str = ""
    """The topic that a device publishes to."""
    reaches: tuple[str, ...] = ()
    """Topics that devices may hear of, since what is sent is taken for what it says."""
    elsewhere: tuple[tuple[str, str], ...] = ()
    """Doors whose protocol has other words for it, and these."""
    plain: str | None = None
    """The outcome under another ASGI server, where that is not the gateway's to decide."""

    def outcome_at(self, door: str) -> str:
        """What is to come of it at one door."""
        return dict(self.elsewhere).get(door, self.outcome)

    @property
    def sent(self) -> str:
        """What is sent, for people: all that isn't as usual."""
        usual: dict[str, Any] = {field.name: field.default for field in fields(self)}
        told = []
        for name in ("token", "namespace", "topic", "room", "query", "headers", "body", "raw"):
            value = getattr(self, name)
            if value != usual[name]:
                told.append(_shown(name, value))
        return ", ".join(told)


def _shown(name: str, value: Any) -> str:
    if name == "headers":
        return ", ".join(_quoted(f"{header}: {text}") for header, text in value)
    label = "" if name == "raw" else f"{name} "
    if name == "token":
        return f"token {value}" if value else "no token"
    return f"{label}{_quoted(value)}"


def _quoted(value: str | bytes) -> str:
    """Text in which nothing can be taken for Markdown, HTML, or another sign than it is."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not text:
        return "of nothing"
    printable = ascii(text)[1:-1].replace("\\\\", "\\")
    short = printable if len(printable) <= 64 else f"{printable[:48]}… ({len(value):,})"
    return f"`{short}`".replace("|", "\\|") if "`" not in short else f"`` {short} ``".replace("|", "\\|")
