"""One connection of a peer in a namespace: limits, rules, presence, and what its client is told."""

from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from bridges.peerjs_conversation import Call, Exchange
from bridges.peerjs_protocol import told
from bridges.peerjs_switchboard import Switchboard, SwitchboardBounds
from gateway.core.access import Access, AccessRule, Action
from gateway.core.errors import Forbidden, Unauthenticated
from gateway.core.identity import ANONYMOUS, Credential, Identity
from gateway.core.limits import Limits
from gateway.core.peer_errors import IdTaken
from gateway.core.publishing import Sending
from gateway.core.retention import NOTHING
from gateway.core.room_rules import RoomRule
from gateway.core.session import Session
from gateway.core.sink import Framing
from tests.unit.conftest import ListSink, World, make_world


class PeerSink(ListSink):
    @property
    def framing(self) -> Framing:
        return lambda kind, text, cursor: told(kind, text)

    def write(self, data: bytes) -> None:
        if data:
            super().write(data)


@dataclass
class Side:
    """One peer, as its client sees it."""

    session: Session
    sink: PeerSink
    call: Call

    def say(self, kind: str, dst: str | None = None, **payload: Any) -> None:
        self.call.receive(orjson.dumps({"type": kind, "dst": dst, "payload": payload}).decode())

    def kinds(self) -> list[str]:
        return [str(said["type"]) for said in self.sink.take()]


class Room:
    """A namespace with peers in it."""

    def __init__(self, limits: Limits | None = None, bounds: SwitchboardBounds | None = None) -> None:
        self.world: World = make_world(limits, rules=[RoomRule("calls", NOTHING, presence=True)])
        self.namespace, self.clock = self.world.namespace, self.world.clock
        switchboard = Switchboard(bounds or SwitchboardBounds(), self.clock, self.world.counters)
        self.exchange = Exchange(self.namespace, switchboard, self.clock, 90)

    def join(self, identifier: str, user: str | None = None, token: str = "t") -> Side:  # noqa: S107
        sink = PeerSink()
        identity = Identity(user, frozenset({"peer"}), credential=Credential("test", identifier))
        grants = self.namespace.access.of(identity)
        session = self.namespace.open("peerjs", sink, grants, member=identifier)
        side = Side(session, sink, Call(session, "calls", self.exchange))
        side.call.begin(identifier, token)
        return side

    def rule(self, **allows: tuple[str, ...]) -> None:
        """Let other rules hold from now on."""
        rule = AccessRule(frozenset({"peer"}), {Action(name): rooms for name, rooms in allows.items()})
        self.namespace.reconfigure(Access([rule]), lambda identity: identity)


@pytest.fixture
def room() -> Room:
    return Room()


def test_a_peer_hears_open_first_and_then_what_waits(room: Room) -> None:
    ann = room.join("ann")
    ann.say("OFFER", "bob", sdp="x")

    bob = room.join("bob")

    assert ann.kinds() == ["OPEN"]
    assert bob.kinds() == ["OPEN", "OFFER"]
    assert room.world.counters.published["peerjs"] == 1
    assert room.world.counters.received_bytes["peerjs"] > 20


def test_presence_shows_peers_and_a_reconnection_changes_nothing(room: Room) -> None:
    listener, heard, _ = room.world.join()
    room.world.subscribe(listener, "calls")
    room.join("ann")
    heard.take()

    again = room.join("ann")
    room.clock.advance(10)
    assert heard.take() == []
    again.call.end()
    room.clock.advance(10)

    assert [(said["type"], said["who"]) for said in heard.take()] == [("left", {"member": "ann"})]


def test_the_older_connection_is_closed_and_the_newer_one_is_called(room: Room) -> None:
    ann, old = room.join("ann"), room.join("bob")

    new = room.join("bob")
    old.call.closed(offended=False)
    ann.say("OFFER", "bob")

    assert old.sink.closed == (1000, "replaced by a newer connection")
    assert old.session.ended
    assert old.kinds() == ["OPEN"]
    assert new.kinds() == ["OPEN", "OFFER"]


def test_who_finds_its_id_taken_was_never_in_the_room(room: Room) -> None:
    listener, heard, _ = room.world.join()
    room.world.subscribe(listener, "calls")
    room.join("bob", user="bob")
    room.clock.advance(10)
    heard.take()

    with pytest.raises(IdTaken):
        room.join("bob", token="another")

    room.clock.advance(10)
    assert heard.take() == []
    assert room.exchange.switchboard.ids("calls") == ["bob"]


def test_a_call_without_permission_expires_and_its_caller_stays(room: Room) -> None:
    room.rule(subscribe=("calls",))
    ann, bob = room.join("ann"), room.join("bob")

    ann.say("OFFER", "bob")

    opened, expired = ann.sink.take()
    assert opened == {"type": "OPEN"}
    assert (expired["type"], expired["src"]) == ("EXPIRE", "bob")
    assert expired["payload"]["code"] == "forbidden"  # type: ignore[index]
    assert bob.kinds() == ["OPEN"]
    assert not ann.session.ended
    assert room.world.counters.refusals["forbidden"] == 1


def test_a_call_that_fails_is_told_once_with_all_its_candidates(room: Room) -> None:
    room.rule(subscribe=("calls",))
    ann = room.join("ann")

    for kind in ("OFFER", "CANDIDATE", "CANDIDATE", "OFFER", "CANDIDATE"):
        ann.say(kind, "bob")
    ann.say("CANDIDATE", "eve")

    assert [(said["type"], said.get("src")) for said in ann.sink.take()] == [
        ("OPEN", None),
        ("EXPIRE", "bob"),
        ("EXPIRE", "bob"),
        ("EXPIRE", "eve"),
    ]
    assert room.world.counters.refusals["forbidden"] == 6


def test_candidates_of_a_later_call_that_fails_are_told_again() -> None:
    room = Room(bounds=SwitchboardBounds(queue_messages=1))
    ann = room.join("ann")
    ann.say("OFFER", "bob")
    ann.say("CANDIDATE", "bob")  # too many wait
    bob = room.join("bob")
    ann.say("OFFER", "bob")
    bob.call.end()
    ann.say("CANDIDATE", "bob")

    ann.say("CANDIDATE", "bob")

    assert ann.kinds() == ["OPEN", "EXPIRE", "EXPIRE"]


def test_of_failed_calls_so_many_are_remembered() -> None:
    room = Room(Limits(messages_burst=1000))
    room.rule(subscribe=("calls",))
    ann = room.join("ann")

    for number in range(150):
        ann.say("CANDIDATE", f"bob-{number}")
    ann.sink.take()
    ann.say("CANDIDATE", "bob-149")
    ann.say("CANDIDATE", "bob-0")

    assert [said["src"] for said in ann.sink.take()] == ["bob-0"]


def test_who_may_not_be_in_the_room_isnt_let_in(room: Room) -> None:
    room.rule(publish=("calls",))

    with pytest.raises(Forbidden):
        room.join("ann")


@pytest.mark.parametrize("calls", [False, True], ids=["silent", "calling"])
def test_new_rules_end_peers_that_may_not_be_there_any_more(room: Room, calls: bool) -> None:
    ann, bob = room.join("ann"), room.join("bob")
    room.rule(publish=("calls",))

    if calls:
        ann.say("OFFER", "bob")
    else:
        room.clock.advance(1)

    assert ann.session.ended
    assert ann.kinds()[-1] == "ERROR"
    assert "OFFER" not in bob.kinds()


def test_new_rules_hold_for_a_call_before_everybody_is_reviewed(room: Room) -> None:
    ann, bob = room.join("ann"), room.join("bob")
    for _ in range(150):
        room.world.join()
    room.rule(subscribe=("calls",))

    ann.say("OFFER", "bob")

    assert ann.kinds() == ["OPEN", "EXPIRE"]
    assert bob.kinds() == ["OPEN"]


def test_who_isnt_let_in_any_more_between_handshake_and_session_is_no_peer(room: Room) -> None:
    grants, sink = room.namespace.access.of(ANONYMOUS), PeerSink()

    def refuse(_: Identity) -> Identity:
        raise Unauthenticated("not any more")

    room.namespace.reconfigure(Access([]), refuse)
    session = room.namespace.open("peerjs", sink, grants, member="ann")
    Call(session, "calls", room.exchange).begin("ann", "t")

    assert [said["type"] for said in sink.written] == ["ERROR"]
    assert sink.closed == (4401, "unauthenticated")
    assert session.rooms == {}
    assert room.exchange.switchboard.ids("calls") == []


def test_a_message_in_the_room_is_no_signal(room: Room) -> None:
    bob = room.join("bob")
    forged = {"type": "OFFER", "src": "ann", "dst": "bob", "payload": {}}

    room.namespace.publish(Sending("calls", forged), lambda error: None)

    assert bob.kinds() == ["OPEN"]


@pytest.mark.parametrize("frame", ["{", b"\x00", '{"type":"OPEN"}', '{"type":"OFFER","dst":"bob"}'], ids=str)
def test_what_isnt_understood_is_an_error_and_the_connection_stays(room: Room, frame: str | bytes) -> None:
    ann, bob = room.join("ann"), room.join("bob")

    ann.call.receive(frame)
    ann.say("OFFER", "bob")

    _, refused = ann.sink.take()
    assert refused["type"] == "ERROR"
    assert refused["payload"]["code"] == "bad_message"  # type: ignore[index]
    assert bob.kinds() == ["OPEN", "OFFER"]


def test_one_that_is_too_large_ends_the_connection() -> None:
    room = Room(Limits(message_bytes=100))
    ann, bob = room.join("ann"), room.join("bob")

    ann.say("OFFER", "bob", sdp="x" * 100)

    said = ann.sink.take()
    assert [each["type"] for each in said] == ["OPEN", "ERROR"]
    assert said[1]["payload"]["code"] == "message_too_large"  # type: ignore[index]
    assert ann.sink.closed == (1009, "message_too_large")
    assert bob.kinds() == ["OPEN"]


def test_calls_over_the_rate_expire_and_end_who_goes_on() -> None:
    room = Room(Limits(messages_per_second=1, messages_burst=2, refusals=3))
    ann, bob = room.join("ann"), room.join("bob")

    for _ in range(6):
        ann.say("OFFER", "bob")

    said = ann.sink.take()
    assert [each["type"] for each in said] == ["OPEN", "EXPIRE", "EXPIRE", "EXPIRE", "ERROR"]
    assert said[1]["payload"]["retry_after_seconds"] == 1  # type: ignore[index]
    assert ann.sink.closed == (4429, "rate_limited")
    assert bob.kinds() == ["OPEN", "OFFER", "OFFER"]


def test_heartbeats_count_and_garbage_over_the_rate_does_too() -> None:
    room = Room(Limits(messages_per_second=1, messages_burst=2, refusals=3))
    ann, eve = room.join("ann"), room.join("eve")

    for _ in range(6):
        ann.say("HEARTBEAT")
        eve.call.receive("{")

    assert ann.kinds() == ["OPEN", "ERROR"]
    assert ann.session.ended
    assert eve.session.ended


def test_all_together_send_so_much_in_a_room() -> None:
    room = Room(Limits(publishes_per_room_per_second=1, publishes_per_room_burst=2))
    ann, eve, bob = room.join("ann"), room.join("eve"), room.join("bob")
    ann.say("OFFER", "bob")
    ann.say("OFFER", "bob")

    eve.say("OFFER", "bob")

    expired = eve.sink.take()[1]
    assert expired["payload"]["code"] == "room_rate_limited"  # type: ignore[index]
    assert bob.kinds() == ["OPEN", "OFFER", "OFFER"]


def test_a_peer_lives_while_it_sends_heartbeats_and_no_longer(room: Room) -> None:
    ann = room.join("ann")
    for _ in range(3):
        room.clock.advance(80)
        ann.say("HEARTBEAT")
    assert not ann.session.ended

    room.clock.advance(91)

    assert ann.session.ended
    _, error = ann.sink.take()
    assert error["payload"]["code"] == "idle"
    assert ann.sink.closed == (4410, "idle")
    assert room.exchange.switchboard.ids("calls") == []


def test_leave_to_nobody_is_the_end_of_the_peer(room: Room) -> None:
    ann = room.join("ann")

    ann.say("LEAVE")

    assert ann.session.ended
    assert ann.sink.closed == (1000, "left")


def test_the_end_of_a_connection_leaves_nothing_behind(room: Room) -> None:
    ann = room.join("ann")
    ann.say("OFFER", "bob")

    ann.call.closed(offended=False)
    room.clock.advance(10)

    assert room.namespace.sessions == {}
    assert len(room.exchange.switchboard) == 0
    assert len(room.exchange.alive) == 0
    assert room.clock.waiting == 0


def test_a_fault_ends_only_the_session_that_met_it(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ann, bob = room.join("ann"), room.join("bob")

    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr(room.exchange.switchboard, "relay", fail)
        ann.say("OFFER", "bob")

    assert ann.kinds() == ["OPEN", "ERROR"]
    assert "a fault" in caplog.text
    assert not bob.session.ended
