"""The rows and columns of the matrix, which of its cells don't apply and why, and the table in docs/clients.md."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser

from tests.matrix.programs import CurlProgram, Program, WebSocketProgram, node, page_program

__all__ = ["BEHAVIOURS", "CLIENTS", "DOCUMENT", "NOT_APPLICABLE", "Client", "table"]

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "clients.md"
START: Final = "<!-- matrix: made by the tests in tests/matrix -->\n"
END: Final = "<!-- /matrix -->\n"

BEHAVIOURS: Final = (
    "live message",
    "order",
    "last value",
    "resume without loss",
    "publish to a device, with ack",
    "refused without permission",
    "limited when flooding",
    "clean disconnection",
    "presence",
)


@dataclass(frozen=True)
class Client:
    """One row: how to start such a client, and how the gateway calls what it comes by."""

    start: Callable[[Browser, str], Program]
    """Given Chromium and the address of the gateway."""
    transport: str
    topics: bool = False
    """Whether it speaks of topics where others speak of rooms."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """How it connects besides."""

    def address(self, room: str, topic: str) -> str:
        """What it calls a room."""
        return topic if self.topics else room


def _page(script: str, *libraries: str) -> Callable[[Browser, str], Program]:
    return lambda chromium, url: page_program(chromium, url, script, *libraries)


def _program(start: Callable[..., Program]) -> Callable[[Browser, str], Program]:
    return lambda chromium, url: start()


_PERSISTENT: Final = {"clean": False, "expiry": 300, "reconnect": 50}

CLIENTS: Final[Mapping[str, Client]] = {
    "websockets (Python)": Client(_program(WebSocketProgram), "websocket"),
    "tidegate.js (Chromium)": Client(_page("dashboard.js"), "websocket"),
    "EventSource (Chromium)": Client(_page("eventsource.js"), "sse"),
    "fetch, polling": Client(_program(node("polling.js")), "polling", options={"wait": 0}),
    "fetch, long polling": Client(_program(node("polling.js")), "polling", options={"wait": 25}),
    "socket.io-client, WebSocket": Client(_program(node("socketio.js", "websocket")), "socketio"),
    "socket.io-client, polling": Client(_program(node("socketio.js", "polling")), "socketio"),
    "mqtt.js": Client(_program(node("mqttjs.js")), "mqtt", topics=True, options=_PERSISTENT),
    "Paho (Chromium)": Client(_page("paho.js", "paho-mqtt/paho-mqtt-min.js"), "mqtt", topics=True),
    "peerjs (Chromium)": Client(_page("peerjs.js", "peerjs/dist/peerjs.min.js"), "peerjs"),
    "curl": Client(_program(CurlProgram), "sse"),
}

_NEVER_THERE: Final = "who asks now and then is in no room meanwhile"
_CALLS: Final = "its messages go from page to page, and only the call itself goes by the gateway"

NOT_APPLICABLE: Final[Mapping[tuple[str, str], str]] = {
    ("fetch, polling", "presence"): _NEVER_THERE,
    ("peerjs (Chromium)", "last value"): _CALLS,
    ("peerjs (Chromium)", "resume without loss"): _CALLS,
    ("peerjs (Chromium)", "publish to a device, with ack"): _CALLS,
}


def table(failed: frozenset[tuple[str, str]] = frozenset()) -> str:
    """The matrix in Markdown."""
    reasons = list(dict.fromkeys(NOT_APPLICABLE.values()))
    lines = ["| client | " + " | ".join(BEHAVIOURS) + " |", "|---" * (len(BEHAVIOURS) + 1) + "|"]
    for client in CLIENTS:
        cells = []
        for behaviour in BEHAVIOURS:
            reason = NOT_APPLICABLE.get((client, behaviour))
            mark = "no" if (client, behaviour) in failed else "yes"
            cells.append(mark if reason is None else f"– ({reasons.index(reason) + 1})")
        lines.append(f"| {client} | " + " | ".join(cells) + " |")
    notes = [f"({number}) Not applicable: {reason}." for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes, ""])


def write(failed: frozenset[tuple[str, str]]) -> None:
    """Print what was found into the document."""
    text = DOCUMENT.read_text()
    before, after = text.partition(START)[0], text.partition(END)[2]
    DOCUMENT.write_text(before + START + table(failed) + END + after)
