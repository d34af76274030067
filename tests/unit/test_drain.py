"""How a gateway leaves, where no process is needed to see it."""

import asyncio
from typing import Any

import orjson
import pytest

from gateway.app import Gateway
from gateway.config import Settings
from gateway.core.conversation import Conversation
from gateway.core.errors import BadMessage
from gateway.core.namespace import Namespace
from gateway.core.session import Session
from tests.unit.conftest import ListSink, ListUpstream

COMMANDS = {"topic": "commands/{x}", "room": "commands/{x}", "direction": "to_device", "reply": "replies/{x}"}
FOREVER = {"drain_seconds": 3600, "drain_notice_seconds": 3600}


class FaultySink(ListSink):
    def close(self, code: int, reason: str) -> None:
        raise RuntimeError("the connection is in a bad way")


class Client:
    """A session, and what it hears."""

    def __init__(self, namespace: Namespace, sink: ListSink | None = None) -> None:
        self.sink = sink or ListSink()
        self.session: Session = namespace.open("websocket", self.sink)
        self._conversation = Conversation(self.session, namespace, namespace.counters)

    def say(self, **fields: Any) -> None:
        self._conversation.receive(orjson.dumps(fields).decode())

    def heard(self) -> list[object]:
        return [said.get("code", said["type"]) for said in self.sink.written]


def make(**settings: Any) -> tuple[Gateway, Namespace, ListUpstream]:
    gateway = Gateway(Settings.model_validate({"routes": [COMMANDS], **FOREVER, **settings}))
    namespace, upstream = gateway.namespaces["default"], ListUpstream(answer_at_once=False)
    namespace.connect({"embedded": upstream})
    return gateway, namespace, upstream


def no() -> bool:
    return False


async def test_goodbye_goes_on_after_a_session_that_cant_take_it(caplog: pytest.LogCaptureFixture) -> None:
    gateway, namespace, _ = make()
    faulty, other = Client(namespace, FaultySink()), Client(namespace)

    gateway.drain.finish()

    assert faulty.session.ended
    assert other.sink.closed == (1012, "shutting_down")
    assert not namespace.sessions
    assert "bad way" in caplog.text


async def test_who_waits_for_an_acknowledgement_or_a_device_goes_once_it_is_answered() -> None:
    gateway, namespace, upstream = make(drain_seconds=0.2)
    publisher, asking, refused = (Client(namespace) for _ in range(3))
    publisher.say(type="publish", id=1, room="commands/a", data=1)
    asking.say(type="request", id=2, room="commands/b", data=1, timeout_seconds=9)
    refused.say(type="publish", id=3, room="commands/+", data=1)
    leaving = asyncio.ensure_future(gateway.drain.tell_all(no))
    gone = asyncio.Event()
    refused.session.ending = gone.set
    await gone.wait()
    assert refused.heard() == [BadMessage.code, "shutting_down"]
    upstream.waiting[0](None)
    await leaving
    assert publisher.heard() == ["ack", "shutting_down"]
    assert [said["type"] for said in asking.sink.written] == ["error", "bye"]


async def test_it_waits_for_what_is_under_way_and_no_longer() -> None:
    gateway, _, _ = make()
    under_way = True
    leaving = asyncio.ensure_future(gateway.drain.tell_all(lambda: under_way))
    await asyncio.sleep(0.05)
    assert not leaving.done()
    under_way = False
    await leaving


async def test_in_a_hurry_it_waits_for_nobody() -> None:
    gateway, namespace, _ = make()
    client = Client(namespace)
    noticing = asyncio.ensure_future(gateway.drain.give_notice())
    leaving = asyncio.ensure_future(gateway.drain.tell_all(lambda: True))
    await asyncio.sleep(0)
    gateway.drain.hurry()
    await noticing
    await leaving
    assert client.heard() == ["shutting_down"]


async def test_messages_reach_those_who_have_not_been_told_yet() -> None:
    gateway, namespace, _ = make()
    client, sender = Client(namespace), Client(namespace)
    client.say(type="subscribe", room="chat/a")
    leaving = asyncio.ensure_future(gateway.drain.tell_all(no))
    await asyncio.sleep(0)
    sender.say(type="publish", room="chat/a", data="still here")
    assert client.heard() == ["subscribed", "message"]
    gateway.drain.hurry()
    await leaving
    assert client.heard() == ["subscribed", "message", "shutting_down"]
