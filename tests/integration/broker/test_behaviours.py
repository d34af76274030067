"""The behaviours that the Paho interoperability suite for MQTT 3.1.1 asks of a broker."""

import pytest

from bridges.broker import BrokerOptions
from tests.integration.broker.conftest import Devices, Wires


def test_messages_of_each_quality_come_back_to_their_subscriber(device: Devices) -> None:
    client = device("client")
    assert client.subscribe(("plant/boiler", 2)) == [2]

    for qos in (0, 1, 2):
        client.publish("plant/boiler", b"at %d" % qos, qos)

    assert sorted(client.received(3)) == [("plant/boiler", b"at %d" % qos, qos, False) for qos in (0, 1, 2)]


def test_a_second_connect_on_one_connection_ends_it(wire: Wires) -> None:
    client = wire()
    assert client.connect("twice") == (0x20, b"\0\0")
    assert client.connect("twice") is None


def test_a_connect_with_a_wrong_protocol_name_ends_the_connection(wire: Wires) -> None:
    assert wire().connect("client", protocol="hj") is None


def test_a_connect_of_mqtt_5_is_answered_with_unacceptable_version(wire: Wires) -> None:
    assert wire().connect("client", level=5) == (0x20, b"\0\1")


def test_retained_messages_are_kept_for_later_subscribers_and_cleared_by_empty_ones(device: Devices) -> None:
    publisher, early, late = device("publisher"), device("early"), device("late")
    for qos in (0, 1, 2):
        publisher.publish(f"kept/{qos}", b"kept", qos, retain=True)

    early.subscribe(("kept/+", 2))
    assert sorted(early.received(3)) == [(f"kept/{qos}", b"kept", qos, True) for qos in (0, 1, 2)]

    for qos in (0, 1, 2):
        publisher.publish(f"kept/{qos}", b"", qos, retain=True)
    late.subscribe(("kept/+", 2))
    publisher.publish("kept/now", b"live", 1)
    assert late.received(1) == [("kept/now", b"live", 1, False)]


def test_a_retained_message_reaches_existing_subscribers_without_the_flag(device: Devices) -> None:
    client = device("client")
    client.subscribe(("kept", 1))
    client.publish("kept", b"new", 1, retain=True)
    assert client.received(1) == [("kept", b"new", 1, False)]


def test_an_empty_client_id_is_accepted_for_a_clean_session_only(wire: Wires) -> None:
    assert wire().connect("", clean=False) == (0x20, b"\0\2")
    assert wire().connect("", clean=True) == (0x20, b"\0\0")


def test_messages_wait_for_a_client_that_is_away(device: Devices) -> None:
    publisher, client = device("publisher"), device("client", clean=False)
    client.subscribe(("#", 2))
    client.disconnect()

    for qos in (0, 1, 2):
        publisher.publish(f"missed/{qos}", b"missed", qos)
    again = device("client", clean=False)

    assert again.session_present
    assert again.received(2) == [(f"missed/{qos}", b"missed", qos, False) for qos in (1, 2)]


def test_a_clean_session_leaves_nothing_behind(device: Devices) -> None:
    publisher, client = device("publisher"), device("client")
    client.subscribe(("#", 1))
    client.disconnect()
    publisher.publish("missed", b"missed", 1)

    again = device("client", clean=False)
    assert not again.session_present
    again.subscribe(("now", 1))
    publisher.publish("now", b"live", 1)
    assert again.received(1) == [("now", b"live", 1, False)]


def test_the_will_of_a_client_that_vanishes_is_sent(device: Devices) -> None:
    watcher = device("watcher")
    watcher.subscribe(("status", 2))
    device("client", will=("status", b"lost")).vanish()
    assert watcher.received(1) == [("status", b"lost", 1, False)]


def test_a_client_that_disconnects_takes_its_will_back(device: Devices) -> None:
    watcher = device("watcher")
    watcher.subscribe(("status", 2))
    device("client", will=("status", b"lost")).disconnect()
    watcher.publish("status", b"still here", 1)
    assert watcher.received(1) == [("status", b"still here", 1, False)]


def test_overlapping_subscriptions_give_one_message_at_the_highest_quality_granted(device: Devices) -> None:
    client = device("client")
    client.subscribe(("plant/#", 2), ("plant/+", 1), ("#", 0))
    client.publish("plant/boiler", b"once", 2)
    client.publish("end", b"end", 0)
    assert client.received(2) == [("plant/boiler", b"once", 2, False), ("end", b"end", 0, False)]


def test_a_silent_client_is_cut_off_and_its_will_sent(device: Devices, wire: Wires) -> None:
    watcher, silent = device("watcher"), wire()
    watcher.subscribe(("status", 2))
    silent.connect("silent", keep_alive=1, will=("status", b"silent"))
    assert watcher.received(1) == [("status", b"silent", 1, False)]
    assert silent.read() is None


def test_pings_keep_a_connection_open(device: Devices, wire: Wires) -> None:
    lively, silent = device("lively", keep_alive=1), wire()
    lively.subscribe(("status", 2))
    silent.connect("silent", keep_alive=2, will=("status", b"silent"))
    assert silent.read() is None  # three seconds later
    assert lively.received(1) == [("status", b"silent", 1, False)]


def test_unacknowledged_messages_are_sent_again_after_a_reconnection(device: Devices, wire: Wires) -> None:
    publisher, deaf = device("publisher"), wire()
    deaf.connect("client", clean=False)
    deaf.subscribe("#", 2)
    publisher.publish("first", b"1", 1)
    publisher.publish("second", b"2", 2)
    first, second = deaf.read(), deaf.read()
    assert first == (0x32, b"\0\5first\0\x011")
    assert second == (0x34, b"\0\6second\0\x022")
    deaf.close()

    again = wire()
    assert again.connect("client", clean=False) == (0x20, b"\1\0")

    assert again.read() == (0x3A, b"\0\5first\0\x011")  # with DUP
    assert again.read() == (0x3C, b"\0\6second\0\x022")


def test_a_delivery_at_qos_2_goes_on_where_it_was_after_a_reconnection(device: Devices, wire: Wires) -> None:
    publisher, client = device("publisher"), wire()
    client.connect("client", clean=False)
    client.subscribe("#", 2)
    publisher.publish("topic", b"x", 2)
    client.read()
    client.send(0x50, b"\0\1")
    assert client.read() == (0x62, b"\0\1")
    client.close()

    again = wire()
    again.connect("client", clean=False)

    assert again.read() == (0x62, b"\0\1")  # PUBREL, not the message again
    again.send(0x70, b"\0\1")
    again.send(0xC0, b"")
    assert again.read() == (0xD0, b"")


def test_a_message_repeated_at_qos_2_is_delivered_once(device: Devices, wire: Wires) -> None:
    watcher, publisher = device("watcher"), wire()
    watcher.subscribe(("#", 0))
    publisher.connect("publisher", clean=False)
    publisher.publish("topic", b"once", 2, 7)
    assert publisher.read() == (0x50, b"\0\7")
    publisher.close()

    again = wire()
    again.connect("publisher", clean=False)
    again.publish("topic", b"once", 2, 7, again=True)
    assert again.read() == (0x50, b"\0\7")
    again.send(0x62, b"\0\7")
    assert again.read() == (0x70, b"\0\7")
    again.publish("topic", b"next", 2, 7)
    assert [payload for _, payload, _, _ in watcher.received(2)] == [b"once", b"next"]


class TestRefusals:
    @pytest.fixture
    def options(self) -> BrokerOptions:
        return BrokerOptions(port=0, refused_filters=("test/nosubscribe", "$share/#"))

    def test_a_subscription_that_is_not_allowed_is_answered_with_a_failure(self, device: Devices) -> None:
        client = device("client")
        wanted = [("test/nosubscribe", 2), ("plant/#", 1), ("$share/group/plant", 1)]
        assert client.subscribe(*wanted) == [0x80, 1, 0x80]


def test_wildcards_do_not_reach_topics_that_start_with_a_dollar(device: Devices) -> None:
    client = device("client")
    client.subscribe(("#", 2), ("+/boiler", 2), ("$plant/+", 1))
    client.publish("$plant/boiler", b"named", 1)
    client.publish("$plant", b"not named", 1)
    client.publish("end", b"end", 1)
    assert client.received(2) == [("$plant/boiler", b"named", 1, False), ("end", b"end", 1, False)]


def test_nobody_publishes_in_the_name_of_the_broker(device: Devices) -> None:
    client = device("client")
    client.subscribe(("$SYS/#", 0), ("end", 0))
    client.publish("$SYS/broker/uptime", b"false", 1)
    client.publish("end", b"end", 1)
    assert client.received(1) == [("end", b"end", 0, False)]


def test_messages_of_a_topic_that_was_unsubscribed_do_not_come(device: Devices) -> None:
    publisher, client = device("publisher"), device("client")
    client.subscribe(("a", 2), ("b", 2), ("c", 2))
    client.unsubscribe("a")
    for topic in ("a", "b", "c"):
        publisher.publish(topic, b"x", 1)
    assert [topic for topic, *_ in client.received(2)] == ["b", "c"]
