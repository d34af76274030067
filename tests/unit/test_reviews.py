"""What changed rules do to sessions that are there: in the core, without a gateway around it."""

from collections import Counter
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.access import Access, AccessRule, Action
from gateway.core.authentication import Authentication, Verifier, hash_token
from gateway.core.conversation import Conversation
from gateway.core.engine import Engine
from gateway.core.engine_memory import MemoryEngine
from gateway.core.errors import Forbidden, Unauthenticated
from gateway.core.identity import Identity
from gateway.core.publishing import Sending
from gateway.core.retention import Retention
from gateway.core.review import SLICE_SESSIONS
from gateway.core.role_limits import RoleLimits
from gateway.core.room_rules import RoomRule
from gateway.core.session import Session, TransportName
from gateway.core.tickets import Tickets
from tests.unit.conftest import ROUTES, HandClock, ListSink, ListUpstream, World, make_world

TOKENS = ("ann", "bob", "signed")
KEPT = [RoomRule("#", Retention(True, 100, 1e9), presence=True)]


class Signed:
    """Takes `signed` for a token, as long as the key is the same."""

    def __init__(self, role: str) -> None:
        self.role = role

    def identify(self, token: str) -> Identity:
        if token != "signed":
            raise Unauthenticated("the token is refused")
        return Identity("eve", frozenset([self.role]))


def rule(role: str, *rooms: str, **more: tuple[str, ...]) -> AccessRule:
    return AccessRule(frozenset([role]), {Action.SUBSCRIBE: rooms, **{Action(key): at for key, at in more.items()}})


ALL = rule("*", "#", publish=("#",), request=("#",), presence=("#",), history=("#",))


class Bench:
    """A namespace, and an authentication that knows the names of users by tokens that are their names."""

    def __init__(self, *rules: AccessRule) -> None:
        self.world: World = make_world(rules=KEPT, routes=ROUTES[:4])
        self.clock: HandClock = self.world.clock
        self.namespace = self.world.namespace
        self.authentication = self.make({"ann": "user", "bob": "user"}, Signed("user"), "guest")
        self.confirmed: Counter[str | None] = Counter()
        self.change(*rules)

    def make(self, users: dict[str, str], verifier: Verifier | None, anonymous: str | None) -> Authentication:
        tokens = {hash_token(name): Identity(name, frozenset([role])) for name, role in users.items()}
        guest = None if anonymous is None else Identity(roles=frozenset([anonymous]))
        return Authentication(self.clock, Tickets(30, self.clock, Random(1)), tokens, verifier, guest)

    def trust(self, users: dict[str, str], verifier: Verifier | None = None, anonymous: str | None = None) -> None:
        self.authentication.become(self.make(users, verifier, anonymous))

    def change(self, *rules: AccessRule) -> None:
        """Let these rules hold; sessions are reviewed as the clock is moved."""

        def confirm(identity: Identity) -> Identity:
            self.confirmed[identity.user] += 1
            return self.authentication.confirm(identity)

        self.namespace.reconfigure(Access(rules), confirm)

    def join(self, token: str | None, *rooms: str, transport: TransportName = "websocket") -> "Client":
        return Client(self, token, rooms, transport)


class Client:
    """A session."""

    def __init__(self, bench: Bench, token: str | None, rooms: tuple[str, ...], transport: TransportName) -> None:
        self.sink = ListSink()
        identity = bench.authentication.of(token, None)
        self.session: Session = bench.namespace.open(transport, self.sink, bench.namespace.access.of(identity))
        self.conversation = Conversation(self.session, bench.namespace, bench.namespace.counters, bench.authentication)
        for room in rooms:
            bench.world.subscribe(self.session, room)
        self.sink.take()

    def say(self, **fields: Any) -> list[dict[str, Any]]:
        self.sink.take()
        self.conversation.receive(orjson.dumps(fields).decode())
        return self.sink.take()

    @property
    def told(self) -> list[str]:
        return [str(each.get("code", each["type"])) for each in self.sink.take()]


def test_a_subscription_that_is_not_allowed_any_more_ends_and_is_told_of() -> None:
    bench = Bench(ALL)
    client = bench.join("ann", "a/b", "c/#", "d")

    bench.change(rule("user", "a/#", "d"))

    assert client.session.rooms.keys() == {"a/b", "d"}
    assert client.told == ["forbidden"]
    bench.namespace.publish(Sending("c/x", 1), lambda _: None, Access([ALL]).of(Identity("x")))
    assert client.told == []


def test_who_asks_is_judged_by_the_new_rules_before_its_review() -> None:
    bench = Bench(ALL)
    clients = [bench.join("ann", "a") for _ in range(2 * SLICE_SESSIONS)]

    bench.change(rule("user", "b"))

    waiting = [client for client in clients if client.session.grants.outdated]
    assert len(waiting) == SLICE_SESSIONS
    client = waiting[0]
    assert [each["code"] for each in client.say(type="publish", room="a", data=1, id=1)] == ["forbidden", "forbidden"]
    assert client.session.rooms == {}
    assert [each["type"] for each in waiting[1].say(type="subscribe", room="b")] == ["error", "subscribed"]
    assert waiting[1].session.rooms.keys() == {"b"}
    bench.clock.advance(0)
    assert not any(client.session.grants.outdated for client in clients)
    assert [set(client.session.rooms) for client in clients].count({"b"}) == 1


def test_sessions_are_reviewed_a_few_at_a_time_and_each_credential_once() -> None:
    bench = Bench(ALL)
    clients = [bench.join(token) for token in ("ann", "bob", None) for _ in range(SLICE_SESSIONS)]
    bench.confirmed.clear()
    access = Access([ALL])
    made: list[Identity | None] = []
    original = Access.of

    def counted(self: Access, identity: Identity | None) -> Any:
        made.append(identity)
        return original(self, identity)

    bench.namespace.reconfigure(access, bench.authentication.confirm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Access, "of", counted)
        bench.change(ALL)
        slices = 1
        while any(client.session.grants.outdated for client in clients):
            bench.clock.advance(0) if slices > 3 else bench.clock.timers.pop().callback()  # type: ignore[misc]
            slices += 1
    assert slices >= 3
    assert bench.confirmed == {"ann": 1, "bob": 1, None: 1}
    assert len(made) == 3


def test_a_slow_review_lets_others_have_their_turn() -> None:
    bench = Bench(ALL)
    clients = [bench.join("ann") for _ in range(10)]

    def confirm(identity: Identity) -> Identity:
        bench.clock.now += 1
        raise Unauthenticated("no more")

    bench.namespace.reconfigure(Access([]), confirm)

    assert sum(client.session.ended for client in clients) == 1
    bench.clock.advance(0)
    assert all(client.session.ended for client in clients)


@pytest.mark.parametrize("token", [*TOKENS, None])
def test_a_session_whose_credential_does_not_count_any_more_ends(token: str | None) -> None:
    bench = Bench(ALL)
    clients = {each: bench.join(each, "a") for each in (*TOKENS, None)}
    users = {name: "user" for name in ("ann", "bob") if name != token}

    bench.trust(users, None if token == "signed" else Signed("user"), None if token is None else "guest")
    bench.change(ALL)

    assert {each: client.session.ended for each, client in clients.items()} == {each: each == token for each in clients}
    assert clients[token].sink.closed == (4401, "unauthenticated")


def test_a_token_that_is_another_ones_now_ends_its_sessions() -> None:
    bench = Bench(ALL)
    client = bench.join("ann")
    newer = Authentication(
        bench.clock, Tickets(30, bench.clock, Random(1)), {hash_token("ann"): Identity("carol", frozenset(["user"]))}
    )
    bench.authentication.become(newer)
    bench.change(ALL)

    assert client.sink.closed == (4401, "unauthenticated")


def test_changed_roles_hold() -> None:
    bench = Bench(rule("user", "a"), rule("boss", "b"))
    clients = {token: bench.join(token, "a") for token in TOKENS}

    bench.trust({"ann": "boss", "bob": "user"}, Signed("boss"))
    bench.change(rule("user", "a"), rule("boss", "b"))

    assert {token: set(client.session.rooms) for token, client in clients.items()} == {
        "ann": set(), "bob": {"a"}, "signed": set(),
    }  # fmt: skip
    assert clients["ann"].say(type="subscribe", room="b", id=1)[0]["type"] == "subscribed"


def test_an_identity_that_nothing_shows_is_confirmed_by_nobody() -> None:
    bench = Bench(ALL)
    with pytest.raises(Unauthenticated):
        bench.authentication.confirm(Identity("ann", frozenset(["user"])))
    ticket = bench.authentication.tickets.issue(Identity("ann"))
    with pytest.raises(Unauthenticated):
        bench.authentication.of(None, ticket)


def test_a_ticket_from_before_brings_the_roles_of_now_and_lives_as_long_as_it_may_now() -> None:
    bench = Bench(ALL)
    tickets = bench.authentication.tickets
    ann, bob = (tickets.issue(bench.authentication.identify(name)) for name in ("ann", "bob"))
    bench.trust({"ann": "boss"})
    assert bench.authentication.tickets is tickets
    assert bench.authentication.of(None, ann).roles == {"boss"}  # type: ignore[union-attr]
    with pytest.raises(Unauthenticated):
        bench.authentication.of(None, bob)
    long = tickets.issue(bench.authentication.identify("ann"))
    tickets.seconds = 1
    short = tickets.issue(bench.authentication.identify("ann"))
    bench.clock.advance(2)
    with pytest.raises(Unauthenticated, match="expected a new one"):
        bench.authentication.of(None, short)
    assert bench.authentication.of(None, long) is not None


def test_a_stream_ends_with_its_last_room_and_a_websocket_does_not() -> None:
    bench = Bench(ALL)
    stream, socket = (bench.join("ann", "a", "b", transport=kind) for kind in ("sse", "websocket"))
    fresh = bench.join("ann", transport="sse")  # has still to subscribe

    bench.change(rule("user", "b"))
    assert (stream.told, socket.told) == (["forbidden"], ["forbidden"])
    bench.change(rule("user", "c"))
    assert (stream.told, socket.told) == (["forbidden", "forbidden"], ["forbidden"])
    assert stream.sink.closed == (1000, "forbidden")
    assert not socket.session.ended
    assert not fresh.session.ended


def test_who_may_not_be_in_a_room_has_left_it_and_who_may_is_in_it() -> None:
    bench = Bench(rule("*", "#", presence=("chat/a",)))
    ann, bob = bench.join("ann", "chat/a", "chat/b"), bench.join("bob", "chat/a", "chat/b")
    presence = bench.namespace.attendance.presence
    ann.sink.take()

    bench.change(rule("*", "#", presence=("chat/b",)))

    found: list[Any] = []
    for room in ("chat/a", "chat/b"):
        presence.ask(room, found.append)
    assert [attendees.count for attendees in found] == [0, 2]
    assert ann.session.rooms.keys() == bob.session.rooms.keys() == {"chat/a", "chat/b"}


def test_a_client_that_reads_again_is_not_told_who_is_where_it_may_not_know_it() -> None:
    bench = Bench(ALL)
    ann = bench.join("ann", "chat/a")
    ann.sink.paused = True
    ann.session.pause()
    bench.join("bob", "chat/a")

    bench.change(rule("*", "#"))
    ann.sink.paused = False
    ann.sink.take()
    ann.session.resume()

    assert "presence" not in ann.told


def test_one_who_has_still_to_say_who_it_is_gets_no_more_time_and_the_new_rules() -> None:
    bench = Bench(ALL)
    bench.trust({"ann": "user"})
    bench.change(ALL)
    client = bench.join(None)
    assert client.session.identity is None
    bench.clock.advance(9)

    bench.change(rule("user", "a"))
    assert client.say(type="auth", token="bob", id=1)[0]["code"] == "unauthenticated"
    late = bench.join(None)
    bench.clock.advance(9)
    bench.change(rule("user", "a"))
    bench.clock.advance(1)
    assert late.sink.closed == (4401, "unauthenticated")


def test_one_who_says_who_it_is_during_the_review_has_the_new_rules() -> None:
    bench = Bench(ALL)
    clients = [bench.join("ann", "a", "b") for _ in range(2 * SLICE_SESSIONS)]
    bench.trust({"ann": "boss"})
    bench.change(rule("boss", "b"))
    client = next(client for client in clients if client.session.grants.outdated)
    assert client.say(type="auth", token="ann", id=1)[-1]["identity"]["roles"] == ["boss"]
    assert client.session.rooms.keys() == {"b"}


def test_one_that_opens_with_what_was_granted_before_has_what_is_granted_now() -> None:
    bench = Bench(ALL)
    before = {name: bench.namespace.access.of(bench.authentication.of(name, None)) for name in ("ann", "bob")}
    bench.trust({"ann": "user"})
    bench.change(rule("user", "a"))

    sinks = {name: ListSink() for name in before}
    ann, bob = (bench.namespace.open("sse", sinks[name], grants) for name, grants in before.items())

    assert (ann.ended, bob.ended) == (False, True)
    Conversation(bob, bench.namespace, bench.namespace.counters).greet(25)
    assert [each["type"] for each in sinks["bob"].written] == ["bye"]
    with pytest.raises(Forbidden):
        bench.world.subscribe(ann, "b")


def test_an_answer_of_a_device_is_not_for_whom_it_is_not_allowed_any_more() -> None:
    bench = Bench(ALL)
    upstream = ListUpstream(reply_topic="answers")
    bench.namespace.connect({"embedded": upstream})
    ann, bob = (bench.join(name) for name in ("ann", "bob"))
    for client in (ann, bob):
        assert client.say(type="request", room="devices/x/commands", data=1, id=1) == []

    bench.trust({"ann": "user", "bob": "boss"})
    bench.change(rule("boss", request=("#",)), rule("user", publish=("#",)))
    for reply_to in upstream.replies_to:
        assert reply_to is not None
        bench.namespace.requests.receive("embedded", reply_to.topic, b"7", reply_to.correlation)

    assert (ann.told, bob.told) == (["forbidden"], ["reply"])


class LateEngine(MemoryEngine):
    """Answers what is read when it is told to, as one does that asks another process."""

    waiting: list[tuple[Any, ...]]

    def read(self, wanted: Any, limit: int, done: Any) -> None:
        self.waiting.append((dict(wanted), limit, done))

    def answer(self) -> None:
        for wanted, limit, done in self.waiting[:]:
            self.waiting.pop(0)
            MemoryEngine.read(self, wanted, limit, done)


def test_what_is_being_replayed_is_not_told_of_rooms_that_are_not_allowed_any_more() -> None:
    bench = Bench(ALL)
    engine = bench.namespace.engine
    assert isinstance(engine, MemoryEngine)
    grants = Access([ALL]).of(Identity("x"))
    for number in range(3):
        for room in ("a", "b"):
            bench.namespace.publish(Sending(room, number), lambda _: None, grants)
    engine.__class__ = LateEngine
    late: Engine = engine
    late.waiting = []  # type: ignore[attr-defined]
    client = bench.join("ann")
    bench.world.subscribe(client.session, "a", "epoch-0")
    late.answer()  # type: ignore[attr-defined]
    client.sink.take()
    bench.world.subscribe(client.session, "b", "epoch-0")

    bench.change(rule("user", "a"))
    late.answer()  # type: ignore[attr-defined]

    assert "message" not in client.told
    assert client.session.rooms.keys() == {"a"}


ROOMS = ["a", "a/b", "a/+", "a/#", "c", "c/+", "#", "users/ann", "users/+"]
FILTERS = ["a", "a/+", "a/#", "c", "c/#", "#", "+", "users/{user}"]
RULES = st.lists(
    st.builds(
        lambda role, subscribe, publish: rule(role, *subscribe, publish=tuple(publish)),
        st.sampled_from(["user", "boss", "guest", "*"]),
        st.lists(st.sampled_from(FILTERS), max_size=2),
        st.lists(st.sampled_from(FILTERS), max_size=2),
    ),
    max_size=3,
)
ROLE = st.sampled_from(["user", "boss"])
TRUST = st.tuples(
    st.dictionaries(st.sampled_from(["ann", "bob"]), ROLE), st.none() | ROLE, st.none() | st.just("guest")
)
STEP = st.one_of(
    st.tuples(st.just("join"), st.sampled_from([*TOKENS, None]), st.lists(st.sampled_from(ROOMS), max_size=3)),
    st.tuples(st.just("change"), RULES, TRUST),
    st.tuples(
        st.just("say"), st.integers(0, 9), st.sampled_from(["subscribe", "publish", "ping"]), st.sampled_from(ROOMS)
    ),
    st.tuples(st.just("slice")),
)


@settings(max_examples=150, deadline=None)
@given(RULES, st.lists(STEP, max_size=25))
def test_after_a_change_no_session_has_more_than_it_may_and_who_asks_never_has(
    rules: list[AccessRule], steps: list[tuple[Any, ...]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.core.review.SLICE_SESSIONS", 1)
        bench, clients = Bench(*rules), list[Client]()
        for step in steps:
            match step:
                case ("join", token, rooms):
                    try:
                        clients.append(bench.join(token))
                    except Unauthenticated:
                        continue
                    for room in rooms:
                        clients[-1].say(type="subscribe", room=room)
                case ("change", newer, (users, signed, anonymous)):
                    rules = newer
                    bench.trust(users, None if signed is None else Signed(signed), anonymous)
                    bench.change(*newer)
                case ("say", index, kind, room) if clients:
                    client = clients[index % len(clients)]
                    more = {"subscribe": {"room": room}, "publish": {"room": room, "data": 1}, "ping": {}}[kind]
                    client.say(type=kind, **more)
                    check(bench, client, rules)
                case ("slice",):
                    due = [timer for timer in bench.clock.timers if timer.at <= bench.clock.now and timer.callback]
                    if due:
                        bench.clock.timers.remove(due[0])
                        due[0].callback()  # type: ignore[misc]
        bench.clock.advance(0)
        for client in clients:
            check(bench, client, rules)
            assert client.session.ended or not client.session.grants.outdated
        assert set(bench.namespace.sessions.values()) == {c.session for c in clients if not c.session.ended}


def check(bench: Bench, client: Client, rules: list[AccessRule]) -> None:
    """That it has nothing that it may not, by rules and identities that are found anew."""
    session = client.session
    if session.ended:
        assert session.rooms == {}
        return
    identity = session.identity
    if identity is not None:
        identity = bench.authentication.confirm(identity)  # else it would have ended
    grants = Access(rules).of(identity)
    assert all(grants.allows(Action.SUBSCRIBE, room) for room in session.rooms)
    for room in ("a", "c", "users/ann"):
        assert session.grants.allows(Action.PUBLISH, room) == grants.allows(Action.PUBLISH, room)


def test_what_a_verifier_has_learned_is_kept_if_tokens_are_read_as_before(clock: HandClock) -> None:
    learned, fresh = Signed("old"), Signed("new")
    authentication = Authentication(clock, Tickets(30, clock, Random(1)), verifier=learned)
    newer = Authentication(clock, Tickets(5, clock, Random(1)), verifier=fresh)
    authentication.become(newer, same_verifier=True)
    assert authentication.identify("signed").roles == {"old"}
    assert authentication.tickets.seconds == 5
    authentication.become(newer)
    assert authentication.identify("signed").roles == {"new"}


def test_another_time_of_expiry_holds_for_live_sessions() -> None:
    bench = Bench(ALL)
    client = bench.join("ann")

    bench.namespace.reconfigure(
        Access([ALL]), lambda _: Identity("ann", frozenset(["user"]), expires_at=bench.clock.time() + 5)
    )
    bench.clock.advance(4)
    assert not client.session.ended
    bench.clock.advance(1)
    assert client.sink.closed == (4401, "unauthenticated")


@pytest.mark.parametrize("when", ["unsubscribe", "send"])
def test_a_session_that_ends_while_it_is_reviewed_is_left_alone(when: str, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(ALL)
    client = bench.join("ann", "a", "b", "c")
    session, proofs = client.session, bench.namespace._proofs
    session.grants = Access([]).of(Identity("ann"))
    write = client.sink.write

    def overflow(data: bytes) -> None:
        write(data)
        session.end()

    def unsubscribe(session: Session, room: str) -> None:
        bench.namespace.unsubscribe(session, room)
        if when == "unsubscribe":
            session.end()

    if when == "send":
        client.sink.write = overflow  # type: ignore[method-assign]
    proofs.review(session, unsubscribe)

    assert bench.namespace.counters.refusals["forbidden"] == (1 if when == "send" else 0)
    assert caplog.messages == []


def test_nothing_is_remembered_once_all_are_reviewed_and_a_second_change_is_reviewed_once() -> None:
    bench = Bench(ALL)
    for _ in range(3 * SLICE_SESSIONS):
        bench.join("ann")
    before = bench.clock.waiting
    bench.change(ALL)
    assert bench.namespace._proofs._renewed
    bench.change(ALL)
    assert bench.clock.waiting == before + 1
    bench.clock.advance(0)
    assert not bench.namespace._proofs._renewed


def test_who_is_let_in_no_more_has_asked_for_nothing() -> None:
    bench = Bench(ALL)
    listener = bench.join("bob", "a")
    clients = [bench.join("ann") for _ in range(2 * SLICE_SESSIONS)]
    bench.trust({"bob": "user"})
    bench.change(ALL)
    client = next(client for client in clients if not client.session.ended)
    assert [each["type"] for each in client.say(type="publish", room="a", data=1, id=1)] == ["bye"]
    assert "message" not in listener.told


def test_a_fault_ends_the_session_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(ALL)
    ann, bob = bench.join("ann", "a"), bench.join("bob", "a")

    def confirm(identity: Identity) -> Identity:
        if identity.user == "ann":
            raise RuntimeError("a fault")
        return identity

    bench.namespace.reconfigure(Access([ALL]), confirm)

    assert ann.sink.closed == (1011, "internal_error")
    assert not bob.session.grants.outdated
    assert "could not be reviewed" in caplog.text


def test_another_role_after_a_change_brings_its_limits_to_live_sessions() -> None:
    bench = Bench(ALL)
    namespace = bench.namespace
    namespace.role_limits = RoleLimits(namespace.limits, {"crew": {"messages_burst": 7}})
    session = namespace.open("websocket", ListSink(), namespace.access.of(bench.authentication.identify("ann")))
    assert session.limits.messages_burst == namespace.limits.messages_burst
    bench.trust({"ann": "crew"})
    bench.change(ALL)
    bench.clock.advance(1)
    assert session.limits.messages_burst == 7
