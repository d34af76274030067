"""What an upstream takes for an answer, and what it lets a request bear."""

from random import Random
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridges.mqtt_client import UpstreamOptions
from bridges.mqtt_packet import Incoming
from bridges.mqtt_replies import Replies, response_topic
from gateway.core.upstream import ReplyTo

MINE = "tidegate/replies/mine"


class Taken:
    """Whoever waits for answers; all of them are for nobody else."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, bytes, bytes | None]] = []

    def __call__(self, topic: str, payload: bytes, correlation: bytes | None) -> bool:
        self.answers.append((topic, payload, correlation))
        return not topic.startswith("rooms/")


def message(topic: str, *, correlation: bytes | None = None, retain: bool = False, dup: bool = False) -> Incoming:
    properties = None
    if correlation is not None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = correlation
    return Incoming(topic, b"1", 0, 0, dup, retain, properties)


def test_every_message_is_offered_with_its_correlation_data_and_rooms_get_what_isnt_taken() -> None:
    taken = Taken()
    replies = Replies(MINE, taken)
    assert replies.take(message(MINE, correlation=b"c"))
    assert not replies.take(message("rooms/x"))
    assert taken.answers == [(MINE, b"1", b"c"), ("rooms/x", b"1", None)]


@pytest.mark.parametrize("topic", [None, MINE])
def test_gateways_response_topics_never_reach_a_room(topic: str | None) -> None:
    replies = Replies(topic, lambda *_: False)
    assert replies.take(message("tidegate/replies/others"))
    assert replies.take(message("tidegate/replies/others", retain=True))
    assert not replies.take(message("tidegate/status"))


@pytest.mark.parametrize(
    ("given", "offered"),
    [
        (message("r", retain=True), False),
        (message("r", correlation=b"c", retain=True), False),
        (message("r", dup=True), False),
        (message("r", correlation=b"c", dup=True), True),
    ],
    ids=["retained", "retained with correlation data", "sent again", "sent again with correlation data"],
)
def test_what_may_be_old_is_no_answer(given: Incoming, offered: bool) -> None:
    taken = Taken()
    assert Replies(MINE, taken).take(given) is offered
    assert bool(taken.answers) is offered


def test_a_request_bears_where_to_answer_and_expires_with_its_time() -> None:
    properties: Any = Replies(MINE).properties(ReplyTo("there", b"c", 1.2))
    assert (properties.ResponseTopic, properties.CorrelationData) == ("there", b"c")
    assert properties.MessageExpiryInterval == 2
    assert Replies(MINE).properties(None) is None
    assert Replies(None).properties(ReplyTo("there", b"c", 1)) is None


def test_the_response_topic_is_random_but_for_persistent_sessions() -> None:
    clean = UpstreamOptions("a", "h", 1, client_id="me")
    kept = UpstreamOptions("a", "h", 1, client_id="me", persistent=True)
    assert response_topic(clean, Random(1)) != response_topic(clean, Random(2))
    assert response_topic(kept, Random(1)) == response_topic(kept, Random(2))
    assert response_topic(UpstreamOptions("a", "h", 1, protocol="3.1.1"), Random(1)) is None


def test_the_response_topic_is_subscribed_to_only_if_a_route_needs_it() -> None:
    assert Replies(MINE).filters == {MINE: 0}
    assert Replies(MINE, listen=False).filters == {}
    assert Replies(None).filters == {}


def test_a_lost_connection_is_told() -> None:
    lost: list[bool] = []
    Replies(MINE, lost=lambda: lost.append(True)).lost()
    Replies(MINE).lost()
    assert lost == [True]
