"""Two nodes and one broker: who has the lease receives, and nobody else does; both send."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

import pytest

from bridges.mqtt import Changed, Upstream, UpstreamOptions, UpstreamState
from bridges.mqtt_client import make_client
from bridges.mqtt_owned import OwnedUpstream
from gateway.core.clock import SystemClock
from gateway.core.delivery import Delivery
from gateway.core.errors import TidegateError
from gateway.core.lease import Granted, Lease, Taken
from tests.integration.conftest import Device
from tests.proxy import CONNECT, PUBACK, Proxy, swallowing
from tests.real import DEADLINE_SECONDS, Mosquitto

SECONDS = 60.0
"""Of a lease; tests don't wait for its end."""


class Leases:
    """A store of leases for all nodes of a test, and what tests do to it."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self.token = 0
        self.waiting: dict[str, Callable[[], None]] = {}

    def of(self, node: str) -> "Mine":
        return Mine(self, node)

    def free(self) -> None:
        """Nobody has it; all who wait are told."""
        self.holder = None
        for hurry in self.waiting.values():
            asyncio.get_running_loop().call_soon(hurry)


@dataclass
class Mine:
    """A node's way to them."""

    leases: Leases
    node: str

    def acquire(self, name: str, least: int, done: Callable[[Granted | Taken | None], None]) -> None:
        if self.leases.holder not in (None, self.node):
            assert self.leases.holder is not None
            done(Taken(self.leases.holder, self.leases.token, SECONDS))
            return
        self.leases.holder, self.leases.token = self.node, max(self.leases.token, least) + 1
        done(Granted(self.leases.token))

    def renew(self, name: str, token: int, done: Callable[[bool | None], None]) -> None:
        done((self.leases.holder, self.leases.token) == (self.node, token))

    def follow(self, name: str, hurry: Callable[[], None]) -> None:
        self.leases.waiting[self.node] = hurry

    def unfollow(self, name: str) -> None:
        self.leases.waiting.pop(self.node, None)

    def release(self, name: str, token: int) -> None:
        if (self.leases.holder, self.leases.token) == (self.node, token):
            self.leases.free()


@dataclass
class Log:
    """What all nodes store, by the rules of `Engine.own`."""

    token: int = 0
    stored: list[bytes] = field(default_factory=list)
    receipts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Member:
    """What one node stores, and how it owns."""

    log: Log
    token: int = 0
    fenced: Callable[[], None] = lambda: None
    owning: list[Callable[[], None]] = field(default_factory=list)
    answers: bool = True
    settled: int = 0
    received: int = 0

    def own(self, session: str, token: int, done: Callable[[], None], fenced: Callable[[], None]) -> None:
        self.token, self.fenced = token, fenced
        self.log.token = max(self.log.token, token)
        self.owning.append(done)
        if self.answers:
            done()

    def settle(self, done: Callable[[], None]) -> None:
        self.settled += 1
        done()

    def receive(self, delivery: Delivery, stored: Callable[[], None]) -> None:
        self.received += 1
        if self.token < self.log.token:
            self.fenced()
            return
        receipt = delivery.receipt
        assert receipt is not None
        if not (receipt.duplicate and self.log.receipts.get(receipt.packet_id) == receipt.digest):
            self.log.receipts[receipt.packet_id] = receipt.digest
            self.log.stored.append(delivery.payload)
        stored()

    def acknowledged(self, upstream: str, packet_id: int) -> None:
        self.log.receipts.pop(packet_id, None)

    def forget(self, upstream: str) -> None:
        self.log.receipts.clear()


@dataclass
class Node:
    name: str
    upstream: OwnedUpstream
    member: Member
    told: list[bool]


class Nodes:
    """Nodes of one broker."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.leases, self.log = Leases(), Log()

    @asynccontextmanager
    async def node(
        self, name: str, *, receiver_port: int | None = None, patience_seconds: float = SECONDS, **options: Any
    ) -> AsyncIterator[Node]:
        member, told = Member(self.log), list[bool]()
        base = UpstreamOptions(
            "plant",
            "127.0.0.1",
            options.pop("port", self.port),
            client_id="gate",
            persistent=True,
            reconnect_min_seconds=0.02,
            reconnect_max_seconds=0.1,
            **options,
        )

        def make(
            options: UpstreamOptions,
            filters: dict[str, int],
            changed: Changed,
            may_read: Callable[[], bool] = lambda: True,
        ) -> Upstream:
            parts = (filters, member.receive, member, changed, SystemClock(), Random())
            return Upstream(options, *parts, may_read=may_read)

        sending = replace(base, client_id=None, persistent=False, status_topic=None)
        receiving = replace(base, port=receiver_port or base.port)
        upstream = OwnedUpstream(
            partial(make, sending, {}),
            partial(make, receiving, {"q1/+": 1}),
            partial(Lease, "plant", SECONDS, self.leases.of(name), SystemClock()),
            member,
            lambda _, up: told.append(up),
            SystemClock(),
            name,
            patience_seconds,
        )
        running = asyncio.create_task(upstream.run())
        try:
            yield Node(name, upstream, member, told)
        finally:
            running.cancel()
            await asyncio.wait([running])


@asynccontextmanager
async def pair(nodes: Nodes, **options: Any) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes, of which the first receives and the second waits; the options are the first one's."""
    async with nodes.node("a", **options) as a:
        await until(receives(a))
        async with nodes.node("b") as b:
            await until(waits(b))
            yield a, b


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - it is about several parts at once
            await asyncio.sleep(0.01)


def receives(node: Node) -> Callable[[], bool]:
    return lambda: node.upstream.state is UpstreamState.UP


def waits(node: Node) -> Callable[[], bool]:
    return lambda: node.upstream.state is UpstreamState.STANDBY


@pytest.fixture
def nodes(broker: Mosquitto) -> Nodes:
    return Nodes(broker.port)


async def test_one_receives_and_each_sends(nodes: Nodes, device: Device) -> None:
    device.subscribe("to/#")
    async with pair(nodes) as (a, b):
        assert (a.upstream.owner, b.upstream.owner) == ("a", "a")
        device.publish("q1/x", b"1", 1)
        await until(lambda: nodes.log.stored)
        outcomes: list[TidegateError | None] = []
        for node in (a, b):
            node.upstream.publish(f"to/{node.name}", b"", 1, False, outcomes.append)
        assert {message.topic for message in await asyncio.to_thread(device.received, 2)} == {"to/a", "to/b"}
        await until(lambda: outcomes == [None, None])
        assert nodes.log.stored == [b"1"]
        assert (a.told[-1], b.told[-1]) == (True, True)


async def test_who_leaves_hands_over_at_once_after_all_is_stored_and_goes_on_sending(
    nodes: Nodes, device: Device
) -> None:
    device.subscribe("tidegate/status")
    async with pair(nodes) as (a, b):
        device.publish("q1/x", b"1", 1)
        await until(lambda: nodes.log.stored)
        await a.upstream.leave()
        assert a.member.settled == 1
        await until(receives(b))
        device.publish("q1/x", b"2", 1)
        await until(lambda: nodes.log.stored == [b"1", b"2"])
        assert a.upstream.state is UpstreamState.STANDBY
        outcomes: list[TidegateError | None] = []
        a.upstream.publish("to/a", b"", 1, False, outcomes.append)
        await until(lambda: outcomes == [None])
        said = [message.payload for message in await asyncio.to_thread(device.received, 3)]
        assert said == [b"online", b"offline", b"online"]
        assert False not in a.told[1:]


async def test_who_ends_gives_the_lease_back(nodes: Nodes) -> None:
    async with nodes.node("b") as b:
        async with nodes.node("a"):
            await until(lambda: nodes.leases.holder is not None)
        await until(receives(b))


async def test_who_loses_the_lease_ends_its_connection_without_a_word_and_the_next_gets_what_it_left(
    nodes: Nodes, broker: Mosquitto, device: Device, between: Proxy
) -> None:
    async with pair(nodes, port=between.port) as (a, b):
        between.alter = swallowing("up", PUBACK)
        for number in range(5):
            device.publish("q1/x", b"%d" % number, 1)
        await until(lambda: len(nodes.log.stored) == 5)
        seen = len(between.seen)
        nodes.leases.holder = "b"
        nodes.leases.waiting["a"]()
        nodes.leases.waiting["b"]()
        await until(receives(b))
        assert a.upstream.state is UpstreamState.STANDBY
        assert [packet for packet in between.seen[seen:] if packet[0] == "up"] == [], "not even DISCONNECT"
        device.publish("q1/x", b"5", 1)
        await until(lambda: len(nodes.log.stored) == 6)
        assert nodes.log.stored == [b"%d" % number for number in range(6)], "each once, in order"
        assert (a.upstream.takeovers, b.upstream.takeovers) == (1, 1)


async def test_who_believes_to_own_but_is_refused_drops_it_and_acknowledges_nothing(
    nodes: Nodes, device: Device
) -> None:
    """Its clock may be wrong, or it was paused; the log knows better."""
    async with nodes.node("a") as a:
        await until(receives(a))
        hurry = nodes.leases.waiting.pop("a")
        nodes.log.token = 7  # another node has owned it since, and a knows nothing of that
        device.publish("q1/x", b"1", 1)
        await until(lambda: a.upstream.fenced)
        assert a.upstream.state is UpstreamState.STANDBY
        nodes.leases.holder, nodes.leases.token = None, 7
        nodes.leases.waiting["a"] = hurry
        async with nodes.node("b"):
            await until(lambda: nodes.log.stored == [b"1"])


async def test_who_was_paused_for_too_long_reads_nothing_of_what_has_come_meanwhile(
    nodes: Nodes, device: Device
) -> None:
    """What has come is read before timers go off, and would be told even where it isn't stored: who is in rooms."""
    async with pair(nodes) as (a, b):
        a.upstream._lease._until, nodes.leases.holder = 0.0, "c"
        device.publish("q1/x", b"1", 1)
        await until(waits(a))
        assert a.member.received == 0
        nodes.leases.free()
        await until(lambda: nodes.log.stored == [b"1"])
        assert b.member.received + a.member.received == 1


async def test_it_connects_only_once_all_stores_know_the_new_owner(nodes: Nodes, device: Device) -> None:
    async with nodes.node("a") as a:
        await until(receives(a))
        async with nodes.node("b") as b:
            b.member.answers = False
            await a.upstream.leave()
            await until(lambda: b.member.owning)
            device.publish("q1/x", b"1", 1)
            await until(lambda: b.upstream.owns)
            assert b.upstream.state is UpstreamState.STANDBY
            assert nodes.log.stored == []
            b.member.owning[0]()
            await until(lambda: nodes.log.stored == [b"1"])


async def test_an_owner_that_cant_connect_lets_another_try(nodes: Nodes) -> None:
    async with nodes.node("a", receiver_port=1, patience_seconds=0.2) as a:
        await until(lambda: a.upstream.owns)
        async with nodes.node("b") as b:
            await until(receives(b))
            await until(waits(a))
            assert b.upstream.owns


async def test_who_cant_reach_the_broker_doesnt_take_the_lease(nodes: Nodes, between: Proxy) -> None:
    between.refuse()
    async with nodes.node("a", port=between.port) as a:
        await until(lambda: a.upstream.state is UpstreamState.DOWN)
        assert nodes.leases.holder is None
        between.serve()
        await until(receives(a))
        between.refuse()
        await until(lambda: a.upstream.state is UpstreamState.DOWN)
        assert a.told[-1] is False
        between.serve()
        await until(receives(a))
        assert a.upstream.takeovers == 1, "a short absence of the broker changes no owner"


@pytest.mark.parametrize("dropped", [False, True])
async def test_an_end_that_comes_together_with_the_brokers_answer_is_an_end(broker: Mosquitto, dropped: bool) -> None:
    """`asyncio.wait_for` loses a cancellation then (before Python 3.12); who lost the lease would connect again."""
    options = UpstreamOptions("plant", "127.0.0.1", broker.port, client_id="gate", reconnect_min_seconds=0.01)
    upstream = Upstream(options, {}, lambda *_: None, Member(Log()), lambda *_: None, SystemClock(), Random())
    running = asyncio.create_task(upstream.run())

    def end(client: Any, session_present: bool) -> None:
        if dropped:
            asyncio.get_running_loop().call_soon(upstream.drop)
        running.cancel()

    upstream.connected = end  # type: ignore[method-assign]
    done, _ = await asyncio.wait([running], timeout=DEADLINE_SECONDS)
    assert done
    assert running.cancelled()


async def test_a_connection_that_isnt_wanted_any_more_is_never_asked_for(between: Proxy) -> None:
    """A thread connects, and can't be interrupted: its CONNECT would end the new owner's session."""
    options = UpstreamOptions("plant", "127.0.0.1", between.port, client_id="gate")
    upstream = Upstream(options, {}, lambda *_: None, Member(Log()), lambda *_: None, SystemClock(), Random())
    client = make_client(options, Random(), upstream)
    client.abandon()
    with pytest.raises(OSError, match="isn't wanted"):
        await asyncio.to_thread(client._client_connect)
    await until(lambda: between.accepted == 1)
    assert ("up", CONNECT) not in between.seen
