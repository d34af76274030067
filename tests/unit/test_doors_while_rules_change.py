"""Rules that change while a door waits for something: for the server to accept, for a body, for the engine."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from bridges.http import HttpBridge
from bridges.sse import SseBridge
from bridges.websocket import WebSocketBridge
from gateway.core.admission import Admission
from gateway.core.authentication import hash_token
from gateway.core.offenders import OffenceBounds, Offenders
from gateway.core.origins import Origins
from gateway.core.upstream import ReplyTo
from tests.unit.conftest import ListUpstream
from tests.unit.test_reviews import ALL, Bench, rule

Door = Callable[[Any, Any, Any], Awaitable[None]]


class Doors(Bench):
    """A namespace with its doors, as a plain ASGI server would use them."""

    def __init__(self) -> None:
        super().__init__(ALL)
        namespace = self.namespace
        admission = Admission(
            Origins(),
            namespace.role_limits,
            self.clock,
            namespace.counters,
            self.authentication,
            Offenders(OffenceBounds(), self.clock),
        )
        self.sse = SseBridge(namespace, admission, namespace.counters, 25)
        self.websocket = WebSocketBridge(namespace, admission, namespace.counters, 25, None)
        self.http = HttpBridge(namespace, admission, namespace.counters)

    async def ask(
        self, door: Door, kind: str, query: str, during: Callable[[], None], method: str = "GET"
    ) -> list[dict[str, Any]]:
        """What a door sends that is asked by Ann, with something happening while it first waits."""
        sent: list[dict[str, Any]] = []
        waits, over = iter([during]), asyncio.Event()

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)
            if event["type"] in ("http.response.start", "websocket.accept"):
                next(waits, lambda: None)()
            if event["type"] == "websocket.close" or event.get("more_body") is False:
                over.set()

        comes: list[dict[str, Any]] = [{"type": "http.disconnect"}]
        if kind == "websocket":
            comes = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
        elif method == "POST":
            comes.insert(0, {"type": "http.request", "body": b"1"})
        received = iter(comes)

        async def receive() -> dict[str, Any]:
            if method == "POST":
                next(waits, lambda: None)()
            event = next(received)
            if event["type"].endswith("disconnect"):
                await over.wait()
            return event

        headers = [(b"authorization", b"Bearer ann")]
        scope = {
            "type": kind, "method": method, "path": "/", "query_string": query.encode(), "headers": headers,
            "client": ("127.0.0.1", 1), "subprotocols": [], "scheme": "http",
        }  # fmt: skip
        await door(scope, receive, send)
        return sent


def endpoint(answer: Callable[[Request], Awaitable[Any]]) -> Door:
    async def door(scope: Any, receive: Any, send: Any) -> None:
        response = await answer(Request(scope, receive))
        await response(scope, receive, send)

    return door


@pytest.fixture
def doors() -> Doors:
    return Doors()


def events(sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    text = b"".join(event.get("body", b"") for event in sent).decode()
    return [orjson.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def narrow(doors: Doors) -> Callable[[], None]:
    return lambda: doors.change(rule("user", "b", publish=("b",), history=("b",), presence=("b",)))


def shut(doors: Doors) -> Callable[[], None]:
    def change() -> None:
        doors.trust({"bob": "user"})
        doors.change(ALL)

    return change


async def test_a_stream_that_is_just_let_in_is_told_goodbye(doors: Doors) -> None:
    sent = await doors.ask(doors.sse, "http", "room=a", narrow(doors))
    assert [each.get("code", each["type"]) for each in events(sent)] == ["welcome", "forbidden"]
    sent = await doors.ask(doors.sse, "http", "room=b", shut(doors))
    assert [each["code"] for each in events(sent)] == ["unauthenticated"]
    assert doors.namespace.sessions == {}
    assert not doors.namespace.recovery._watched


async def test_a_websocket_that_is_just_let_in_is_told_goodbye(doors: Doors) -> None:
    sent = await doors.ask(doors.websocket, "websocket", "", shut(doors))
    (bye,) = (orjson.loads(event["text"]) for event in sent if event["type"] == "websocket.send")
    assert (bye["type"], bye["code"]) == ("bye", "unauthenticated")
    assert doors.namespace.sessions == {}


@pytest.mark.parametrize(("change", "status"), [(narrow, 403), (shut, 401)])
async def test_a_body_that_is_still_being_sent_is_not_published(
    doors: Doors, change: Callable[[Doors], Callable[[], None]], status: int
) -> None:
    listener = doors.join("bob", "#")
    sent = await doors.ask(endpoint(doors.http.publish), "http", "room=a", change(doors), "POST")
    assert sent[0]["status"] == status
    assert "message" not in listener.told


def expires(doors: Doors) -> Callable[[], None]:
    digest = hash_token("ann")
    known = doors.authentication._tokens[digest]
    doors.authentication._tokens[digest] = replace(known, expires_at=doors.clock.time() + 10)
    return lambda: doors.clock.advance(10)


@pytest.mark.parametrize("action", ["publish", "request"])
async def test_a_body_that_was_held_back_until_its_token_expired_is_refused(doors: Doors, action: str) -> None:
    listener = doors.join("bob", "#")
    during = expires(doors)
    sent = await doors.ask(endpoint(getattr(doors.http, action)), "http", "room=a", during, "POST")
    assert sent[0]["status"] == 401
    assert "message" not in listener.told


@pytest.mark.parametrize("path", ["last", "history", "presence"])
@pytest.mark.parametrize(("change", "status"), [(narrow, 403), (shut, 401), (lambda _: lambda: None, 200)])
async def test_an_answer_that_takes_a_while_is_for_who_may_have_it_then(
    doors: Doors, path: str, change: Callable[[Doors], Callable[[], None]], status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    engine, presence = doors.namespace.engine, doors.namespace.attendance.presence
    where, name = {"last": (engine, "last"), "history": (engine, "history"), "presence": (presence, "ask")}[path]
    answers = getattr(where, name)

    def late(*arguments: Any) -> None:
        change(doors)()
        answers(*arguments)

    monkeypatch.setattr(where, name, late)
    sent = await doors.ask(endpoint(getattr(doors.http, path)), "http", "room=a", lambda: None)
    assert sent[0]["status"] == status


@pytest.mark.parametrize(("change", "status"), [(narrow, 403), (shut, 401), (lambda _: lambda: None, 200)])
async def test_an_answer_of_a_device_is_for_who_may_have_it_then(
    doors: Doors, change: Callable[[Doors], Callable[[], None]], status: int
) -> None:
    class Device(ListUpstream):
        def publish(self, *arguments: Any, reply_to: ReplyTo | None = None) -> None:
            assert reply_to is not None
            change(doors)()
            doors.namespace.requests.receive("embedded", reply_to.topic, b"7", reply_to.correlation)

    doors.namespace.connect({"embedded": Device(reply_topic="answers")})
    door, query = endpoint(doors.http.request), "room=devices/x/commands"
    sent = await doors.ask(door, "http", query, lambda: None, "POST")
    assert sent[0]["status"] == status
