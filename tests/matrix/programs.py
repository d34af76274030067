"""Clients as programs: each takes the same commands and tells the same events, whatever it speaks.

Commands: `connect {url, token}`, `subscribe {room, since?}`, `publish {room, data}`, `disconnect`. Events: `message`
with `room`, `data`, `cursor` and, for what was there before, `last`; `error` with `code`; `closed`.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import orjson
from playwright.sync_api import Browser, Page
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.browser.conftest import wait_for
from tests.javascript import CLIENTS, ClientError, NodeProgram
from tests.real import DEADLINE_SECONDS, wait_until

__all__ = [
    "CurlProgram",
    "PageProgram",
    "Program",
    "WebSocketProgram",
    "last_values",
    "messages_of",
    "node",
    "page_program",
]

PAGES: Final = Path(__file__).parent / "pages"


class Program(Protocol):
    """A running client."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """All that has happened, in order."""
        ...

    def do(self, name: str, **arguments: Any) -> Any:
        """Have a command carried out; its answer.

        Raises:
            ClientError: it failed; the text has the error's code.
        """
        ...

    def stop(self) -> None:
        """End it."""
        ...


def messages_of(program: Program, room: str, count: int) -> list[Any]:
    """The data of all messages of a room that are new, in order, once there are so many.

    What a client of MQTT is told again, for want of its acknowledgement, says so (MQTT 5 §4.3.2).
    """

    def found() -> list[Any]:
        told: list[Any] = []
        for event in tuple(program.events):
            new = event["event"] == "message" and event["room"] == room and not is_last(event)
            if new and not (event.get("duplicate") and event["data"] in told):
                told.append(event["data"])
        return told

    wait_until(lambda: len(found()) >= count, f"{count} messages; there are {len(found())}: {program.events[-3:]}")
    return found()


def is_last(event: dict[str, Any]) -> bool:
    """Whether a message was there before, and is told as the last value."""
    return bool(event.get("last") or event.get("retained"))


def last_values(program: Program, answer: Any) -> list[Any]:
    """The data of the last values, told by events or in the answer to `subscribe`."""
    answered = answer.get("last", ()) if isinstance(answer, dict) else ()
    told = (event for event in tuple(program.events) if event["event"] == "message" and is_last(event))
    return [message["data"] for message in (*answered, *told)]


class PageProgram:
    """A client in a page of Chromium: `window.commands`, and `window.said` with what has happened."""

    def __init__(self, page: Page) -> None:
        self._page = page

    @property
    def events(self) -> list[dict[str, Any]]:
        """All that has happened."""
        found: list[dict[str, Any]] = json.loads(self._page.evaluate("JSON.stringify(window.said)"))
        return found

    def do(self, name: str, **arguments: Any) -> Any:
        """Call one of its functions."""
        answer = self._page.evaluate(
            """async ([name, given]) => {
                const late = new Promise((resolve) => setTimeout(resolve, 20_000, { error: "no answer" }));
                const answer = (async () => {
                  try { return { value: (await window.commands[name](given)) ?? null }; }
                  catch (error) { return { error: String(error?.message ?? error) }; }
                })();
                return Promise.race([answer, late]);
            }""",
            [name, arguments],
        )
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer["value"]

    def stop(self) -> None:
        """Close the page."""
        self._page.context.close()


def page_program(chromium: Browser, url: str, script: str, *libraries: str) -> PageProgram:
    """A page of the gateway's own origin, with libraries from npm and a script of `pages`."""
    context = chromium.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(f"{url}/healthz")
    page.evaluate("window.said = []; window.say = (object) => window.said.push(object); null")
    for library in libraries:
        page.add_script_tag(path=CLIENTS / "node_modules" / library)
    page.add_script_tag(path=PAGES / script, type="module")
    wait_for(page, "window.commands !== undefined")
    return PageProgram(page)


class WebSocketProgram:
    """The websockets library, as a script would use it: it comes back with the newest cursor it has had."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._connection: ClientConnection | None = None
        self._answers: dict[int, dict[str, Any]] = {}
        self._answered = threading.Condition()
        self._rooms: list[str] = []
        self._cursor: str | None = None
        self._number = 0
        self._address: dict[str, str] = {}
        self._ended = False
        self._welcomed = threading.Event()
        self._reader: threading.Thread | None = None

    def do(self, name: str, **arguments: Any) -> Any:
        """One command."""
        match name:
            case "connect":
                self._address = arguments
                self._open()
                self._reader = threading.Thread(target=self._read, daemon=True)
                self._reader.start()
            case "disconnect":
                self.stop()
            case "subscribe":
                self._ask(type="subscribe", **arguments)
                self._rooms.append(arguments["room"])
            case _:
                self._ask(type=name, **arguments)

    def _open(self) -> None:
        self._connection = connect(
            self._address["url"].replace("http", "ws") + "/ws",
            subprotocols=[Subprotocol("tidegate.v1.json")],
            additional_headers={"Authorization": f"Bearer {self._address['token']}"},
        )

    def _read(self) -> None:
        while not self._ended:
            assert self._connection is not None
            try:
                self._hear(orjson.loads(self._connection.recv()))
            except ConnectionClosed:
                if not self._ended:
                    self._come_back()

    def _come_back(self) -> None:
        def opened() -> bool:
            with suppress(OSError, EOFError, ConnectionClosed):
                self._open()
                return True
            return False

        wait_until(opened, "the gateway is there again")
        assert self._connection is not None
        for room in self._rooms:
            self._connection.send(orjson.dumps({"type": "subscribe", "room": room, "since": self._cursor}).decode())

    def _hear(self, heard: dict[str, Any]) -> None:
        self._cursor = heard.get("cursor", self._cursor)
        match heard["type"]:
            case "message":
                self.events.append({"event": "message", **heard})
            case "subscribed":
                self.events.extend({"event": "message", "last": True, **each} for each in heard["last"])
            case "error":
                self.events.append({"event": "error", "code": heard["code"]})
        if "id" in heard or heard["type"] == "error":  # a flood's messages aren't read: nobody knows their id
            with self._answered:
                self._answers[heard.get("id", self._number)] = heard
                self._answered.notify_all()

    def _ask(self, **said: Any) -> None:
        assert self._connection is not None
        self._number += 1
        number = self._number
        self._connection.send(orjson.dumps({**said, "id": number}).decode())
        with self._answered:
            assert self._answered.wait_for(lambda: number in self._answers, DEADLINE_SECONDS), said
        if self._answers[number]["type"] == "error":
            raise ClientError(f"{self._answers[number]['code']}: {self._answers[number]['message']}")

    def stop(self) -> None:
        """Leave."""
        self._ended = True
        if self._connection is not None:
            self._connection.close()
        if self._reader is not None:
            self._reader.join()


class CurlProgram:
    """curl: `curl -N` reads the event stream and is started again with the last id; it publishes by POST."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._url = ""
        self._headers: list[str] = []
        self._streams: list[threading.Thread] = []
        self._curls: list[subprocess.Popen[str]] = []
        self._ended = False

    def do(self, name: str, **arguments: Any) -> Any:
        """One command."""
        match name:
            case "connect":
                self._url = arguments["url"]
                self._headers = ["-H", f"Authorization: Bearer {arguments['token']}"]
            case "subscribe":
                since = arguments.pop("since", "")
                self._request("/last", arguments)  # says why it may not
                stream = threading.Thread(target=self._follow, args=(arguments["room"], since), daemon=True)
                stream.start()
                self._streams.append(stream)
                wait_until(lambda: {"event": "subscribed"} in self.events, "the stream has begun")
            case "publish":
                data = json.dumps(arguments.pop("data"))
                self._request("/publish", arguments, "-H", "Content-Type: application/json", "--data-binary", data)
            case "disconnect":
                self.stop()

    def _request(self, path: str, query: dict[str, Any], *options: str) -> None:
        command = ["curl", "-sS", *self._headers, *options, f"{self._url}{path}?{urlencode(query)}"]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        if "code" in answer:
            raise ClientError(f"{answer['code']}: {answer['detail']}")

    def _follow(self, room: str, cursor: str) -> None:
        while not self._ended:
            command = ["curl", "-sSN", *self._headers, "-H", f"Last-Event-ID: {cursor}"]
            with subprocess.Popen(
                [*command, f"{self._url}/sse?{urlencode({'room': room})}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as curl:
                self._curls.append(curl)
                assert curl.stdout is not None
                for said in _events(curl.stdout):
                    cursor = said.get("id", cursor)
                    self._hear(said)

    def _hear(self, said: dict[str, str]) -> None:
        heard = json.loads(said["data"])
        if heard["type"] == "message":
            self.events.append({"event": "message", **heard})
        elif heard["type"] == "subscribed":
            self.events.extend({"event": "message", "last": True, **each} for each in heard["last"])
            self.events.append({"event": "subscribed"})

    def stop(self) -> None:
        """End all that it has started."""
        self._ended = True
        for curl in self._curls:
            curl.terminate()
        for stream in self._streams:
            stream.join()


def _events(lines: Any) -> Iterator[dict[str, str]]:
    """The events of a stream (HTML §9.2.6), as far as the gateway uses what there is."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            yield fields
            fields = {}


def node(script: str, *arguments: str) -> Callable[..., Program]:
    """Starts a program of node."""
    return lambda: NodeProgram(script, *arguments)
