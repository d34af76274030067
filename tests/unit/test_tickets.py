"""Tickets that nodes have in common: what is refused, what is waited for, and what is bounded."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from gateway.core import tickets as module
from gateway.core.authentication import Authentication, KeyUnknown, Undecided, hash_token
from gateway.core.errors import Unauthenticated
from gateway.core.identity import Credential, Identity
from gateway.core.limit_errors import RateLimited
from gateway.core.tickets import Tickets
from tests.unit.conftest import HandClock

TOKEN = "tg_" + "a" * 64


@dataclass
class Store:
    """A `TicketStore` in memory."""

    kept: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    is_up: bool = True
    hold: asyncio.Event | None = None

    async def put(self, ticket: str, fields: Mapping[str, Any], seconds: float) -> bool:
        self.kept[ticket] = fields
        return True

    async def take(self, ticket: str) -> Mapping[str, Any] | None:
        if self.hold is not None:
            await self.hold.wait()
        return self.kept.pop(ticket, None)


class LateKey:
    """A verifier whose key is there once it was asked for."""

    def __init__(self) -> None:
        self.known = False

    def identify(self, token: str) -> Identity:
        if not self.known:
            raise KeyUnknown("not yet", self._renew)
        return Identity("carol", frozenset({"crew"}))

    async def _renew(self) -> None:
        self.known = True


class Nodes:
    """Two that have a store."""

    def __init__(self, clock: HandClock, *, bound: bool = False) -> None:
        self.clock, self.store = clock, Store()
        self.one, self.two = (self._node(seed, bound) for seed in (1, 2))

    def _node(self, seed: int, bound: bool) -> Authentication:
        tickets = Tickets(30, self.clock, Random(seed), bound=bound, store=self.store)
        known = {hash_token(TOKEN): Identity("ci", frozenset({"crew"}))}
        return Authentication(self.clock, tickets, known, LateKey(), None)

    async def issue(self, token: str = TOKEN, network: str = "here") -> str:
        return await self.one.tickets.issue_for_all(self.one.identify(token), network)


async def show(to: Authentication, ticket: str, network: str = "here") -> Identity | None:
    """As doors do: what is undecided is shown once more."""
    try:
        return to.of(None, ticket, network=network)
    except Undecided as undecided:
        await undecided.renew()
        return to.of(None, ticket, network=network)


async def test_who_comes_by_another_nodes_ticket_is_who_fetched_it(clock: HandClock) -> None:
    nodes = Nodes(clock)
    assert await show(nodes.two, await nodes.issue()) == Identity("ci", frozenset({"crew"}))


async def test_a_ticket_for_a_token_whose_key_is_not_known_here_waits_for_the_key(clock: HandClock) -> None:
    nodes = Nodes(clock)
    with pytest.raises(KeyUnknown) as unknown:
        nodes.one.identify("signed")
    await unknown.value.renew()
    ticket = await nodes.issue("signed")
    found = await show(nodes.two, ticket)
    assert found is not None
    assert (found.user, found.roles) == ("carol", frozenset({"crew"}))


async def test_a_ticket_of_another_node_is_worth_no_more_than_what_was_shown_for_it(clock: HandClock) -> None:
    nodes = Nodes(clock)
    ticket = await nodes.issue()
    nodes.two.become(Authentication(clock, Tickets(30, clock, Random(3)), {}, LateKey(), None))
    with pytest.raises(Unauthenticated, match="isn't accepted any more"):
        await show(nodes.two, ticket)


async def test_a_ticket_of_another_node_lasts_no_longer_than_the_token(clock: HandClock) -> None:
    nodes = Nodes(clock)
    shown = Identity("ci", expires_at=clock.time() + 5, credential=Credential("hashed", hash_token(TOKEN)))
    ticket = await nodes.one.tickets.issue_for_all(shown)
    clock.now += 5
    with pytest.raises(Unauthenticated, match="it has expired"):
        await show(nodes.two, ticket, "")


async def test_a_bound_ticket_of_another_node_is_used_up_where_it_is_shown_from_elsewhere(clock: HandClock) -> None:
    nodes = Nodes(clock, bound=True)
    ticket = await nodes.issue()
    for network in ("elsewhere", "here"):
        with pytest.raises(Unauthenticated, match="the ticket is refused"):
            await show(nodes.two, ticket, network)


async def test_a_ticket_that_nobody_issued_is_refused_as_ever(clock: HandClock) -> None:
    nodes = Nodes(clock)
    for ticket in ("0" * 48, "0" * 47, "", "x" * 48):
        with pytest.raises(Unauthenticated, match="the ticket is refused: expected a new one"):
            await show(nodes.two, ticket)


async def test_what_is_in_the_store_and_cannot_be_read_lets_nobody_in(clock: HandClock) -> None:
    nodes = Nodes(clock)
    for number, fields in enumerate(({}, {"credential": 1, "user": "ci", "expires_at": None, "network": "here"})):
        nodes.store.kept[f"{number:048x}"] = fields
        with pytest.raises(Unauthenticated, match="the ticket is refused"):
            await show(nodes.two, f"{number:048x}")


async def test_tickets_in_the_store_are_bounded_by_those_that_wait(
    clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAXIMUM_TICKETS", 3)
    nodes = Nodes(clock)
    for _ in range(10):
        await show(nodes.one, await nodes.issue())
    for _ in range(3):
        await nodes.issue()
    with pytest.raises(RateLimited):
        await nodes.issue()
    nodes.store.is_up = False
    with pytest.raises(RateLimited):
        await nodes.issue()
    clock.now += 30
    await nodes.issue()


async def test_no_more_are_asked_for_at_once_than_may_be(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAXIMUM_FETCHES", 1)
    nodes = Nodes(clock)
    tickets = [await nodes.issue() for _ in range(2)]
    nodes.store.hold = asyncio.Event()
    waiting = asyncio.ensure_future(show(nodes.two, tickets[0]))
    await asyncio.sleep(0)
    with pytest.raises(Unauthenticated):
        await show(nodes.two, tickets[1])
    nodes.store.hold.set()
    assert await waiting is not None
    assert await show(nodes.two, tickets[1]) is not None


async def test_while_the_store_is_away_tickets_are_the_nodes_own(clock: HandClock) -> None:
    nodes = Nodes(clock)
    before = await nodes.issue()
    nodes.store.is_up = False
    own = await nodes.issue()
    assert await show(nodes.one, own) is not None
    for node in (nodes.one, nodes.two):
        with pytest.raises(Unauthenticated):
            await show(node, before)
