"""Sessions and devices in rooms with presence: who is told what, over the wire protocol."""

from typing import Any

import orjson
import pytest

from gateway.core.access import OPEN, Access
from gateway.core.conversation import Conversation
from gateway.core.delivery import Receipt
from gateway.core.device_status import DeviceStatus
from gateway.core.errors import BadMessage, NoPresence, ShuttingDown
from gateway.core.identity import Identity
from gateway.core.limits import Limits
from gateway.core.presence import Attendees, Who
from gateway.core.presence_wire import attendees_fields
from gateway.core.retention import NOTHING
from gateway.core.room_rules import RoomRule
from gateway.core.routing import PayloadKind, RouteSpec
from gateway.core.session import Pending
from gateway.core.wire_requests import Subscribe
from tests.unit.conftest import ListSink, World, make_world

RULES = [RoomRule("quiet/+", NOTHING), RoomRule("chat/#", NOTHING, presence=True), RoomRule("quiet/#", NOTHING, True)]
STATUS = DeviceStatus("{site}/{device}", frozenset({"online", "1"}), frozenset({"offline", "0"}))
ROUTES = [
    RouteSpec("status/{site}/{device}", "sites/{site}", payload=PayloadKind.JSON, presence=STATUS),
    RouteSpec("alarms/{site}", "alarms/{site}", presence=True),
    RouteSpec("sensors/{site}", "sensors/{site}"),
]


def make(limits: Limits | None = None) -> World:
    return make_world(limits, ROUTES, RULES)


class Client:
    """A session in a world, and what it hears of presence."""

    def __init__(self, world: World, *rooms: str, member: str | None = None, user: str | None = None) -> None:
        self.world = world
        self.sink = ListSink()
        self.session = world.namespace.open("websocket", self.sink, Access().of(Identity(user)), member=member)
        self.conversation = Conversation(self.session, world.namespace, world.counters)
        for room in rooms:
            world.subscribe(self.session, room)

    def say(self, **fields: Any) -> None:
        self.conversation.receive(orjson.dumps(fields).decode())

    def heard(self) -> list[tuple[Any, ...]]:
        """The changes: type, room, and who or how many."""
        return [
            (sent["type"], sent["room"], sent.get("who", sent.get("count")))
            for sent in self.sink.take()
            if sent["type"] in ("joined", "left", "presence")
        ]

    def ask(self, **fields: Any) -> dict[str, Any]:
        self.sink.take()
        self.say(type="presence", id=1, **fields)
        return self.sink.take()[-1]


def members(world: World, room: str) -> Any:
    found: list[Attendees] = []
    world.namespace.attendance.members(room, found.append, OPEN)
    return [orjson.loads(orjson.dumps(member)) for member in attendees_fields(found[0])["members"]]


def test_who_subscribes_by_name_is_in_the_room_and_who_does_by_a_pattern_listens() -> None:
    world = make()
    by_pattern, by_name = Client(world, "chat/#"), Client(world, "chat/hall")
    other = Client(world, "chat/hall", "chat/attic")
    who = {"session": by_name.session.id}, {"session": other.session.id}
    assert by_pattern.heard() == [
        ("joined", "chat/hall", who[0]),
        ("joined", "chat/hall", who[1]),
        ("joined", "chat/attic", who[1]),
    ]
    assert by_name.heard() == [("joined", "chat/hall", who[0]), ("joined", "chat/hall", who[1])]
    assert members(world, "chat/hall") == list(who)


def test_rooms_have_presence_by_the_first_rule_that_matches_or_by_a_route() -> None:
    world = make()
    has = world.namespace.attendance.has
    rooms = ("chat/hall", "quiet/x", "quiet/x/y", "alarms/oslo", "sites/oslo", "sensors/oslo", "other")
    assert [room for room in rooms if has(room)] == ["chat/hall", "quiet/x/y", "alarms/oslo", "sites/oslo"]
    Client(world, *rooms)
    assert world.namespace.attendance.presence.kinds["session"] == 4


def test_unsubscribing_and_ending_lead_to_left_after_the_grace_period() -> None:
    world = make()
    listener, one, two = Client(world, "chat/+"), Client(world, "chat/hall"), Client(world, "chat/hall")
    listener.heard()
    world.namespace.unsubscribe(one.session, "chat/hall")
    two.session.end()
    world.clock.advance(4)
    assert listener.heard() == []
    world.clock.advance(2)
    assert listener.heard() == [("left", "chat/hall", {"session": c.session.id}) for c in (one, two)]
    one.session.end()
    world.clock.advance(60)
    assert listener.heard() == []
    assert (world.namespace.attendance._entered, world.namespace.attendance._missed) == ({}, {})


def test_a_members_key_is_one_member_for_all_tabs_and_across_a_reload() -> None:
    world = make()
    listener = Client(world, "chat/+")
    tabs = [Client(world, "chat/hall", member="k") for _ in range(2)]
    for tab in tabs:
        tab.session.end()
    world.clock.advance(4)
    tabs = [Client(world, "chat/hall", member="k")]
    world.clock.advance(60)
    assert listener.heard() == [("joined", "chat/hall", {"member": "k"})]
    assert members(world, "chat/hall") == [{"member": "k"}]


def test_a_user_is_a_member_by_name_and_no_key_makes_them_another() -> None:
    world = make()
    user, other = (Client(world, "chat/hall", user="ann", member=key) for key in ("bob", None))
    pretender = Client(world, "chat/hall", member="ann")
    user.heard()
    other.session.end()
    user.say(type="presence", room="chat/hall", member="bob")
    user.session.member = None
    user.say(type="presence", room="chat/hall", member="eve")
    assert user.heard() == []
    assert members(world, "chat/hall") == [{"user": "ann"}, {"member": "ann"}]
    assert pretender.ask(room="chat/hall")["data"]["count"] == 2


def test_a_key_that_comes_later_changes_who_it_is_at_once_and_once() -> None:
    world = make()
    listener, client = Client(world, "chat/#"), Client(world, "chat/a", "chat/b")
    session = {"session": client.session.id}
    listener.heard()
    assert client.ask(room="chat/a", member="k")["data"] == {"count": 1, "members": [{"member": "k"}]}
    assert listener.heard() == [
        change
        for room in ("chat/a", "chat/b")
        for change in (("left", room, session), ("joined", room, {"member": "k"}))
    ]
    assert client.ask(room="chat/a", member="k")["data"]["count"] == 1
    assert "another key already" in client.ask(room="chat/a", member="l")["message"]
    assert listener.heard() == []


def test_a_key_that_comes_before_the_subscription_is_the_first_that_others_hear_of() -> None:
    world = make()
    listener, client = Client(world, "chat/#"), Client(world)
    client.say(type="presence", room="chat/a", member="k")
    world.subscribe(client.session, "chat/a")
    assert listener.heard() == [("joined", "chat/a", {"member": "k"})]


def test_a_state_is_told_with_who_has_it() -> None:
    world = make()
    listener, client = Client(world, "chat/#"), Client(world, "chat/a", member="k")
    listener.sink.take()
    assert client.ask(room="chat/a", state={"mood": "fine"})["data"]["members"] == [
        {"member": "k", "state": {"mood": "fine"}}
    ]
    client.say(type="presence", room="chat/a", state=None)
    assert listener.sink.take() == [
        {"type": "joined", "room": "chat/a", "who": {"member": "k", "state": {"mood": "fine"}}, "updated": True},
        {"type": "joined", "room": "chat/a", "who": {"member": "k"}, "updated": True},
    ]


def test_a_state_has_at_most_so_many_bytes_and_needs_a_subscription_by_name() -> None:
    world = make(Limits(presence_state_bytes=10))
    client = Client(world, "chat/+", "chat/a")
    assert client.ask(room="chat/a", state="x" * 8)["type"] == "reply"
    assert "11 bytes: expected at most 10" in client.ask(room="chat/a", state="x" * 9)["message"]
    assert "subscribed to by its name" in client.ask(room="chat/b", state=1)["message"]
    assert members(world, "chat/a") == [{"session": client.session.id, "state": "x" * 8}]


def test_a_state_has_no_more_levels_than_can_be_told_to_everybody() -> None:
    client = Client(make(), "chat/a", member="k")
    deep = orjson.loads(b"[" * 201 + b"]" * 201)
    assert "at most 200 levels" in client.ask(room="chat/a", state=deep)["message"]
    assert client.ask(room="chat/a", state=deep[0])["type"] == "reply"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"room": "sensors/oslo"}, "no_presence"),
        ({"room": "chat/+"}, "bad_message"),
        ({"room": "chat//a"}, "bad_message"),
        ({"room": "chat/a", "member": ""}, "bad_message"),
        ({"room": "chat/a", "member": "x" * 65}, "bad_message"),
        ({"room": "chat/a", "member": "a\nb"}, "bad_message"),
        ({"room": "chat/a", "member": 5}, "bad_message"),
    ],
)
def test_what_cant_be_asked_is_refused_by_name(fields: dict[str, Any], code: str) -> None:
    client = Client(make(), "chat/a")
    answer = client.ask(**fields)
    assert (answer["type"], answer["code"], answer["id"]) == ("error", code, 1)
    named = "presence" if code == "no_presence" else next(iter(reversed(fields)))
    assert named in str(answer["message"])


def test_a_question_needs_an_id_and_a_statement_none() -> None:
    client = Client(make(), "chat/a")
    client.sink.take()
    client.say(type="presence", room="chat/a", state=1)
    assert [sent["type"] for sent in client.sink.take()] == ["joined"]
    client.say(type="presence", room="chat/a")
    assert client.sink.take()[0]["code"] == "bad_message"


def test_who_finds_no_place_is_told_so_once_and_hears_all_the_same() -> None:
    world = make(Limits(presence_members=1))
    first, second = Client(world, "chat/a"), Client(world)
    world.namespace.subscribe(second.session, _subscribe("chat/a", "chat/b", "sensors/oslo"))
    told = second.sink.take()
    assert [sent.get("code") for sent in told if sent["type"] == "error"] == ["presence_full"]
    assert second.ask(room="chat/a", state=1)["code"] == "presence_full"
    assert world.counters.refusals["presence_full"] == 2
    first.session.end()
    world.clock.advance(6)
    assert second.heard() == [("left", "chat/a", {"session": first.session.id})]
    assert second.ask(room="chat/a", state=1)["data"]["count"] == 1


def _subscribe(*rooms: str) -> Subscribe:
    return Subscribe(None, rooms, None)


def test_devices_come_and_go_by_their_status_without_a_grace_period() -> None:
    world = make()
    listener = Client(world, "sites/#")
    for payload in (b"online", b'"online"', b"1", b"offline", b'"1"', b'"offline"', b"0", b"1", b""):
        world.device("status/oslo/fan-4", payload)
    who = {"device": "oslo/fan-4"}
    assert listener.heard() == [("joined", "sites/oslo", who), ("left", "sites/oslo", who)] * 3
    assert world.counters.drops["bad_status"] == 0


def test_a_status_that_says_neither_is_ignored_and_counted() -> None:
    world = make()
    world.device("status/oslo/fan-4", b"online")
    for payload in (b"away", b'{"state":"offline"}', b"\xff", b"[", b"2", b"$" * 1000):
        world.device("status/oslo/fan-4", payload)
    assert members(world, "sites/oslo") == [{"device": "oslo/fan-4"}]
    assert world.counters.drops["bad_status"] == 6


def test_retained_statuses_that_come_again_change_nothing() -> None:
    world = make()
    listener = Client(world, "sites/#")
    for _ in range(3):
        world.device("status/oslo/fan-4", b"online", retained=True)
    assert listener.heard() == [("joined", "sites/oslo", {"device": "oslo/fan-4"})]


def test_a_status_that_the_broker_sends_again_counts_though_its_message_is_known() -> None:
    """A gateway that was restarted has the message in its log, and nobody in its rooms."""
    world = make()
    topic, payload = "status/oslo/fan-4", b'"online"'
    world.device(topic, payload, receipt=Receipt.of(1, False, topic, payload))
    world.namespace.attendance.presence.leave(
        "sites/oslo", Who("device", "oslo/fan-4"), f"embedded {topic}", at_once=True
    )
    world.device(topic, payload, receipt=Receipt.of(1, True, topic, payload))
    assert world.counters.drops["redelivered"] == 1
    assert members(world, "sites/oslo") == [{"device": "oslo/fan-4"}]


def test_a_device_is_there_as_long_as_one_of_its_topics_or_upstreams_says_so() -> None:
    world = make()
    listener = Client(world, "sites/#")
    namespace, (route, *_) = world.namespace, world.namespace.routing.routes
    for upstream, payload in (("a", b"online"), ("b", b"online"), ("a", b"offline"), ("c", b"offline")):
        namespace.attendance.status(route, "sites/oslo", upstream, "status/oslo/fan-4", payload)
    assert listener.heard() == [("joined", "sites/oslo", {"device": "oslo/fan-4"})]
    namespace.attendance.status(route, "sites/oslo", "b", "status/oslo/fan-4", b"offline")
    assert listener.heard() == [("left", "sites/oslo", {"device": "oslo/fan-4"})]


def test_devices_have_a_bound_too_and_it_harms_no_message() -> None:
    world = make(Limits(presence_members=1))
    listener = Client(world, "sites/#")
    for device in ("a", "b"):
        world.device(f"status/oslo/{device}", b'"online"')
    assert [sent["type"] for sent in listener.sink.take()] == ["subscribed", "joined", "message", "message"]
    assert world.counters.drops["presence_full"] == 1


def test_a_client_that_doesnt_read_is_told_nothing_and_then_who_is_there() -> None:
    world = make()
    slow = Client(world, "chat/+")
    slow.sink.take()
    slow.sink.paused = True
    slow.session.pause()
    for key in "ab":
        Client(world, "chat/hall", member=key)
    Client(world, "chat/attic", member="c")
    assert slow.sink.take() == []
    assert world.counters.drops["presence_to_slow_client"] == 3
    slow.sink.paused = False
    slow.session.resume()
    assert slow.sink.take() == [
        {"type": "presence", "room": "chat/hall", "count": 2, "members": [{"member": "a"}, {"member": "b"}]},
        {"type": "presence", "room": "chat/attic", "count": 1, "members": [{"member": "c"}]},
    ]
    Client(world, "chat/hall", member="d")
    assert slow.heard() == [("joined", "chat/hall", {"member": "d"})]


def test_a_client_that_stops_reading_again_is_told_the_rest_later() -> None:
    world = make()
    slow = Client(world, "chat/+")
    slow.sink.paused = True
    slow.session.pause()
    for room in "abc":
        Client(world, f"chat/{room}", member="k")
    slow.sink.take()
    slow.sink.session, slow.sink.full_after = slow.session, 1
    rooms = []
    while slow.sink.paused:
        slow.sink.paused = False
        slow.session.resume()
        rooms += [sent["room"] for sent in slow.sink.take()]
    assert rooms == ["chat/a", "chat/b", "chat/c"]
    assert world.namespace.attendance._missed == {}


def test_a_client_that_has_left_meanwhile_is_told_no_more_of_the_room() -> None:
    world = make()
    slow = Client(world, "chat/a", "chat/b")
    slow.sink.paused = True
    slow.session.pause()
    Client(world, "chat/a", "chat/b")
    world.namespace.unsubscribe(slow.session, "chat/a")
    slow.sink.take()
    slow.sink.paused = False
    slow.session.resume()
    assert slow.heard() == [("presence", "chat/b", 2)]


def test_a_client_that_misses_too_much_is_disconnected() -> None:
    world = make()
    slow = Client(world, "chat/+")
    slow.sink.paused = True
    slow.session.pause()
    crowd = Client(world)
    world.namespace.subscribe(crowd.session, _subscribe(*(f"chat/{n}" for n in range(100))))
    assert not slow.session.ended
    Client(world, "chat/another")
    assert (slow.session.ended, slow.sink.closed) == (True, (4408, "slow_consumer"))
    assert world.namespace.attendance._missed == {}


def test_a_client_that_still_catches_up_is_told_at_once() -> None:
    world = make()
    client = Client(world, "chat/hall")
    world.namespace.recovery._fanout.unsubscribe(client.session, "chat/hall")
    client.session.pending["chat/hall"] = Pending(0)
    world.namespace.recovery._behind.add(client.session)
    client.heard()
    Client(world, "chat/hall", member="k")
    assert client.heard() == [("joined", "chat/hall", {"member": "k"})]


def test_no_one_is_said_to_have_left_when_the_gateway_goes() -> None:
    world = make()
    clients = [Client(world, "chat/hall") for _ in range(3)]
    for client in clients:
        client.heard()
    world.namespace.attendance.close()
    for client in clients:
        client.session.end()
    world.clock.advance(60)
    assert [client.heard() for client in clients] == [[], [], []]
    assert world.clock.waiting == 0


def test_who_is_sent_away_because_the_gateway_goes_has_not_left_before_it_has() -> None:
    world = make()
    stays, sent_away, leaves = (Client(world, "chat/hall") for _ in range(3))
    sent_away.session.end(ShuttingDown("going"))
    stays.heard()
    leaves.session.end()
    world.clock.advance(60)
    assert stays.heard() == [("left", "chat/hall", {"session": leaves.session.id})]
    assert stays.ask(room="chat/hall")["data"]["count"] == 2  # as long as the gateway is there
    newcomer = Client(world, "chat/hall")
    assert stays.heard() == [("joined", "chat/hall", {"session": newcomer.session.id})]


def test_asking_from_outside_needs_a_room_with_presence() -> None:
    attendance = make().namespace.attendance
    with pytest.raises(NoPresence, match="`presence: true`"):
        attendance.members("sensors/oslo", lambda _: None, OPEN)
    with pytest.raises(BadMessage, match="room: "):
        attendance.members("chat/#", lambda _: None, OPEN)


def test_hundreds_of_sessions_leave_nothing_behind() -> None:
    world = make(Limits(presence_members_told=50))
    clients = [Client(world, "chat/hall", f"chat/{n % 7}", "chat/#") for n in range(300)]
    for client in clients:
        client.session.end()
    world.clock.advance(60)
    attendance, presence = world.namespace.attendance, world.namespace.attendance.presence
    assert (attendance._entered, attendance._missed, world.namespace.recovery._behind) == ({}, {}, set())
    assert presence._roster._rooms == {}  # type: ignore[attr-defined]
    assert (sum(presence.kinds.values()), world.clock.waiting) == (0, 0)


def test_who_ended_and_subscribes_all_the_same_is_in_no_room() -> None:
    world = make()
    client = Client(world)
    client.session.end()
    world.subscribe(client.session, "chat/a")
    assert members(world, "chat/a") == []
    assert client.session not in world.namespace.recovery.listeners("chat/a") or client.sink.take()
    assert world.namespace.recovery._behind == set()


def test_the_sink_is_told_in_json_that_fits_one_line() -> None:
    world = make()
    listener, client = Client(world, "chat/#"), Client(world, "chat/a", member="k")
    lines: list[bytes] = []
    listener.sink.write = lines.append  # type: ignore[method-assign, assignment]
    client.say(type="presence", room="chat/a", state={"note": "a\nb"})
    assert len(lines) == 1
    assert b"\n" not in lines[0]
