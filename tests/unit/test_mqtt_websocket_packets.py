import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.mqtt_websocket_answers import disconnect, packet, puback, publish
from bridges.mqtt_websocket_connect import Connect
from bridges.mqtt_websocket_fields import MqttError, Property, Reader, Reason, write_properties, write_varint
from bridges.mqtt_websocket_packets import (
    Acknowledgement,
    Disconnect,
    Packet,
    PacketReader,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
)
from tests import mqtt_speech as speech

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
TOPIC = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=40)
PACKET_ID = st.integers(1, 65_535)
VERSION = st.sampled_from([4, 5])
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5)
OF_PUBLISH = st.fixed_dictionaries(
    {},
    optional={
        Property.PAYLOAD_FORMAT: st.integers(0, 1),
        Property.MESSAGE_EXPIRY: st.integers(0, 2**32 - 1),
        Property.TOPIC_ALIAS: st.integers(1, 65_535),
        Property.CORRELATION_DATA: st.binary(max_size=20),
        Property.CONTENT_TYPE: TEXT,
        Property.USER_PROPERTY: PAIRS,
    },
)


def reader(version: int | None = 5, limit_bytes: int = 100_000) -> PacketReader:
    found = PacketReader(limit_bytes)
    found.version = version
    return found


def read(data: bytes, version: int | None = 5) -> Packet:
    packets = reader(version)
    packets.feed(data)
    found = packets.next()
    assert found is not None
    assert packets.held == 0
    return found[0]


def refusal(data: bytes, version: int | None = 5, limit_bytes: int = 100_000) -> Reason:
    packets = reader(version, limit_bytes)
    packets.feed(data)
    with pytest.raises(MqttError) as caught:
        packets.next()
    assert caught.value.message
    return caught.value.reason


@given(st.integers(0, 268_435_455))
def test_a_variable_byte_integer_is_read_as_it_was_written(value: int) -> None:
    assert Reader(write_varint(value)).varint() == value


@given(VERSION, TOPIC, st.binary(max_size=300), st.integers(0, 2), PACKET_ID, st.booleans(), OF_PUBLISH)
def test_a_message_is_read_as_it_was_written(
    version: int, topic: str, payload: bytes, qos: int, packet_id: int, retain: bool, properties: dict[Property, object]
) -> None:
    number = packet_id if qos else 0
    written = publish(
        version, topic, payload, qos=qos, packet_id=number, retain=retain, duplicate=qos > 0, properties=properties
    )

    expected = Publish(topic, payload, qos, number, retain, qos > 0, properties if version == 5 else {})
    assert read(written, version) == expected


@given(VERSION, st.sampled_from([4, 5, 6, 7]), PACKET_ID, st.sampled_from(list(Reason)), TEXT)
def test_an_acknowledgement_is_read_as_it_was_written(
    version: int, kind: int, packet_id: int, reason: Reason, message: str
) -> None:
    found = read(puback(version, kind, packet_id, reason, message), version)

    assert found == Acknowledgement(kind, packet_id, reason if version == 5 else 0)


@given(st.sampled_from(list(Reason)), TEXT)
def test_a_goodbye_is_read_as_it_was_written(reason: Reason, message: str) -> None:
    found = read(disconnect(reason, message))

    assert isinstance(found, Disconnect)
    assert found.reason == reason
    assert found.properties == ({Property.REASON_STRING: message} if message else {})


@given(
    VERSION,
    TEXT,
    st.booleans(),
    st.integers(0, 65_535),
    st.none() | st.tuples(TEXT, st.binary(max_size=20)),
    st.none() | st.tuples(TOPIC, st.binary(max_size=20)),
)
def test_a_connect_is_read_as_it_was_written(
    version: int,
    client_id: str,
    clean: bool,
    keep_alive_seconds: int,
    login: tuple[str, bytes] | None,
    will: tuple[str, bytes] | None,
) -> None:
    username, password = login or (None, None)
    written = speech.connect(
        version,
        client_id,
        clean=clean,
        keep_alive_seconds=keep_alive_seconds,
        username=username,
        password=password,
        will=will,
    )

    found = read(written, None)

    assert isinstance(found, Connect)
    assert (found.version, found.client_id, found.clean) == (version, client_id, clean)
    assert (found.keep_alive_seconds, found.username, found.password) == (keep_alive_seconds, username, password)
    assert (None if found.will is None else (found.will.topic, found.will.payload)) == will


@given(VERSION, PACKET_ID, st.lists(st.tuples(TEXT, st.integers(0, 2)), min_size=1, max_size=5))
def test_subscriptions_are_read_as_they_were_written(
    version: int, packet_id: int, filters: list[tuple[str, int]]
) -> None:
    names = [name for name, _ in filters]

    found = read(speech.subscribe(packet_id, *filters, version=version), version)
    assert found == Subscribe(packet_id, tuple(Subscription(name, qos) for name, qos in filters))
    found = read(speech.unsubscribe(packet_id, *names, version=version), version)
    assert found == Unsubscribe(packet_id, tuple(names))


def test_the_options_of_a_subscription_are_read() -> None:
    found = read(speech.subscribe(1, ("a", 0b10_1_1_01), properties={Property.SUBSCRIPTION_IDENTIFIER: 7}))

    options = Subscription("a", 1, no_local=True, retain_as_published=True, retain_handling=2)
    assert found == Subscribe(1, (options,), {Property.SUBSCRIPTION_IDENTIFIER: 7})


@given(st.lists(st.binary(max_size=60), max_size=8), st.sampled_from([None, 4, 5]))
def test_no_bytes_make_the_reader_raise_anything_but_its_own_error(pieces: list[bytes], version: int | None) -> None:
    packets = reader(version, 1000)
    try:
        for piece in pieces:
            packets.feed(piece)
            while packets.next() is not None:
                pass
    except MqttError as error:
        assert error.message


@given(st.sampled_from([None, 4, 5]), st.integers(1, 15), st.integers(0, 15), st.binary(max_size=80))
def test_no_packet_makes_the_reader_raise_anything_but_its_own_error(
    version: int | None, kind: int, flags: int, body: bytes
) -> None:
    packets = reader(version)
    packets.feed(packet(kind << 4 | flags, body))
    try:
        packets.next()
    except MqttError as error:
        assert error.message


@given(st.data())
def test_packets_may_be_split_and_joined_at_any_byte(data: st.DataObject) -> None:
    written = speech.connect() + publish(5, "a/b", b"x" * 200, qos=1, packet_id=3) + speech.PINGREQ
    packets, found, at = reader(None), 0, 0
    while at < len(written):
        size = data.draw(st.integers(1, len(written) - at))
        packets.feed(written[at : at + size])
        at += size
        while packets.next() is not None:
            found += 1
    assert found == 3


def test_a_packet_that_is_too_large_is_refused_before_it_has_come() -> None:
    assert refusal(b"\x30\xe9\x07", limit_bytes=1000) is Reason.PACKET_TOO_LARGE
    assert refusal(b"\x30\xff\xff\xff\x7f", limit_bytes=1000) is Reason.PACKET_TOO_LARGE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x30\x80\x80\x80\x80", Reason.MALFORMED),  # the remaining length has five bytes
        (b"\x30\x80\x00", Reason.MALFORMED),  # it is longer than it need be
        (b"\x00\x00", Reason.MALFORMED),
        (b"\x20\x02\x00\x00", Reason.MALFORMED),  # CONNACK is a server's
        (b"\xc1\x00", Reason.MALFORMED),
        (b"\xc0\x01\x00", Reason.MALFORMED),
        (packet(0x80, b"\0\x01\0\0\x01a\0"), Reason.MALFORMED),  # SUBSCRIBE without its flag
        (packet(0x36, b"\0\x01a\0\x01\0"), Reason.MALFORMED),  # QoS 3
        (packet(0x38, b"\0\x01a\0"), Reason.MALFORMED),  # a duplicate of QoS 0
        (packet(0x30, b"\0\x01\xff\0"), Reason.MALFORMED),  # no UTF-8
        (packet(0x30, b"\0\x03\xed\xa0\x80\0"), Reason.MALFORMED),  # a surrogate
        (packet(0x30, b"\0\x01\0\0"), Reason.MALFORMED),  # NUL
        (packet(0x30, b"\0\x09a"), Reason.MALFORMED),
        (packet(0x30, b"\0\0\0"), Reason.PROTOCOL_ERROR),  # neither topic nor alias
        (packet(0x30, b"\0\x01#\0"), Reason.TOPIC_INVALID),
        (packet(0x32, b"\0\x01a\0\0\0"), Reason.PROTOCOL_ERROR),  # packet identifier 0
        (packet(0x30, b"\0\x01a" + write_properties({Property.TOPIC_ALIAS: 0})), Reason.TOPIC_ALIAS_INVALID),
        (packet(0x30, b"\0\x01a\x02\x01\x02"), Reason.PROTOCOL_ERROR),  # a flag of 2
        (packet(0x30, b"\0\x01a\x04\x01\x00\x01\x00"), Reason.PROTOCOL_ERROR),  # a property twice
        (packet(0x30, b"\0\x01a\x02\x24\x00"), Reason.PROTOCOL_ERROR),  # a property of CONNACK
        (packet(0x30, b"\0\x01a\x09\x01\x00"), Reason.MALFORMED),  # properties that end early
        (packet(0x82, b"\0\x01\0"), Reason.PROTOCOL_ERROR),  # no filter
        (packet(0x82, b"\0\x01\0\0\x01a\x03"), Reason.MALFORMED),
        (packet(0x82, b"\0\x01\0\0\x01a\x40"), Reason.MALFORMED),
        (packet(0x82, b"\0\x01\0\0\x01a\x30"), Reason.MALFORMED),
        (packet(0xA2, b"\0\x01\0"), Reason.PROTOCOL_ERROR),
        (packet(0xF0, b""), Reason.PROTOCOL_ERROR),  # AUTH that nobody asked for
        (speech.connect(), Reason.PROTOCOL_ERROR),  # a second one
        (
            publish(5, "a", b"", properties={Property.USER_PROPERTY: [("a", "b")] * 33}),
            Reason.QUOTA_EXCEEDED,
        ),
    ],
)
def test_what_breaks_the_rules_is_named_by_its_reason(data: bytes, reason: Reason) -> None:
    assert refusal(data) is reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (speech.PINGREQ, Reason.PROTOCOL_ERROR),
        (publish(5, "a", b""), Reason.PROTOCOL_ERROR),
        (speech.connect(3), Reason.UNSUPPORTED_VERSION),
        (speech.connect(6), Reason.UNSUPPORTED_VERSION),
        (speech.connect(3, name="MQIsdp"), Reason.UNSUPPORTED_VERSION),
        (speech.connect(4, name="HTTP"), Reason.UNSUPPORTED_VERSION),
        (speech.connect(4, flags=1), Reason.MALFORMED),
        (speech.connect(4, flags=0x18), Reason.MALFORMED),
        (speech.connect(4, flags=0x20), Reason.MALFORMED),
        (speech.connect(4, password=b"x"), Reason.PROTOCOL_ERROR),
        (speech.connect(5, will=("a/#", b"")), Reason.TOPIC_INVALID),
        (speech.connect(5, properties={Property.AUTHENTICATION_DATA: b""}), Reason.PROTOCOL_ERROR),
        (speech.connect(5, properties={Property.RECEIVE_MAXIMUM: 0}), Reason.PROTOCOL_ERROR),
        (packet(0x10, b"\0\4MQTT\5"), Reason.MALFORMED),
    ],
)
def test_what_breaks_the_rules_of_the_first_packet_is_named_by_its_reason(data: bytes, reason: Reason) -> None:
    assert refusal(data, None) is reason


def test_a_filter_of_3_1_1_has_no_options_but_its_quality_of_service() -> None:
    assert refusal(speech.subscribe(1, ("a", 4), version=4), 4) is Reason.MALFORMED
