import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.mqtt_websocket_fields import MqttError, Reason
from bridges.mqtt_websocket_topics import Target, Topics
from gateway.core.errors import BadMessage, ReadOnly
from gateway.core.routes import Direction, PayloadKind, RouteSpec
from gateway.core.routing import RoutingTable
from gateway.core.topics import filter_matches

DEVICE, BOTH = Direction.TO_DEVICE, Direction.BOTH
ROUTES = [
    RouteSpec("sensors/{site}/{device}/{metric}", "sites/{site}/{device}/{metric}"),
    RouteSpec("lamps/{name}", "lamps/all"),
    RouteSpec("tree/{site}/{rest...}", "forest/{rest...}"),
    RouteSpec("commands/{site}/{device}", "sites/{site}/{device}/commands", DEVICE, PayloadKind.JSON),
    RouteSpec("alarm", "alarms/{site}", DEVICE),
    RouteSpec("text/{name}", "texts/{name}", BOTH, PayloadKind.TEXT),
    RouteSpec("raw/{name}", "raws/{name}", BOTH, PayloadKind.BYTES),
    RouteSpec("any/{name}", "anything/{name}", BOTH),
    RouteSpec("checked/{name}", "checked-rooms/{name}", BOTH, accepts=lambda data: None if data == 1 else "no"),
]
TABLE = RoutingTable(ROUTES, ["embedded"])
TOPICS = Topics(TABLE)


@pytest.mark.parametrize(
    ("topic_filter", "rooms"),
    [
        ("sensors/oslo/b/temperature", ["sites/oslo/b/temperature"]),
        ("sensors/oslo/+/temperature", ["sites/oslo/+/temperature"]),
        ("sensors/oslo/#", ["sites/oslo/+/+"]),
        ("sensors/oslo/b/t/#", ["sites/oslo/b/t"]),
        ("+/oslo/b/t", ["sites/oslo/b/t", "forest/b/t"]),
        ("lamps/kitchen", ["lamps/all"]),
        ("tree/oslo/a/+/c", ["forest/a/+/c"]),
        ("tree/oslo/a/#", ["forest/a/#"]),
        ("tree/#", ["forest/#"]),
    ],
)
def test_a_filter_over_topics_stands_for_the_rooms_that_its_messages_go_to(topic_filter: str, rooms: list[str]) -> None:
    heard = TOPICS.heard(topic_filter)
    assert (sorted(heard.rooms), heard.by_room) == (sorted(rooms), False)


@pytest.mark.parametrize("topic_filter", ["chat/a", "chat/+", "sites/oslo/#", "sensors/oslo", "sensors/a/b/c/d"])
def test_a_filter_over_no_routes_topics_stands_for_rooms_of_that_name(topic_filter: str) -> None:
    heard = TOPICS.heard(topic_filter)
    assert (heard.rooms, heard.by_room) == ((topic_filter,), True)


@pytest.mark.parametrize(
    ("topic_filter", "reason"),
    [
        ("$SYS/#", Reason.NOT_AUTHORIZED),
        ("tidegate/replies/#", Reason.NOT_AUTHORIZED),
        ("commands/oslo/b", Reason.NOT_AUTHORIZED),
        ("$share/group/sensors/#", Reason.SHARED_NOT_SUPPORTED),
        ("", Reason.FILTER_INVALID),
        ("a//b", Reason.FILTER_INVALID),
        ("a/#/b", Reason.FILTER_INVALID),
        ("a+", Reason.FILTER_INVALID),
    ],
)
def test_filters_that_stand_for_nothing_are_refused(topic_filter: str, reason: Reason) -> None:
    with pytest.raises(MqttError) as caught:
        TOPICS.heard(topic_filter)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("topic_filter", "exact"),
    [
        ("sensors/oslo/#", True),
        ("any/+", True),
        ("chat/+", True),
        ("lamps/kitchen", False),  # the room has other lamps
        ("tree/#", False),  # sites share rooms
        ("sites/oslo/#", False),  # messages have devices' topics
        ("#", False),
    ],
)
def test_it_is_known_whether_all_that_comes_is_for_a_filter(topic_filter: str, exact: bool) -> None:
    assert TOPICS.heard(topic_filter).exact is exact


LEVEL = st.sampled_from(["sensors", "tree", "lamps", "oslo", "b", "c"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=5)


@given(TOPIC, st.data())
def test_who_hears_a_filter_hears_the_room_of_every_topic_that_it_matches(
    levels: list[str], data: st.DataObject
) -> None:
    wanted = [data.draw(st.sampled_from([level, "+"])) for level in levels]
    cut = data.draw(st.integers(0, len(levels)))
    topic, topic_filter = "/".join(levels), "/".join([*wanted[:cut], "#"] if cut < len(levels) else wanted)
    assert filter_matches(topic_filter, topic)

    for _, room in TABLE.rooms_for("embedded", topic):
        heard = TOPICS.heard(topic_filter)
        assert any(filter_matches(each, room) for each in heard.rooms)


@pytest.mark.parametrize(
    ("topic", "payload", "target"),
    [
        ("commands/oslo/b", b'{"on":true}', Target("sites/oslo/b/commands", {"on": True}, False)),
        ("text/a", "å".encode(), Target("texts/a", "å", False)),
        ("raw/a", b"\0\1", Target("raws/a", "AAE=", True)),
        ("any/a", b'{"a": 1}', Target("anything/a", '{"a": 1}', False)),
        ("any/a", b"\xff", Target("anything/a", "/w==", True)),
        ("checked/a", b"1", Target("checked-rooms/a", 1, False)),
        ("chat/a", b'{"a": 1}', Target("chat/a", {"a": 1}, False)),
        ("chat/a", b"hello", Target("chat/a", "hello", False)),
        ("chat/a", b"\xff", Target("chat/a", "/w==", True)),
        ("sites/oslo/b/commands", b"[1]", Target("sites/oslo/b/commands", [1], False)),
        ("alarms/oslo", b"fire", Target("alarms/oslo", "fire", False)),
    ],
)
def test_a_message_goes_to_the_room_behind_its_topic(topic: str, payload: bytes, target: Target) -> None:
    assert TOPICS.target(topic, payload) == target


@pytest.mark.parametrize(
    ("topic", "payload", "error"),
    [
        ("sensors/oslo/b/t", b"1", ReadOnly),
        ("tidegate/replies/x", b"1", ReadOnly),
        ("commands/oslo/b", b"{", BadMessage),
        ("text/a", b"\xff", BadMessage),
        ("alarm", b"1", MqttError),  # which site's is not to be known
        ("$SYS/x", b"1", MqttError),
        ("a//b", b"1", MqttError),
    ],
)
def test_messages_that_nobody_may_send_are_refused(topic: str, payload: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        TOPICS.target(topic, payload)
