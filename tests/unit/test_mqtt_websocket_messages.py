"""Subscriptions and messages of MQTT clients."""

import asyncio
from typing import Any

import pytest

from bridges.mqtt_websocket import MqttOptions
from bridges.mqtt_websocket_answers import packet, puback, publish
from bridges.mqtt_websocket_fields import Property, Reader, Reason
from gateway.core.errors import UpstreamUnavailable
from gateway.core.limits import Limits
from gateway.core.message import Cursor
from gateway.core.retention import Retention
from gateway.core.room_rules import RoomRule
from gateway.core.wire_requests import Subscribe
from tests import mqtt_speech as speech
from tests.unit.conftest import ROOMY, ListSink
from tests.unit.mqtt_world import EVE, MqttWorld, Peer

VERSIONS = pytest.mark.parametrize("version", [4, 5])
TOPIC = "sensors/oslo/b/t"


@pytest.fixture
def mqtt() -> MqttWorld:
    return MqttWorld()


def granted(peer: Peer) -> list[int]:
    """The reason codes in the SUBACK that comes first."""
    first, body = peer.heard()[0]
    assert first == 0x90
    reader = Reader(body)
    assert reader.two() == 9
    if peer.version == 5:
        reader.properties(frozenset(Property))
    return list(reader.rest())


def answers(peer: Peer) -> list[tuple[int, int, int]]:
    """The acknowledgements that have come: type, packet identifier, reason."""
    return [(first >> 4, int.from_bytes(body[:2]), body[2] if len(body) > 2 else 0) for first, body in peer.heard()]


@VERSIONS
def test_a_devices_message_comes_under_its_topic(mqtt: MqttWorld, version: int) -> None:
    peer = mqtt.join(version).subscribe(("sensors/oslo/+/t", 0))
    assert granted(peer) == [0]

    mqtt.world.device(TOPIC, b'{"c": 21.50}')
    mqtt.world.device("sensors/bergen/b/t", b"1")
    mqtt.world.device("sensors/oslo/b/other", b"1")

    (message,) = peer.messages()
    assert (message.topic, message.payload, message.qos, message.retain) == (TOPIC, b'{"c": 21.50}', 0, False)


def test_all_clients_of_a_version_share_a_messages_bytes(mqtt: MqttWorld) -> None:
    peers = [mqtt.join(4, client_id=str(number)) for number in range(3)]
    written: list[int] = []
    for peer in peers:
        peer.subscribe(("sensors/oslo/#", 0))
        peer.heard()
        peer.sink.write = lambda data: written.append(id(data))  # type: ignore[method-assign]
    mqtt.world.device(TOPIC, b"1")
    assert len(written) == 3
    assert len(set(written)) == 1


def test_a_filter_may_be_narrower_than_the_room(mqtt: MqttWorld) -> None:
    one, both = mqtt.join(client_id="one"), mqtt.join(client_id="both")
    one.subscribe(("lamps/kitchen", 0)).heard()
    both.subscribe(("lamps/+", 0)).heard()
    for name in ("kitchen", "hall"):
        mqtt.world.device(f"lamps/{name}", b"on")
    assert [message.topic for message in one.messages()] == ["lamps/kitchen"]
    assert [message.topic for message in both.messages()] == ["lamps/kitchen", "lamps/hall"]


@VERSIONS
def test_last_values_come_as_retained_messages_behind_the_answer(mqtt: MqttWorld, version: int) -> None:
    mqtt.world.device(TOPIC, b'{"c":  21.50}')
    peer = mqtt.join(version).subscribe(("sensors/#", 1))

    heard = peer.heard()
    assert [first for first, _ in heard] == [0x90, 0x33]
    assert heard[1][1].endswith(b'{"c":  21.50}')


@pytest.mark.parametrize(("handling", "first", "again"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
def test_retain_handling_says_when_last_values_come(mqtt: MqttWorld, handling: int, first: int, again: int) -> None:
    mqtt.world.device(TOPIC, b"1")
    peer = mqtt.join()
    counts = []
    for _ in range(2):
        peer.subscribe((TOPIC, handling << 4))
        counts.append(len(peer.heard()) - 1)
    assert counts == [first, again]
    mqtt.world.device(TOPIC, b"2")
    assert [message.payload for message in peer.messages()] == [b"2"]


def test_no_local_keeps_a_clients_own_messages_from_it(mqtt: MqttWorld) -> None:
    peer = mqtt.join(client_id="peer").subscribe(("chat/a", 0b0100))
    other = mqtt.join(client_id="other").subscribe(("chat/a", 0))
    peer.heard(), other.heard()
    peer.publish("chat/a", b"mine", qos=0)
    other.publish("chat/a", b"yours", qos=0)
    assert [message.payload for message in peer.messages()] == [b"yours"]
    assert [message.payload for message in other.messages()] == [b"mine", b"yours"]


def test_a_message_says_which_subscriptions_it_is_for(mqtt: MqttWorld) -> None:
    peer = mqtt.join()
    peer.subscribe(("sensors/#", 0), properties={Property.SUBSCRIPTION_IDENTIFIER: 3})
    peer.subscribe((TOPIC, 1), properties={Property.SUBSCRIPTION_IDENTIFIER: 200})
    peer.heard()
    mqtt.world.device(TOPIC, b"1")
    ((first, body),) = peer.heard()
    assert first == 0x32
    assert b"\x0b\x03\x0b\xc8\x01" in body


@VERSIONS
def test_a_filter_is_refused_unless_all_its_rooms_are_allowed(mqtt: MqttWorld, version: int) -> None:
    mqtt.allow(subscribe=("sites/oslo/#", "chat/+"))
    peer = mqtt.join(version, EVE)
    filters = ["sensors/oslo/#", "sensors/#", "chat/a", "chat/#", "$SYS/#", "$share/g/chat/a", "a//b"]
    peer.subscribe(*((name, 2) for name in filters))
    codes = [1, 0x87, 1, 0x87, 0x87, 0x9E, 0x8F]
    assert granted(peer) == (codes if version == 5 else [min(code, 0x80) for code in codes])
    assert set(peer.connection.sink.held) == {"sensors/oslo/#", "chat/a"}
    assert set(peer.session.rooms) == {"sites/oslo/+/+", "chat/a"}


def test_subscriptions_are_counted_by_their_rooms() -> None:
    mqtt = MqttWorld(Limits(subscriptions_per_connection=2, refusals=2))
    peer = mqtt.join().subscribe(("chat/a", 0), ("chat/b", 0), ("chat/c", 0))
    assert granted(peer) == [0, 0, Reason.QUOTA_EXCEEDED]
    peer.subscribe(("chat/d", 0))
    assert peer.sink.closed is not None


def test_what_filters_may_weigh_is_bounded(mqtt: MqttWorld) -> None:
    peer = mqtt.join().subscribe(("x" * 5_000, 0), ("y" * 5_000, 0))
    assert granted(peer) == [0, Reason.QUOTA_EXCEEDED]


@VERSIONS
def test_unsubscribing_leaves_rooms_that_no_other_filter_stands_for(mqtt: MqttWorld, version: int) -> None:
    peer = mqtt.join(version).subscribe(("lamps/a", 0), ("lamps/b", 0), ("chat/a", 0))
    peer.heard()
    peer.say(speech.unsubscribe(3, "lamps/a", "chat/a", "never", version=version))

    ((first, body),) = peer.heard()
    assert (first, body) == (0xB0, b"\0\3" + (b"\0\0\0\x11" if version == 5 else b""))
    assert set(peer.session.rooms) == {"lamps/all"}
    mqtt.world.device("lamps/a", b"1")
    mqtt.world.device("lamps/b", b"1")
    assert [message.topic for message in peer.messages()] == ["lamps/b"]


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_to_a_device_is_acknowledged_once_the_broker_has_it(mqtt: MqttWorld, version: int, qos: int) -> None:
    mqtt.world.upstream.answer_at_once = False
    peer = mqtt.join(version).publish("commands/b", b'{"on":true}', qos)

    assert (mqtt.world.upstream.published, peer.heard()) == ([("commands/b", b'{"on":true}', 1, False)], [])
    mqtt.world.upstream.waiting.pop()(None)
    assert answers(peer) == [[], [(4, 1, 0)], [(5, 1, 0)]][qos]


@VERSIONS
def test_a_message_of_qos_2_goes_out_once_until_it_is_released(mqtt: MqttWorld, version: int) -> None:
    mqtt.world.upstream.answer_at_once = False
    peer = mqtt.join(version).publish("commands/b", b"1", 2)
    peer.publish("commands/b", b"1", 2, duplicate=True)
    mqtt.world.upstream.waiting.pop()(None)
    peer.publish("commands/b", b"1", 2, duplicate=True)
    assert answers(peer) == [(5, 1, 0)] * 2
    assert len(mqtt.world.upstream.published) == 1

    peer.say(puback(version, 6, 1), puback(version, 6, 1)).publish("commands/b", b"2", 2)
    assert answers(peer) == [(7, 1, 0), (7, 1, Reason.PACKET_ID_NOT_FOUND if version == 5 else 0)]
    assert len(mqtt.world.upstream.published) == 2


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (TOPIC, b"1", Reason.NOT_AUTHORIZED),
        ("secret/a", b"1", Reason.NOT_AUTHORIZED),
        ("commands/b", b"{", Reason.PAYLOAD_INVALID),
        ("a//b", b"1", Reason.TOPIC_INVALID),
        ("$SYS/a", b"1", Reason.TOPIC_INVALID),
    ],
)
def test_5_is_told_why_a_message_is_refused_and_3_1_1_is_closed(
    mqtt: MqttWorld, topic: str, payload: bytes, reason: Reason
) -> None:
    mqtt.allow(publish=("devices/#", "sites/#"))
    five, three = mqtt.join(5, EVE, client_id="5"), mqtt.join(4, EVE, client_id="4")
    for qos, kind in ((1, 4), (2, 5)):
        five.publish(topic, payload, qos, qos)
        assert answers(five) == [(kind, qos, reason)]
    assert five.sink.closed is None
    three.publish(topic, payload, 1)
    assert (three.heard(), three.sink.closed is not None) == ([], True)
    assert mqtt.world.upstream.published == []


def test_a_broker_that_is_away_is_told(mqtt: MqttWorld) -> None:
    mqtt.world.upstream.error = UpstreamUnavailable("away")
    five, three = mqtt.join(5, client_id="5"), mqtt.join(4, client_id="4")
    five.publish("commands/b", b"1", 2)
    three.publish("commands/b", b"1", 1)
    assert answers(five) == [(5, 1, Reason.IMPLEMENTATION_SPECIFIC)]
    assert (three.heard(), three.sink.closed is not None) == ([], True)
    five.publish("commands/b", b"1", 2)  # the identifier is free again
    assert answers(five) == [(5, 1, Reason.IMPLEMENTATION_SPECIFIC)]


def test_a_topic_may_be_abbreviated(mqtt: MqttWorld) -> None:
    peer = mqtt.join()
    peer.publish("commands/a", b"1", 0, properties={Property.TOPIC_ALIAS: 2})
    peer.publish("", b"2", 0, properties={Property.TOPIC_ALIAS: 2})
    peer.publish("commands/b", b"3", 0, properties={Property.TOPIC_ALIAS: 2})
    peer.publish("", b"4", 0, properties={Property.TOPIC_ALIAS: 2})
    assert [topic for topic, *_ in mqtt.world.upstream.published] == ["commands/a"] * 2 + ["commands/b"] * 2


def test_5_that_floods_is_told_so_and_then_disconnected() -> None:
    mqtt = MqttWorld(Limits(messages_burst=3, messages_per_second=0.5, refusals=4))
    peer = mqtt.join()
    for number in range(1, 10):
        peer.publish("chat/a", b"1", packet_id=number)
    heard = peer.heard()
    codes = [body[2] if len(body) > 2 else 0 for first, body in heard if first == 0x40]
    assert codes == [0] * 3 + [Reason.QUOTA_EXCEEDED] * 4
    assert (heard[-1][0], heard[-1][1][0]) == (0xE0, Reason.RATE_TOO_HIGH)


@pytest.mark.parametrize(("version", "qos"), [(4, 0), (4, 1), (4, 2), (5, 0)])
async def test_a_flood_that_no_answer_could_refuse_is_read_slower(version: int, qos: int) -> None:
    mqtt = MqttWorld(Limits(messages_burst=3, messages_per_second=1))
    peer = mqtt.join(version)
    peer.say(b"".join(publish(version, "chat/a", b"1", qos=qos, packet_id=qos and n) for n in range(1, 6)))
    assert mqtt.counters.published["mqtt"] == 3
    for expected in (4, 5):
        assert peer.connection.waits
        settling = asyncio.ensure_future(peer.connection.settle())
        await asyncio.sleep(0)
        mqtt.clock.advance(1)
        await settling
        assert mqtt.counters.published["mqtt"] == expected
    assert (peer.connection.waits, peer.sink.closed) == (False, None)
    assert len(peer.heard()) == (5 if qos else 0)


def test_a_message_that_is_too_large_ends_the_connection(mqtt: MqttWorld) -> None:
    peer = mqtt.join().publish("chat/a", b"x" * 65_537)
    assert [body[0] for first, body in peer.heard() if first == 0xE0] == [Reason.PACKET_TOO_LARGE]


def test_a_message_may_be_as_large_as_any(mqtt: MqttWorld) -> None:
    peer = mqtt.join().publish("chat/a", b"x" * 65_536)
    assert answers(peer) == [(4, 1, 0)]


def test_more_messages_under_way_than_receive_maximum_end_the_connection() -> None:
    mqtt = MqttWorld(ROOMY)
    mqtt.world.upstream.answer_at_once = False
    peer = mqtt.join()
    for number in range(1, 66):
        peer.publish("commands/b", b"1", packet_id=number)
    assert [body[0] for first, body in peer.heard() if first == 0xE0] == [Reason.RECEIVE_MAXIMUM_EXCEEDED]


def test_an_identifier_that_is_in_use_is_a_violation(mqtt: MqttWorld) -> None:
    mqtt.world.upstream.answer_at_once = False
    peer = mqtt.join().publish("commands/b", b"1").publish("commands/b", b"1")
    assert [body[0] for first, body in peer.heard() if first == 0xE0] == [Reason.PROTOCOL_ERROR]


# What a client has acknowledged, and what comes again


def kept(**options: object) -> MqttWorld:
    return MqttWorld(ROOMY, rules=[RoomRule("chat/#", Retention(messages=100))], **options)  # type: ignore[arg-type]


def say(mqtt: MqttWorld, *texts: str) -> None:
    speaker = mqtt.join(5, client_id="speaker")
    for text in texts:
        speaker.publish("chat/a", text.encode(), 0)
    speaker.say(speech.DISCONNECT)


@VERSIONS
def test_a_client_that_comes_back_is_told_what_it_missed(version: int) -> None:
    mqtt = kept()
    options: dict[str, Any] = {"client_id": "me", "clean": False, "properties": {Property.SESSION_EXPIRY: 100}}
    peer = mqtt.join(version, **options).subscribe(("chat/a", 1), ("sensors/#", 0))
    peer.heard()
    peer.connection.closed(offended=False)
    say(mqtt, "1", "2")
    mqtt.world.device(TOPIC, b"3")

    peer = mqtt.peer(version).say(speech.connect(version, **options))

    heard = peer.heard()
    assert heard[0][1][0] == 1  # session present
    assert [(first, body[-1:]) for first, body in heard[1:]] == [(0x32, b"1"), (0x32, b"2"), (0x30, b"3")]


@VERSIONS
def test_what_wasnt_acknowledged_comes_again_under_its_identifier(version: int) -> None:
    mqtt = kept()
    options: dict[str, Any] = {"client_id": "me", "clean": False, "properties": {Property.SESSION_EXPIRY: 100}}
    peer = mqtt.join(version, **options).subscribe(("chat/a", 1))
    peer.heard()
    say(mqtt, "1", "2", "3")
    first = peer.messages()
    peer.say(puback(version, 4, first[0].packet_id))
    peer.connection.closed(offended=False)

    peer = mqtt.peer(version).say(speech.connect(version, **options))

    peer.sink.written[:] = peer.sink.written[peer.sink.written.index(b"\x3a") :]
    again = peer.messages()
    assert [(message.payload, message.packet_id) for message in again] == [
        (message.payload, message.packet_id) for message in first[1:]
    ]
    assert all(message.duplicate for message in again)


def test_last_values_that_werent_acknowledged_come_again() -> None:
    mqtt = kept()
    mqtt.world.device(TOPIC, b"1")
    options: dict[str, Any] = {"client_id": "me", "clean": False, "properties": {Property.SESSION_EXPIRY: 100}}
    peer = mqtt.join(5, **options).subscribe(("sensors/#", 1))
    peer.connection.closed(offended=False)

    for last in (False, True):  # until they are
        peer = mqtt.peer().say(speech.connect(5, **options))
        ((first, body),) = peer.heard()[1:]
        assert (first, body[-1:]) == (0x3B, b"1")
        if last:
            peer.say(puback(5, 4, int.from_bytes(body[2 + len(TOPIC) :][:2])))
        peer.connection.closed(offended=False)
    assert len(mqtt.peer().say(speech.connect(5, **options)).heard()) == 1


def test_a_client_that_acknowledges_nothing_is_told_no_more_until_it_does() -> None:
    mqtt = kept()
    peer = mqtt.join(properties={Property.RECEIVE_MAXIMUM: 2}).subscribe(("chat/a", 1))
    peer.heard()
    say(mqtt, "1", "2", "3", "4", "5")
    told = []
    while messages := peer.messages():
        assert len(messages) <= 2
        told += [message.payload for message in messages]
        for message in messages:
            peer.say(puback(5, 4, message.packet_id))
    assert told == [b"1", b"2", b"3", b"4", b"5"]


def test_last_values_beyond_what_may_be_under_way_wait() -> None:
    mqtt = kept()
    for number in range(10):
        mqtt.world.device(f"lamps/{number}", b"1")
    peer = mqtt.join(properties={Property.RECEIVE_MAXIMUM: 3}).subscribe(("lamps/#", 1))
    heard = [each for each in peer.heard() if each[0] >> 4 == 3]
    assert len(heard) == 3
    topics = []
    while heard:
        for _, body in heard:
            topics.append(body[2:9].decode())
            peer.say(puback(5, 4, int.from_bytes(body[9:11])))
        heard = peer.heard()
    assert topics == [f"lamps/{number}" for number in range(10)]


def test_who_acknowledges_nothing_for_too_long_is_disconnected_and_comes_back_to_all() -> None:
    mqtt = kept()
    options: dict[str, Any] = {
        "client_id": "me",
        "clean": False,
        "properties": {Property.SESSION_EXPIRY: 100, Property.RECEIVE_MAXIMUM: 2},
    }
    peer = mqtt.join(5, **options).subscribe(("chat/a", 1))
    peer.heard()
    say(mqtt, "1", "2", "3")
    mqtt.clock.advance(31)
    assert peer.heard()[-1][1][0] == Reason.QUOTA_EXCEEDED

    heard = mqtt.peer().say(speech.connect(5, **{**options, "properties": {Property.SESSION_EXPIRY: 100}})).heard()
    assert [body[-1:] for _, body in heard[1:]] == [b"1", b"2", b"3"]


def test_a_clean_start_begins_anew() -> None:
    mqtt = kept()
    options: dict[str, Any] = {"client_id": "me", "properties": {Property.SESSION_EXPIRY: 100}}
    for clean, present in ((False, 0), (False, 1), (True, 0), (False, 1)):
        peer = mqtt.peer().say(speech.connect(5, clean=clean, **options))
        assert peer.heard()[0][1][0] == present
        peer.connection.closed(offended=False)
    mqtt.clock.advance(101)
    assert len(mqtt.bridge.sessions) == 0
    assert mqtt.clock.waiting == 0


def test_3_1_1_with_a_clean_session_leaves_nothing() -> None:
    mqtt = kept()
    mqtt.join(4, client_id="me").connection.closed(offended=False)
    assert len(mqtt.bridge.sessions) == 0


def test_a_session_is_its_users_alone() -> None:
    mqtt = kept()
    options: dict[str, Any] = {"client_id": "me", "clean": False}
    mqtt.join(4, EVE, **options).connection.closed(offended=False)
    assert mqtt.peer(4).say(speech.connect(4, **options)).heard()[0][1][0] == 0
    assert mqtt.peer(4, EVE).say(speech.connect(4, **options)).heard()[0][1][0] == 1


def test_sessions_that_are_kept_are_bounded_in_all_and_for_each() -> None:
    mqtt = kept(options=MqttOptions(sessions=2))
    for name in ("a", "b", "c"):
        mqtt.join(4, client_id=name, clean=False).connection.closed(offended=False)
    assert (len(mqtt.bridge.sessions), mqtt.counters.drops["mqtt_session"]) == (2, 1)

    mqtt = kept()
    mqtt.join(4, EVE, client_id="eves", clean=False).connection.closed(offended=False)
    for number in range(101):
        mqtt.join(4, client_id=f"{number}", clean=False).connection.closed(offended=False)
    assert (len(mqtt.bridge.sessions), mqtt.counters.drops["mqtt_session"]) == (101, 1)


def test_rights_that_are_gone_arent_taken_back_with_a_session() -> None:
    mqtt = kept()
    options: dict[str, Any] = {"client_id": "me", "clean": False}
    mqtt.join(4, EVE, **options).subscribe(("chat/a", 0), ("chat/b", 0)).connection.closed(offended=False)
    mqtt.allow(subscribe=("chat/b",))
    peer = mqtt.join(4, EVE, **options)
    assert set(peer.session.rooms) == {"chat/b"}
    assert mqtt.counters.drops["mqtt_subscription"] == 1


def test_what_of_qos_2_wasnt_released_isnt_sent_twice_after_coming_back() -> None:
    mqtt = kept()
    options: dict[str, Any] = {"client_id": "me", "clean": False}
    mqtt.join(4, **options).publish("commands/b", b"1", 2).connection.closed(offended=False)
    peer = mqtt.join(4, **options).publish("commands/b", b"1", 2, duplicate=True)
    assert answers(peer) == [(5, 1, 0)]
    assert len(mqtt.world.upstream.published) == 1


def test_the_cursor_of_another_transport_resumes_a_subscription() -> None:
    mqtt = kept()
    say(mqtt, "1", "2", "3")
    sink = ListSink()
    session = mqtt.namespace.open("websocket", sink)
    mqtt.namespace.subscribe(session, Subscribe(None, ("chat/a",), Cursor("epoch", 0)))
    cursor = str(sink.written[1]["cursor"])

    peer = mqtt.join().subscribe(("chat/a", 0), properties={Property.USER_PROPERTY: [("since", cursor)]})

    assert [body[-1:] for first, body in peer.heard() if first == 0x30] == [b"2", b"3"]
    peer.subscribe(("chat/b", 0), properties={Property.USER_PROPERTY: [("since", "nonsense")]})
    assert granted(peer) == [Reason.IMPLEMENTATION_SPECIFIC]


def test_packets_larger_than_a_client_takes_arent_sent_to_it(mqtt: MqttWorld) -> None:
    peer = mqtt.join(properties={Property.MAXIMUM_PACKET_SIZE: 100}).subscribe(("sensors/#", 1), ("lamps/+", 0))
    peer.heard()
    for topic in (TOPIC, "lamps/a"):
        mqtt.world.device(topic, b'"' + b"x" * 200 + b'"')
        mqtt.world.device(topic, b"1")
    assert [message.payload for message in peer.messages()] == [b"1", b"1"]
    assert mqtt.counters.drops["mqtt_packet_too_large"] == 2


def test_what_a_client_missed_is_said_with_the_last_values() -> None:
    mqtt = MqttWorld(ROOMY)
    peer = mqtt.join().subscribe(("sensors/#", 0))
    peer.heard()
    peer.session.pause()
    for payload in (b"1", b"2"):
        mqtt.world.device(TOPIC, payload)
    peer.session.resume()
    (message,) = peer.messages()
    assert (message.payload, message.retain) == (b"2", True)
    assert ("recovered", "false") in message.properties[Property.USER_PROPERTY]
    assert mqtt.counters.drops["mqtt_gap"] == 1


def test_subscribing_too_fast_is_refused_to_5() -> None:
    mqtt = MqttWorld(Limits(messages_burst=1, messages_per_second=0.1))
    peer = mqtt.join().subscribe(("chat/a", 0))
    peer.heard()
    peer.subscribe(("chat/b", 0))
    assert granted(peer) == [Reason.QUOTA_EXCEEDED]


async def test_3_1_1_that_subscribes_too_fast_is_read_slower() -> None:
    mqtt = MqttWorld(Limits(messages_burst=1, messages_per_second=1))
    peer = mqtt.join(4).subscribe(("chat/a", 0)).subscribe(("chat/b", 0))
    assert len(peer.heard()) == 1
    settling = asyncio.ensure_future(peer.connection.settle())
    await asyncio.sleep(0)
    mqtt.clock.advance(1)
    await settling
    assert granted(peer) == [0]


@pytest.mark.parametrize("offends", [True, False])
def test_who_breaks_the_protocol_offends_and_who_is_refused_does_not(mqtt: MqttWorld, offends: bool) -> None:
    offended: list[None] = []
    mqtt.allow(publish=())
    peer = mqtt.join(4)
    peer.session.seat.offend = lambda: offended.append(None)
    if offends:
        peer.say(b"\xff\x00")
    else:
        peer.publish("chat/a", b"1")
    assert peer.sink.closed is not None
    assert peer.sink.closed[0] == (1002 if offends else 1008)
    assert len(offended) == offends


def test_who_would_have_to_wait_for_long_is_disconnected() -> None:
    mqtt = MqttWorld(Limits(messages_burst=1, messages_per_second=0.01))
    peer = mqtt.join(4).publish("chat/a", b"1").publish("chat/a", b"2", packet_id=2)
    assert (peer.connection.waits, peer.sink.closed is not None) == (False, True)


def test_what_comes_in_a_burst_is_written_as_one_where_no_look_is_needed(mqtt: MqttWorld) -> None:
    peer = mqtt.join(4)
    peer.sink.joins = True
    written: list[bytes] = []
    peer.sink.write = written.append  # type: ignore[method-assign, assignment]

    def burst(*payloads: bytes) -> int:
        """Let a device say several things at once; in how many pieces they come."""
        written.clear()
        mqtt.namespace.outbox.begin()
        for payload in payloads:
            mqtt.world.device(TOPIC, payload)
        mqtt.namespace.outbox.end()
        assert b"".join(written).count(b"sensors/") == len(payloads)
        return len(written)

    peer.subscribe(("sensors/#", 0))
    assert burst(b"1", b"2", b"3") == 1
    peer.subscribe(("lamps/a", 0))  # of its room, others have a part
    assert burst(b"4", b"5", b"6") == 3
    peer.say(speech.unsubscribe(1, "lamps/a", version=4))
    assert burst(b"7", b"8", b"9") == 1
    peer.subscribe(("sensors/#", 1))
    assert burst(b"10", b"11") == 2


def test_a_ping_is_answered(mqtt: MqttWorld) -> None:
    assert mqtt.join().say(packet(0xC0, b"")).heard() == [(0xD0, b"")]


@VERSIONS
def test_a_packet_with_far_more_filters_than_there_may_be_is_refused_without_a_look_at_them(
    mqtt: MqttWorld, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    monkeypatch.setattr(type(mqtt.bridge._served.topics), "heard", lambda _, each: looked.append(each))
    most = 2 * mqtt.namespace.limits.subscriptions_per_connection
    peer = mqtt.join(version).subscribe(*[("sensors/#", 0)] * (most + 1))

    refused = Reason.QUOTA_EXCEEDED if version == 5 else 0x80
    assert granted(peer) == [refused] * (most + 1)
    assert not looked
    assert mqtt.counters.refusals["too_many_subscriptions"] == 1


def test_unsubscribing_from_many_filters_leaves_the_rooms_that_another_one_stands_for(mqtt: MqttWorld) -> None:
    peer = mqtt.join().subscribe(("sensors/oslo/+/t", 0), ("sensors/oslo/+/t", 0), ("lamps/1", 0), ("lamps/2", 0))
    peer.heard()

    peer.say(speech.unsubscribe(9, "sensors/oslo/+/t", "lamps/1", "lamps/3"))

    assert set(peer.session.rooms) == {"lamps/all"}
