from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.peerjs_protocol import Signal
from bridges.peerjs_switchboard import Peer, Switchboard, SwitchboardBounds
from gateway.core.counters import Counters
from gateway.core.peer_errors import IdTaken, TooManyPeers
from tests.unit.conftest import HandClock


@dataclass(eq=False)
class HandLine:
    live: bool = True
    heard: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, text: bytes) -> None:
        self.heard.append(orjson.loads(text))

    def replaced(self) -> None:
        self.live = False

    @property
    def kinds(self) -> list[str]:
        return [said["type"] for said in self.heard]


class Board:
    def __init__(self, **bounds: Any) -> None:
        self.clock, self.counters = HandClock(), Counters()
        self.switchboard = Switchboard(SwitchboardBounds(**bounds), self.clock, self.counters)

    def join(
        self,
        identifier: str,
        token: str = "t",  # noqa: S107
        room: str = "calls",
        user: str | None = None,
    ) -> tuple[Peer, HandLine]:
        line = HandLine()
        peer = self.switchboard.join(room, identifier, token, user, line)
        self.switchboard.connect(peer)
        return peer, line

    def say(self, peer: Peer, dst: str, kind: str = "OFFER", size: int = 0) -> None:
        self.switchboard.relay(peer, Signal(kind, dst, orjson.dumps({"x": "x" * size})))


@pytest.fixture
def board() -> Board:
    return Board()


def test_a_signal_reaches_the_peer_it_is_for_and_nobody_else(board: Board) -> None:
    ann, to_ann = board.join("ann")
    _, to_bob = board.join("bob")
    _, to_eve = board.join("eve")
    _, to_other_bob = board.join("bob", room="elsewhere")

    board.say(ann, "bob")

    assert to_bob.heard == [{"type": "OFFER", "src": "ann", "dst": "bob", "payload": {"x": ""}}]
    assert not to_ann.heard + to_eve.heard + to_other_bob.heard
    assert board.counters.deliveries["peerjs"] == 1


def test_what_is_said_to_a_peer_that_is_about_to_come_waits_in_order(board: Board) -> None:
    ann, to_ann = board.join("ann")
    for kind in ("OFFER", "CANDIDATE", "CANDIDATE"):
        board.say(ann, "bob", kind)
    board.clock.advance(4)

    _, to_bob = board.join("bob")
    board.clock.advance(10)

    assert to_bob.kinds == ["OFFER", "CANDIDATE", "CANDIDATE"]
    assert to_ann.heard == []
    assert len(board.switchboard) == 0
    assert board.clock.waiting == 0


def test_a_call_to_nobody_expires_once_for_each_caller(board: Board) -> None:
    ann, to_ann = board.join("ann")
    eve, to_eve = board.join("eve")
    for caller in (ann, ann, eve):
        board.say(caller, "bob")

    board.clock.advance(5.1)
    _, to_bob = board.join("bob")

    for line, name in ((to_ann, "ann"), (to_eve, "eve")):
        (expired,) = line.heard
        assert (expired["type"], expired["src"], expired["dst"]) == ("EXPIRE", "bob", name)
        assert expired["payload"]["code"] == "peer_unavailable"
    assert to_bob.heard == []
    assert board.counters.drops["peerjs_expired"] == 3


def test_a_caller_that_may_not_be_there_any_more_is_told_nothing(board: Board) -> None:
    ann, to_ann = board.join("ann")
    board.say(ann, "bob")
    to_ann.live = False

    board.clock.advance(6)

    assert to_ann.heard == []


def test_what_somebody_said_who_may_not_be_there_any_more_reaches_nobody(board: Board) -> None:
    ann, to_ann = board.join("ann")
    eve, _ = board.join("eve")
    board.say(ann, "bob")
    board.say(eve, "bob")
    to_ann.live = False

    _, to_bob = board.join("bob")

    assert [said["src"] for said in to_bob.heard] == ["eve"]
    assert board.counters.drops["peerjs_expired"] == 1


def test_what_a_caller_said_goes_with_it(board: Board) -> None:
    ann, to_ann = board.join("ann")
    eve, _ = board.join("eve")
    board.say(ann, "bob")
    board.say(eve, "bob")

    board.switchboard.leave(ann, to_ann)
    _, to_bob = board.join("bob")

    assert [said["src"] for said in to_bob.heard] == ["eve"]


def test_a_call_that_is_taken_back_doesnt_wait(board: Board) -> None:
    ann, _ = board.join("ann")
    board.say(ann, "bob")

    board.switchboard.relay(ann, Signal("LEAVE", "bob"))

    assert len(board.switchboard) == 0
    assert board.join("bob")[1].heard == []


def test_leave_is_told_to_who_is_there(board: Board) -> None:
    ann, _ = board.join("ann")
    _, to_bob = board.join("bob")

    board.switchboard.relay(ann, Signal("LEAVE", "bob"))

    assert to_bob.heard == [{"type": "LEAVE", "src": "ann", "dst": "bob"}]


@pytest.mark.parametrize("bounds", [{"queue_messages": 2}, {"queue_bytes": 150}], ids=str)
def test_one_peer_has_so_much_waiting_and_no_more(bounds: dict[str, int]) -> None:
    board = Board(**bounds)
    ann, _ = board.join("ann")
    eve, _ = board.join("eve")
    board.say(ann, "bob")
    board.say(ann, "cid")

    with pytest.raises(TooManyPeers):
        board.say(ann, "dan")

    board.say(eve, "bob")
    assert len(board.switchboard) == 3
    assert board.counters.drops["peerjs_queue_full"] == 1
    board.clock.advance(6)
    board.say(ann, "dan")


@pytest.mark.parametrize("bound", [("MESSAGES", 2), ("BYTES", 150)], ids=str)
def test_all_together_have_so_much_waiting(
    board: Board, monkeypatch: pytest.MonkeyPatch, bound: tuple[str, int]
) -> None:
    monkeypatch.setattr(f"bridges.peerjs_switchboard.WAITING_{bound[0]}", bound[1])
    ann, _ = board.join("ann")
    eve, _ = board.join("eve")
    board.say(ann, "bob")
    board.say(eve, "bob")

    with pytest.raises(TooManyPeers):
        board.say(eve, "cid")


def test_another_token_finds_the_id_taken_and_changes_nothing(board: Board) -> None:
    ann, _ = board.join("ann")
    _, to_bob = board.join("bob", "bobs token")

    with pytest.raises(IdTaken):
        board.join("bob", "another")

    board.say(ann, "bob")
    assert to_bob.kinds == ["OFFER"]


def test_the_same_token_takes_the_place_of_the_older_connection(board: Board) -> None:
    ann, _ = board.join("ann")
    bob, old = board.join("bob")
    board.say(bob, "cid")

    again, new = board.join("bob")
    board.switchboard.leave(bob, old)  # as the older one is closed now
    board.say(ann, "bob")

    assert again is bob
    assert not old.live
    assert (old.kinds, new.kinds) == ([], ["OFFER"])
    assert board.join("cid")[1].kinds == ["OFFER"]  # what it had said still waited


def test_the_same_token_of_another_user_is_another_peer(board: Board) -> None:
    board.join("bob", user="bob")

    with pytest.raises(IdTaken):
        board.join("bob", user="eve")


def test_an_id_is_free_once_its_peer_may_not_be_there(board: Board) -> None:
    ann, _ = board.join("ann")
    bob, old = board.join("bob")
    old.live = False
    board.say(ann, "bob")

    _, new = board.join("bob", "another")
    board.switchboard.leave(bob, old)

    assert new.kinds == ["OFFER"]
    assert board.switchboard.ids("calls") == ["ann", "bob"]


def test_a_room_has_so_many_peers() -> None:
    board = Board(peers_per_room=2)
    board.join("ann")
    bob, _ = board.join("bob")

    with pytest.raises(TooManyPeers):
        board.join("cid")

    board.join("cid", room="elsewhere")
    board.join("bob")  # it has its place already
    board.switchboard.leave(bob, bob.line)
    board.join("cid")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave", "say", "take back", "wait"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 60),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_each_call_is_answered_or_told_and_nothing_is_left(
    steps: list[tuple[str, str, str, int]],
) -> None:
    board = Board(queue_messages=3, queue_bytes=200)
    there: dict[str, tuple[Peer, HandLine]] = {}
    for act, one, other, size in steps:
        match act:
            case "join" if one not in there:
                there[one] = board.join(one)
            case "leave" if one in there:
                board.switchboard.leave(*there.pop(one))
            case "say" if one in there:
                try:
                    board.say(there[one][0], other, size=size)
                except TooManyPeers:
                    assert other not in there
            case "take back" if one in there:
                board.switchboard.relay(there[one][0], Signal("LEAVE", other))
            case "wait":
                board.clock.advance(size / 10)
        assert sorted(board.switchboard.ids("calls")) == sorted(there)
        assert all(peer.messages <= 3 and peer.size_bytes <= 200 for peer, _ in there.values())
    board.clock.advance(6)
    assert len(board.switchboard) == 0
    assert board.clock.waiting == 0
    assert all(peer.messages == peer.size_bytes == len(peer.waiting) == 0 for peer, _ in there.values())
