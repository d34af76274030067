"""What the gateway relies on, and what keeps one client from harming the others."""

import pytest

from bridges.broker import BrokerOptions
from tests.devices import Wire
from tests.integration.broker.conftest import Devices, Wires
from tests.real import wait_until


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_burst_arrives_whole_and_in_order(device: Devices, qos: int) -> None:
    publisher, client = device("publisher"), device("client")
    client.subscribe(("plant/boiler", qos))
    burst = [b"%d" % number for number in range(2_000)]

    publisher.publish_all("plant/boiler", burst, qos)

    assert [payload for _, payload, _, _ in client.received(2_000)] == burst


def test_what_waited_for_a_client_arrives_in_order(device: Devices) -> None:
    publisher, client = device("publisher"), device("client", clean=False)
    client.subscribe(("plant/boiler", 1))
    client.disconnect()
    burst = [b"%d" % number for number in range(2_000)]
    publisher.publish_all("plant/boiler", burst, 1)
    again = device("client", clean=False)
    assert [payload for _, payload, _, _ in again.received(2_000)] == burst


@pytest.mark.parametrize(("published", "granted", "delivered"), [(0, 2, 0), (2, 0, 0), (1, 2, 1), (2, 1, 1), (2, 2, 2)])
def test_a_message_comes_at_the_lower_quality_of_publisher_and_subscriber(
    device: Devices, published: int, granted: int, delivered: int
) -> None:
    client = device("client")
    client.subscribe(("topic", granted))
    client.publish("topic", b"x", published)
    assert client.received(1) == [("topic", b"x", delivered, False)]


def test_a_retained_message_comes_at_the_lower_quality_too(device: Devices) -> None:
    client = device("client")
    client.publish("topic", b"x", 0, retain=True)
    client.subscribe(("topic", 2))
    assert client.received(1) == [("topic", b"x", 0, True)]


def test_a_repeated_subscription_replaces_the_first(device: Devices) -> None:
    client = device("client")
    client.subscribe(("topic", 2))
    client.subscribe(("topic", 0))
    client.publish("topic", b"x", 2)
    assert client.received(1) == [("topic", b"x", 0, False)]


def test_messages_sent_just_before_leaving_are_delivered(device: Devices, wire: Wires) -> None:
    client, hasty = device("client"), wire()
    client.subscribe(("topic", 0))
    hasty.connect("hasty")
    for number in range(100):
        hasty.publish("topic", b"%d" % number)
    hasty.send(0xE0, b"")
    hasty.close()
    assert [payload for _, payload, _, _ in client.received(100)] == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("clean", [True, False])
def test_a_client_that_connects_again_displaces_its_older_connection(device: Devices, wire: Wires, clean: bool) -> None:
    watcher, older, newer = device("watcher"), wire(), wire()
    watcher.subscribe(("status", 0))
    older.connect("client", clean=clean, will=("status", b"older"))
    newer.connect("client", clean=clean)

    assert older.read() is None
    assert watcher.received(1) == [("status", b"older", 0, False)]

    newer.subscribe("topic", 0)
    watcher.publish("topic", b"x")
    assert newer.read() == (0x30, b"\0\5topicx")


@pytest.mark.parametrize(
    "packet",
    [
        (0x30, b"\0\7plant/+x"),
        (0x30, b"\0\0x"),
        (0x30, b"\0\2\xff\xfex"),
        (0x30, b"\0\x09short"),
        (0x36, b"\0\5topic\0\1x"),
        (0x32, b"\0\5topic\0\0x"),
        (0x82, b"\0\1"),
        (0x80, b"\0\1\0\5topic\0"),
        (0x82, b"\0\1\0\5topic\3"),
        (0xF0, b""),
        (0x20, b"\0\0"),
    ],
    ids=[
        "wildcard in a topic",
        "empty topic",
        "topic that is not UTF-8",
        "topic longer than its packet",
        "quality 3",
        "identifier 0",
        "subscription to nothing",
        "wrong flags",
        "subscription at quality 3",
        "packet type 15",
        "server's packet",
    ],
)
def test_a_broken_packet_ends_its_connection_and_no_other(
    device: Devices, wire: Wires, packet: tuple[int, bytes]
) -> None:
    client, broken = device("client"), wire()
    client.subscribe(("#", 1))
    broken.connect("broken", will=("status", b"broken"))
    broken.send(*packet)
    assert broken.read() is None
    assert client.received(1) == [("status", b"broken", 1, False)]


class TestBounds:
    @pytest.fixture
    def options(self) -> BrokerOptions:
        return BrokerOptions(
            port=0,
            connections=4,
            sessions=3,
            packet_bytes=1_000,
            queued_messages=10,
            in_flight_messages=5,
            retained_messages=2,
        )

    def test_connections_beyond_the_bound_are_closed(self, wire: Wires) -> None:
        waiting = [wire() for _ in range(4)]
        assert wire().connect("one too many") is None
        assert waiting[0].connect("client") == (0x20, b"\0\0")

    def test_sessions_beyond_the_bound_are_refused(self, wire: Wires) -> None:
        for number in range(3):
            away = wire()
            away.connect(f"client {number}", clean=False)
            away.send(0xE0, b"")
            assert away.read() is None
        assert wire().connect("one too many", clean=False) == (0x20, b"\0\3")
        assert wire().connect("client 1", clean=False) == (0x20, b"\1\0")

    def test_a_packet_beyond_the_bound_ends_its_connection(self, wire: Wires) -> None:
        client = wire()
        client.connect("client")
        client.publish("topic", bytes(1_000))
        assert client.read() is None

    def test_a_queue_keeps_the_first_messages_and_drops_the_rest(self, device: Devices) -> None:
        publisher, client = device("publisher"), device("client", clean=False)
        client.subscribe(("topic", 1))
        client.disconnect()
        publisher.publish_all("topic", [b"%d" % number for number in range(20)], 1)
        again = device("client", clean=False)
        again.received(10)
        publisher.publish("topic", b"end", 1)
        assert [payload for _, payload, _, _ in again.received(11)] == [b"%d" % n for n in range(10)] + [b"end"]

    def test_a_client_has_no_more_messages_in_flight_than_the_bound(self, device: Devices, wire: Wires) -> None:
        publisher, client = device("publisher"), wire()
        client.connect("client")
        client.subscribe("topic", 1)
        publisher.publish_all("topic", [b"%d" % number for number in range(8)], 1)
        assert [packet_id_of(client) for _ in range(5)] == [1, 2, 3, 4, 5]
        client.send(0xC0, b"")
        assert client.read() == (0xD0, b"")
        client.send(0x40, b"\0\3")
        assert packet_id_of(client) == 6

    def test_topics_beyond_the_bound_are_not_retained(self, device: Devices) -> None:
        client = device("client")
        for topic in ("a", "b", "c"):
            client.publish(topic, b"kept", 1, retain=True)
        client.publish("a", b"changed", 1, retain=True)
        client.subscribe(("+", 1))
        client.publish("end", b"end", 1)
        assert [topic for topic, *_ in client.received(3)] == ["a", "b", "end"]


def packet_id_of(client: Wire) -> int:
    packet = client.read()
    assert packet is not None
    first, body = packet
    assert first == 0x32
    return int.from_bytes(body[7:9])


def test_a_client_that_reads_nothing_holds_up_the_others_only_for_a_moment(device: Devices, wire: Wires) -> None:
    deaf, client, publisher = wire(), device("client"), device("publisher")
    deaf.connect("deaf")
    deaf.subscribe("#", 0)
    client.subscribe(("#", 0))
    burst = [bytes(100_000)] * 200
    publisher.publish_all("topic", burst, 1)
    publisher.publish("end", b"end", 1)
    wait_until(lambda: client.messages and client.messages[-1].topic == "end", "the end comes")
    assert len(client.messages) == 201
