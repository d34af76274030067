"""PUBLISH packets, read as paho reads them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt._packet import decode_publish
from paho.mqtt.client import MQTTv5, MQTTv311
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridges.mqtt_packet import read_publish

TOPICS = st.text(min_size=1, max_size=30).filter(lambda text: "\0" not in text)


def properties(**values: Any) -> bytes:
    made: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(made, name, value)
    packed: bytes = made.pack()
    return packed


def packet(topic: str, payload: bytes, qos: int, packet_id: int, packed: bytes) -> bytes:
    name = topic.encode()
    identifier = packet_id.to_bytes(2, "big") if qos else b""
    return len(name).to_bytes(2, "big") + name + identifier + packed + payload


PROPERTIES = st.sampled_from(
    [
        properties(),
        properties(SubscriptionIdentifier=[1, 300]),
        properties(CorrelationData=b"\0c", ResponseTopic="there", MessageExpiryInterval=5),
        properties(UserProperty=[("a", "b"), ("a", "c")], ContentType="x"),
    ]
)


@given(TOPICS, st.binary(max_size=50), st.integers(0, 2), st.integers(1, 65_535), st.integers(0, 1), PROPERTIES)
def test_a_message_is_what_paho_finds_too(
    topic: str, payload: bytes, qos: int, packet_id: int, flags: int, packed: bytes
) -> None:
    header = 0x30 | qos << 1 | flags << 3 | (1 - flags)
    for v5, protocol in ((True, MQTTv5), (False, MQTTv311)):
        sent = packet(topic, payload, qos, packet_id, packed if v5 else b"")
        found, known = read_publish(header, bytearray(sent), v5=v5), decode_publish(header, bytearray(sent), protocol)
        assert (found.topic, found.payload, found.qos) == (known.topic.decode(), bytes(known.payload), known.qos)
        assert (found.mid, found.dup, found.retain) == (known.mid, known.dup, known.retain)
        found_properties: Any = found.properties
        known_properties: Any = known.properties
        if found_properties is None:
            assert not v5 or known_properties.isEmpty()
        else:
            assert found_properties.json() == known_properties.json()


@given(st.binary(max_size=40), st.integers(0, 15), st.booleans())
def test_whatever_comes_is_a_message_or_malformed(sent: bytes, flags: int, v5: bool) -> None:
    try:
        found = read_publish(0x30 | flags, sent, v5=v5)
    except MalformedPacket:
        return
    assert found.topic
    assert len(found.payload) < len(sent)


@pytest.mark.parametrize(
    ("header", "sent", "v5"),
    [
        (0x30, b"", False),
        (0x30, b"\0", False),
        (0x30, b"\0\5a", False),
        (0x30, b"\0\0payload", False),
        (0x32, b"\0\1a\0", False),
        (0x36, b"\0\1a\0\1x", False),
        (0x30, b"\0\1\xff", False),
        (0x30, b"\0\1a", True),
        (0x30, b"\0\1a\5\x0b", True),
    ],
    ids=[
        "empty",
        "half a length",
        "short",
        "no topic",
        "half an id",
        "QoS 3",
        "no UTF-8",
        "no properties",
        "short ones",
    ],
)
def test_what_is_malformed_is_said(header: int, sent: bytes, v5: bool) -> None:
    with pytest.raises(MalformedPacket):
        read_publish(header, sent, v5=v5)
