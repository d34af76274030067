import asyncio
from random import Random
from typing import Any

import orjson
import pytest

from gateway.core.access import Access, AccessRule, Action
from gateway.core.authentication import (
    Authentication,
    KeyUnknown,
    Verifier,
    hash_token,
    make_token,
)
from gateway.core.conversation import Conversation
from gateway.core.errors import Unauthenticated
from gateway.core.identity import ANONYMOUS, Identity
from gateway.core.limit_errors import RateLimited
from gateway.core.proofs import Proofs
from gateway.core.retention import Retention
from gateway.core.room_rules import RoomRule
from gateway.core.session import Session
from gateway.core.tickets import MAXIMUM_TICKETS, Tickets
from tests.unit.conftest import HandClock, ListSink, World, make_world

ANN = Identity("ann", frozenset(["operator"]))


class Signed:
    """Takes `user role expires_at` for a token."""

    def identify(self, token: str) -> Identity:
        if token.count(" ") != 2:
            raise Unauthenticated("the token is refused")
        user, role, expires_at = token.split()
        return Identity(user, frozenset([role]), expires_at=float(expires_at))


def tickets(clock: HandClock) -> Tickets:
    return Tickets(30, clock, Random(1))


def test_an_api_token_is_known_by_its_hash(clock: HandClock) -> None:
    token, other = make_token(Random(1)), make_token(Random(2))
    authentication = Authentication(clock, tickets(clock), {hash_token(token): ANN}, Signed())

    assert authentication.of(token, None) == ANN
    for wrong in (other, hash_token(token), "", token[:-1], "forged"):
        with pytest.raises(Unauthenticated):
            authentication.of(wrong, None)


def test_who_shows_nothing_is_anonymous_and_who_shows_what_is_wrong_is_not(clock: HandClock) -> None:
    authentication = Authentication(clock, tickets(clock), verifier=Signed())

    assert authentication.of(None, None) is ANONYMOUS
    with pytest.raises(Unauthenticated):
        authentication.of("forged", None)
    with pytest.raises(Unauthenticated):
        authentication.of(None, "forged")
    assert Authentication(clock, tickets(clock), verifier=Signed(), anonymous=None).of(None, None) is None


def test_an_expired_token_is_refused_whatever_its_verifier_says(clock: HandClock) -> None:
    authentication = Authentication(clock, tickets(clock), verifier=Signed())

    assert authentication.identify(f"ann operator {clock.time() + 1}").user == "ann"
    with pytest.raises(Unauthenticated, match="expired"):
        authentication.identify(f"ann operator {clock.time()}")


def test_a_ticket_lets_in_once(clock: HandClock) -> None:
    some = tickets(clock)
    ticket = some.issue(ANN)

    assert some.redeem(ticket) is ANN
    with pytest.raises(Unauthenticated, match="expected a new one"):
        some.redeem(ticket)


def test_a_ticket_lives_for_seconds_and_is_forgotten_then(clock: HandClock) -> None:
    some = tickets(clock)
    early, late = some.issue(ANN), some.issue(ANN)
    clock.advance(29.9)
    assert some.redeem(early) is ANN
    clock.advance(0.1)

    with pytest.raises(Unauthenticated):
        some.redeem(late)
    assert len(some) == 0


def test_a_bound_ticket_lets_in_from_where_it_was_fetched(clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    some = Tickets(30, clock, Random(1), bound=True)
    assert some.redeem(some.issue(ANN, "192.0.2.1"), "192.0.2.1") is ANN
    ticket = some.issue(ANN, "192.0.2.1")

    refusals = []
    for shown, network in ((ticket, "192.0.2.2"), (ticket, "192.0.2.1"), ("never", "192.0.2.2")):
        with pytest.raises(Unauthenticated) as refused:
            some.redeem(shown, network)
        refusals.append(refused.value.message)

    assert len(set(refusals)) == 1
    assert caplog.messages == [
        "a ticket of 'ann', fetched from 192.0.2.1, was shown from 192.0.2.2: it is used up",
    ]


def test_tickets_are_bound_as_a_newer_configuration_says(clock: HandClock) -> None:
    authentication = Authentication(clock, tickets(clock))
    ticket = authentication.tickets.issue(ANN, "192.0.2.1")
    authentication.become(Authentication(clock, Tickets(30, clock, Random(1), bound=True)))

    with pytest.raises(Unauthenticated):
        authentication.tickets.redeem(ticket, "192.0.2.2")


def test_a_key_that_is_gone_is_not_waited_for_by_who_was_known(clock: HandClock) -> None:
    verifier = Rotated()
    verifier.go_on.set()
    authentication = Authentication(clock, tickets(clock), verifier=verifier)
    ann = authentication.identify(f"ann operator {clock.time() + 60}")
    verifier.knows = False

    with pytest.raises(Unauthenticated) as refused:
        authentication.confirm(ann)
    assert not isinstance(refused.value, KeyUnknown)


def test_a_ticket_that_is_not_bound_lets_in_from_anywhere(clock: HandClock) -> None:
    some = tickets(clock)
    assert some.redeem(some.issue(ANN, "192.0.2.1"), "192.0.2.2") is ANN


def test_where_a_client_comes_from_is_asked_of_tickets(clock: HandClock) -> None:
    authentication = Authentication(clock, Tickets(30, clock, Random(1), bound=True), verifier=Signed())
    ann = authentication.identify(f"ann operator {clock.time() + 60}")
    here, there = (authentication.tickets.issue(ann, "192.0.2.1") for _ in range(2))

    assert authentication.of(None, here, network="192.0.2.1") == ann
    with pytest.raises(Unauthenticated):
        authentication.of(None, there, network="192.0.2.2")


def test_a_ticket_of_a_token_that_expired_meanwhile_is_refused(clock: HandClock) -> None:
    authentication = Authentication(clock, tickets(clock), verifier=Signed())
    ticket = authentication.tickets.issue(Identity("ann", expires_at=clock.time() + 10))
    clock.advance(10)

    with pytest.raises(Unauthenticated, match="expired"):
        authentication.of(None, ticket)


def test_so_many_tickets_wait_and_no_more(clock: HandClock) -> None:
    some = tickets(clock)
    for _ in range(MAXIMUM_TICKETS):
        some.issue(ANN)
    with pytest.raises(RateLimited):
        some.issue(ANN)
    clock.advance(30)
    some.issue(ANN)
    assert len(some) == 1


RULES = [
    AccessRule(frozenset(["operator"]), {Action.SUBSCRIBE: ("#",), Action.PRESENCE: ("chat/#",)}),
    AccessRule(
        frozenset(["*"]),
        {Action.SUBSCRIBE: ("users/{user}/#",), Action.PUBLISH: ("chat/+",), Action.PRESENCE: ("chat/open",)},
    ),
]


class Client:
    """A session whose client may say who it is."""

    def __init__(self, identity: Identity | None, verifier: Verifier | None = None) -> None:
        self.world: World = make_world(rules=[RoomRule("chat/#", Retention(True, 0, 0), presence=True)])
        namespace, clock = self.world.namespace, self.world.clock
        namespace.access = Access(RULES)
        namespace._proofs = Proofs(namespace.access, 10, clock, namespace.counters)
        self.sink = ListSink()
        self.session: Session = namespace.open("websocket", self.sink, namespace.access.of(identity))
        authentication = Authentication(clock, tickets(clock), verifier=verifier or Signed())
        self.conversation = Conversation(self.session, namespace, namespace.counters, authentication)
        self.conversation.greet(25)

    def say(self, **fields: Any) -> list[dict[str, Any]]:
        self.sink.take()
        self.conversation.receive(orjson.dumps(fields).decode())
        return self.sink.take()

    def token(self, user: str, role: str, seconds: float) -> str:
        return f"{user} {role} {self.world.clock.time() + seconds}"


def test_welcome_says_who_one_is() -> None:
    ann = Client(Identity("ann", frozenset(["b", "a"]), {"secret": 1}, 1e10))
    assert ann.sink.take()[0]["identity"] == {"user": "ann", "roles": ["a", "b"], "expires_at": 1e10}
    assert Client(ANONYMOUS).sink.take()[0]["identity"] is None


def test_one_who_has_to_say_who_it_is_hears_nothing_before() -> None:
    client = Client(None)
    client.world.namespace.upstream_states.changed("plant", up=False)
    assert client.sink.take() == []

    said = client.say(type="auth", token=client.token("ann", "operator", 60), id=1)

    assert [each["type"] for each in said] == ["welcome", "upstream", "ack"]
    assert said[0]["identity"]["user"] == said[2]["identity"]["user"] == "ann"
    client.world.clock.advance(59)
    assert not client.session.ended


@pytest.mark.parametrize("said", [{"type": "ping"}, {"type": "subscribe", "room": "chat/a"}, {"type": "nonsense"}])
def test_one_who_says_something_else_first_is_disconnected(said: dict[str, Any]) -> None:
    client = Client(None)

    told = client.say(**said)

    assert [each["type"] for each in told] == ["error", "bye"]
    assert client.sink.closed == (4401, "unauthenticated")


def test_one_who_says_nothing_or_what_is_wrong_is_disconnected() -> None:
    silent, wrong = Client(None), Client(None)
    silent.world.clock.advance(10)
    wrong.say(type="auth", token="forged")

    assert silent.sink.closed == wrong.sink.closed == (4401, "unauthenticated")
    assert silent.world.clock.waiting == wrong.world.clock.waiting == 0


def test_a_session_ends_when_its_token_does() -> None:
    client = Client(None)
    client.say(type="auth", token=client.token("ann", "operator", 60))
    client.world.clock.advance(60)

    assert client.sink.take()[-1] == {
        "type": "bye",
        "code": "unauthenticated",
        "reason": "the token has expired: come back with a new one",
        "retry": False,
    }
    assert client.sink.closed == (4401, "unauthenticated")


def test_a_newer_token_prolongs_a_session_and_a_wrong_one_does_it_no_harm() -> None:
    client = Client(None)
    client.say(type="auth", token=client.token("ann", "operator", 60))
    client.world.clock.advance(50)
    assert client.say(type="auth", token=client.token("ann", "operator", 60), id=1)[0]["type"] == "ack"
    assert client.say(type="auth", token="forged", id=2)[0]["code"] == "unauthenticated"
    client.world.clock.advance(59)
    assert not client.session.ended
    client.world.clock.advance(1)
    assert client.session.ended
    assert client.world.clock.waiting == 0


class Rotated(Signed):
    """Knows the key of a token once it was asked for it."""

    def __init__(self) -> None:
        self.asked = 0
        self.knows = True
        self.go_on = asyncio.Event()

    async def renew(self) -> None:
        self.asked += 1
        await self.go_on.wait()

    def identify(self, token: str) -> Identity:
        if not self.go_on.is_set() or not self.knows:
            raise KeyUnknown("the token is refused: its key isn't known", self.renew)
        return super().identify(token)


async def test_a_frame_whose_key_is_about_to_come_is_answered_once_it_is_there() -> None:
    verifier = Rotated()
    client = Client(None, verifier)
    assert client.say(type="auth", token=client.token("ann", "operator", 60), id=1) == []
    assert client.conversation.waits
    received = client.world.namespace.counters.received_bytes.copy()
    settled = asyncio.ensure_future(client.conversation.settle())
    await asyncio.sleep(0)
    verifier.go_on.set()
    await settled

    assert [each["type"] for each in client.sink.take()] == ["welcome", "ack"]
    assert (client.conversation.waits, verifier.asked) == (False, 1)
    assert client.world.namespace.counters.refusals.total() == 0
    assert client.world.namespace.counters.received_bytes == received


async def test_a_frame_whose_key_does_not_come_is_refused_once() -> None:
    verifier = Rotated()
    verifier.knows = False
    verifier.go_on.set()
    client = Client(None, verifier)
    client.say(type="auth", token=client.token("ann", "operator", 60), id=1)
    await client.conversation.settle()

    assert [(each["type"], each.get("id")) for each in client.sink.take()] == [("error", 1), ("bye", None)]
    assert (client.conversation.waits, verifier.asked) == (False, 1)
    assert client.world.namespace.counters.refusals == {"unauthenticated": 1}


async def test_a_session_that_ended_while_waiting_is_told_nothing() -> None:
    verifier = Rotated()
    client = Client(None, verifier)
    client.say(type="auth", token=client.token("ann", "operator", 60))
    client.world.clock.advance(10)
    client.sink.take()
    verifier.go_on.set()
    await client.conversation.settle()

    assert client.sink.take() == []


def test_nobody_becomes_somebody_else() -> None:
    client = Client(ANN)

    assert client.say(type="auth", token=client.token("bob", "operator", 60))[0]["code"] == "forbidden"
    assert client.session.user == "ann"


def test_subscriptions_that_a_newer_token_does_not_allow_end_with_an_error() -> None:
    client = Client(ANN)
    client.say(type="subscribe", room=["chat/hall", "users/ann/inbox"])
    assert client.session.rooms.keys() == {"chat/hall", "users/ann/inbox"}

    told = client.say(type="auth", token=client.token("ann", "guest", 60))

    assert client.session.rooms.keys() == {"users/ann/inbox"}
    assert [(each["code"], "chat/hall" in each["message"]) for each in told] == [("forbidden", True)]


def test_presence_is_for_those_who_may_have_it() -> None:
    client = Client(Identity("ann", frozenset(["operator"])))
    world = client.world
    client.say(type="subscribe", room="chat/hall")
    sink = ListSink()
    deaf = world.namespace.open(
        "websocket",
        sink,
        Access([AccessRule(frozenset("*"), {Action.SUBSCRIBE: ("chat/#",)})]).of(Identity("bob")),
    )
    world.subscribe(deaf, "chat/hall")
    sink.take()

    client.say(type="presence", room="chat/hall", state=1)

    assert sink.take() == []
    assert client.say(type="presence", room="chat/hall", id=1)[-1]["data"]["members"] == [{"user": "ann", "state": 1}]


def test_what_a_client_publishes_says_whose_it_is_and_no_other_name() -> None:
    client = Client(ANN)
    client.say(type="subscribe", room="chat/hall")

    said = client.say(type="publish", room="chat/hall", data={"user": "bob"})

    assert said[0]["from"] == {"session": client.session.id, "user": "ann"}
    assert client.say(type="publish", room="sites/oslo", data=1)[0]["code"] == "forbidden"


def test_a_caller_that_says_nothing_of_grants_has_none() -> None:
    client = Client(ANN)
    from gateway.core.errors import Forbidden
    from gateway.core.publishing import Sending

    with pytest.raises(Forbidden):
        client.world.namespace.publish(Sending("chat/hall", 1), lambda _: None)
    with pytest.raises(Forbidden):
        client.world.namespace.last("chat/hall", lambda *_: None)
