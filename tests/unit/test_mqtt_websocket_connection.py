"""One client of MQTT: how it is let in, what it is told, and what ends it."""

import gc
import weakref
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges import mqtt_websocket_sessions
from bridges.mqtt_websocket_answers import packet, puback, publish
from bridges.mqtt_websocket_fields import Property, Reader, Reason
from gateway.core.authentication import KeyUnknown
from gateway.core.errors import Unauthenticated
from gateway.core.identity import ANONYMOUS, Identity
from gateway.core.limits import Limits
from gateway.core.logins import Logins
from tests import mqtt_speech as speech
from tests.unit.mqtt_world import BOB, EVE, TOKENS, MqttWorld, Peer

VERSIONS = pytest.mark.parametrize("version", [4, 5])


@pytest.fixture
def mqtt() -> MqttWorld:
    return MqttWorld()


def left(peer: Peer) -> tuple[int, tuple[int, str] | None]:
    """The reason in the DISCONNECT that a client got, 0 for none, and how its connection was closed."""
    reasons = [body[0] for first, body in peer.heard() if first == 0xE0]
    return (reasons or [0])[-1], peer.sink.closed


@VERSIONS
def test_a_client_is_let_in(mqtt: MqttWorld, version: int) -> None:
    peer = mqtt.peer(version).say(speech.connect(version, "tablet"))

    ((first, body),) = peer.heard()
    assert (first, body[:2]) == (0x20, b"\0\0")
    assert (peer.session.transport, peer.session.member) == ("mqtt", "tablet")


def test_5_is_told_what_the_server_does(mqtt: MqttWorld) -> None:
    options = {Property.SESSION_EXPIRY: 0xFFFFFFFF}
    peer = mqtt.peer().say(speech.connect(5, "", keep_alive_seconds=60_000, properties=options))

    body = Reader(peer.heard()[0][1][2:])
    told = body.properties(frozenset(Property))
    assert told[Property.ASSIGNED_CLIENT_ID] == peer.session.id == peer.session.member
    assert (told[Property.SERVER_KEEP_ALIVE], told[Property.SESSION_EXPIRY]) == (300, 3600)
    assert (told[Property.RECEIVE_MAXIMUM], told[Property.SHARED_AVAILABLE]) == (64, 0)
    assert Property.MAXIMUM_QOS not in told


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        (speech.connect(3), b"\x00\x01"),
        (speech.connect(6), b"\x00\x01"),
        (speech.connect(3, name="MQIsdp"), b"\x00\x01"),
        (speech.connect(4, "", clean=False), b"\x00\x02"),
        (speech.connect(4, "x" * 65), b"\x00\x02"),
        (speech.connect(5, "bell\x07"), b"\x00\x85"),
        (speech.connect(5, properties={Property.AUTHENTICATION_METHOD: "SCRAM"}), b"\x00\x8c"),
    ],
)
def test_a_connect_that_is_refused_says_why(mqtt: MqttWorld, written: bytes, answer: bytes) -> None:
    peer = mqtt.peer().say(written, speech.PINGREQ)

    assert [(first, body[:2]) for first, body in peer.heard()] == [(0x20, answer)]
    assert peer.sink.closed is not None
    assert not mqtt.namespace.sessions


@pytest.mark.parametrize("password", [b"eves", b"wrong", b"\xff", None])
@VERSIONS
async def test_the_password_is_a_token(version: int, password: bytes | None) -> None:
    mqtt = MqttWorld(tokens=TOKENS, anonymous=None)
    peer = mqtt.peer(version, None)

    heard = await peer.say_and_wait(speech.connect(version, username="anything", password=password))

    if password == b"eves":
        assert heard[0][1][:2] == b"\0\0"
        assert peer.session.user == "eve"
    else:
        assert heard[0][1][:2] == bytes((0, 4 if version == 4 else Reason.BAD_CREDENTIALS))
        assert not mqtt.namespace.sessions


class KeyComes:
    """A verifier that has to ask for the key of a token first."""

    def __init__(self) -> None:
        self.known = False

    async def renew(self) -> None:
        self.known = True

    def identify(self, token: str) -> Identity:
        if not self.known:
            raise KeyUnknown(f"{token} has an unknown key", self.renew)
        return EVE


async def test_a_tokens_key_is_waited_for() -> None:
    mqtt = MqttWorld(verifier=KeyComes(), anonymous=None)
    peer = mqtt.peer(5, None)
    assert (await peer.say_and_wait(speech.connect(password=b"signed")))[0][1][1] == 0
    assert peer.session.user == "eve"


class OneUser:
    """Logins of one user."""

    async def log_in(self, name: str, password: str, network: str) -> Identity:
        if (name, password) != ("bob", "secret"):
            raise Unauthenticated(f"no such user at {network}")
        return BOB

    def check(self, identity: Identity) -> None:
        assert identity is BOB


@pytest.mark.parametrize("tokens", [None, TOKENS])
@pytest.mark.parametrize(
    ("username", "password", "reason"),
    [("bob", b"secret", 0), ("bob", b"wrong", Reason.BAD_CREDENTIALS), (None, b"secret", Reason.BAD_CREDENTIALS)],
)
async def test_a_users_password_is_taken(
    tokens: dict[str, Identity] | None, username: str | None, password: bytes, reason: int
) -> None:
    mqtt = MqttWorld(tokens=tokens, anonymous=None, logins=cast(Logins, OneUser()))
    peer = mqtt.peer(5, None)
    assert (await peer.say_and_wait(speech.connect(username=username, password=password)))[0][1][1] == reason
    assert mqtt.counters.logins["accepted" if reason == 0 else "refused"] == (username is not None)


@VERSIONS
def test_who_shows_nothing_where_something_is_asked_for_is_not_authorized(version: int) -> None:
    peer = MqttWorld(tokens=TOKENS, anonymous=None).peer(version, None).say(speech.connect(version))
    assert peer.heard()[0][1][:2] == bytes((0, 5 if version == 4 else Reason.NOT_AUTHORIZED))


async def test_who_showed_something_in_the_handshake_may_not_be_somebody_else_in_connect() -> None:
    mqtt = MqttWorld(tokens=TOKENS, anonymous=None)
    for password, reason in ((b"eves", 0), (b"bobs", Reason.NOT_AUTHORIZED)):
        heard = await mqtt.peer(5, EVE).say_and_wait(speech.connect(password=password))
        assert heard[0][1][1] == reason


async def test_who_only_names_a_user_has_to_be_that_user() -> None:
    mqtt = MqttWorld(tokens=TOKENS)
    for shown, username, reason in ((EVE, "eve", 0), (EVE, "bob", Reason.BAD_CREDENTIALS), (ANONYMOUS, "x", 0)):
        heard = await mqtt.peer(5, shown).say_and_wait(speech.connect(username=username))
        assert heard[0][1][1] == reason


async def test_credentials_are_left_unread_where_none_are_known(mqtt: MqttWorld) -> None:
    peer = mqtt.peer(4).say(speech.connect(4, username="admin", password=b"public"))
    assert not peer.connection.waits
    assert peer.heard()[0][1] == b"\0\0"


async def test_guessing_passwords_costs_what_messages_cost() -> None:
    mqtt = MqttWorld(Limits(messages_burst=3, messages_per_second=0.1), tokens=TOKENS, anonymous=None)
    reasons = [(await mqtt.peer(5, None).say_and_wait(speech.connect(password=b"wrong")))[0][1][1] for _ in range(5)]
    assert reasons == [Reason.BAD_CREDENTIALS] * 3 + [Reason.CONNECTION_RATE_EXCEEDED] * 2


async def test_what_comes_behind_a_connect_that_waits_is_taken_after_it() -> None:
    mqtt = MqttWorld(tokens=TOKENS, anonymous=None)
    heard = await mqtt.peer(5, None).say_and_wait(speech.connect(password=b"eves") + speech.PINGREQ)
    assert [first for first, _ in heard] == [0x20, 0xD0]


async def test_a_client_that_goes_while_its_password_is_checked_leaves_nothing() -> None:
    mqtt = MqttWorld(tokens=TOKENS, anonymous=None)
    peer = mqtt.peer(5, None).say(speech.connect(password=b"eves"))
    work = peer.connection.settle()
    peer.connection.closed(offended=False)
    await work
    assert (peer.heard(), mqtt.namespace.sessions) == ([], {})


def test_who_doesnt_say_connect_is_disconnected(mqtt: MqttWorld) -> None:
    peer = mqtt.peer()
    mqtt.clock.advance(11)
    assert left(peer)[1] is not None


@VERSIONS
def test_who_is_silent_for_one_and_a_half_times_its_keep_alive_is_disconnected(mqtt: MqttWorld, version: int) -> None:
    peer = mqtt.join(version, keep_alive_seconds=10)
    for _ in range(5):
        mqtt.clock.advance(12)
        peer.say(speech.PINGREQ)
        assert peer.heard() == [(0xD0, b"")]
    mqtt.clock.advance(16)
    reason, closed = left(peer)
    assert reason == (Reason.KEEP_ALIVE_TIMEOUT if version == 5 else 0)
    assert closed is not None
    assert not mqtt.namespace.sessions


def test_who_of_3_1_1_names_no_keep_alive_may_be_silent(mqtt: MqttWorld) -> None:
    peer = mqtt.join(4)
    mqtt.clock.advance(10_000)
    assert (peer.sink.closed, mqtt.clock.waiting) == (None, 0)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (speech.connect(), Reason.PROTOCOL_ERROR),
        (b"\x30\xff\xff\xff\xff\x01", Reason.MALFORMED),
        (b"\x30\xff\xff\xff\x7f", Reason.PACKET_TOO_LARGE),
        (packet(0x62, b"\0\0"), Reason.PROTOCOL_ERROR),
        (packet(0x50, b"\0\1"), Reason.PROTOCOL_ERROR),
        (publish(5, "a", b"", properties={Property.TOPIC_ALIAS: 17}), Reason.TOPIC_ALIAS_INVALID),
        (publish(5, "", b"", properties={Property.TOPIC_ALIAS: 3}), Reason.PROTOCOL_ERROR),
        (publish(5, "sensors/a/b/c", b"1"), Reason.NOT_AUTHORIZED),
        (packet(0xE0, b"\0\5\x11\0\0\0\1"), Reason.PROTOCOL_ERROR),  # a session expiry that CONNECT hadn't
    ],
)
def test_what_a_client_does_wrong_is_told_to_it(mqtt: MqttWorld, written: bytes, reason: Reason) -> None:
    other = mqtt.join(5, client_id="other")
    peer = mqtt.join().say(written, speech.PINGREQ)

    found, closed = left(peer)
    assert (found, closed is not None) == (reason, True)
    assert list(mqtt.namespace.sessions.values()) == [other.session]


def test_3_1_1_is_closed_without_a_word(mqtt: MqttWorld) -> None:
    peer = mqtt.join(4).say(b"\x30\xff\xff\xff\xff\x01")
    assert (peer.heard(), peer.sink.closed is not None) == ([], True)


def test_a_text_frame_is_refused(mqtt: MqttWorld) -> None:
    peer = mqtt.join()
    peer.connection.receive("hello")
    assert left(peer)[0] == Reason.PROTOCOL_ERROR
    assert peer.sink.closed == (1003, "a text frame: expected binary ones")


def test_packets_may_come_joined_and_split(mqtt: MqttWorld) -> None:
    peer, written = mqtt.peer(), speech.connect() + speech.PINGREQ + speech.subscribe(1, ("chat/a", 0))
    for byte in written[:-3]:
        peer.say(bytes((byte,)))
    peer.say(written[-3:] + speech.PINGREQ)
    assert [first for first, _ in peer.heard()] == [0x20, 0xD0, 0x90, 0xD0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.booleans())
def test_no_bytes_make_a_connection_raise(frames: list[bytes], connected: bool) -> None:
    mqtt = MqttWorld()
    peer = mqtt.join() if connected else mqtt.peer()
    for frame in frames:
        peer.connection.receive(frame)
    peer.connection.closed(offended=True)
    assert not mqtt.namespace.sessions
    assert mqtt.clock.waiting == 0


def test_the_gateways_goodbye_has_a_reason(mqtt: MqttWorld) -> None:
    five, three = mqtt.join(5, client_id="a"), mqtt.join(4, client_id="b")
    for peer in (five, three):
        peer.session.end(Unauthenticated("the token has expired"))
    assert left(five) == (Reason.NOT_AUTHORIZED, (4401, "unauthenticated"))
    assert left(three) == (0, (4401, "unauthenticated"))


def test_a_second_connection_of_a_client_takes_over_from_the_first(mqtt: MqttWorld) -> None:
    first = mqtt.join(5, client_id="tablet")
    second = mqtt.join(4, client_id="tablet")
    assert left(first)[0] == Reason.TAKEN_OVER
    assert list(mqtt.namespace.sessions.values()) == [second.session]


def test_the_same_client_identifier_of_another_user_is_another_client(mqtt: MqttWorld) -> None:
    peers = [mqtt.join(5, who, client_id="tablet") for who in (EVE, BOB, ANONYMOUS)]
    assert [peer.sink.closed for peer in peers] == [None] * 3
    assert len(mqtt.namespace.sessions) == 3


@VERSIONS
def test_a_will_is_published_when_the_connection_is_lost(mqtt: MqttWorld, version: int) -> None:
    hearer = mqtt.join(version, client_id="hearer").subscribe(("chat/a", 0))
    hearer.heard()
    good = mqtt.join(version, client_id="good", will=("chat/a", b"no")).say(speech.DISCONNECT)
    lost = mqtt.join(version, client_id="lost", will=("chat/a", b"gone"))

    good.connection.closed(offended=False)
    lost.connection.closed(offended=False)
    mqtt.clock.advance(0)

    assert [message.payload for message in hearer.messages()] == [b"gone"]


def test_a_will_that_is_not_allowed_is_not_published(mqtt: MqttWorld) -> None:
    mqtt.allow(publish=("chat/b",), subscribe=("chat/#",))
    hearer = mqtt.join(5, EVE, client_id="hearer").subscribe(("chat/+", 0))
    hearer.heard()
    for topic in ("chat/a", "chat/b", "a//b", "sensors/a/b/c"):
        mqtt.join(5, EVE, client_id=topic, will=(topic, b"gone")).connection.closed(offended=False)
    mqtt.clock.advance(0)
    assert [message.topic for message in hearer.messages()] == ["chat/b"]
    assert mqtt.counters.drops["mqtt_will"] == 3


def test_a_will_may_wait_for_its_client_to_come_back(mqtt: MqttWorld) -> None:
    hearer = mqtt.join(5, client_id="hearer").subscribe(("chat/a", 0))
    hearer.heard()
    options: dict[str, Any] = {
        "will": ("chat/a", b"gone"),
        "will_delay_seconds": 60,
        "properties": {Property.SESSION_EXPIRY: 30},
    }
    for name in ("back", "lost"):
        mqtt.join(5, client_id=name, clean=False, **options).connection.closed(offended=False)
    mqtt.clock.advance(20)
    assert mqtt.join(5, client_id="back", clean=False).sink.closed is None
    assert hearer.messages() == []
    mqtt.clock.advance(11)  # the session has expired, and so has the delay
    assert len(hearer.messages()) == 1


def test_a_disconnect_may_ask_for_the_will(mqtt: MqttWorld) -> None:
    hearer = mqtt.join(5, client_id="hearer").subscribe(("chat/a", 0))
    hearer.heard()
    mqtt.join(5, will=("chat/a", b"gone")).say(packet(0xE0, b"\x04"))
    mqtt.clock.advance(0)
    assert len(hearer.messages()) == 1


def test_acknowledgements_of_nothing_cost_what_pings_cost() -> None:
    mqtt = MqttWorld(Limits(messages_burst=5, messages_per_second=0.1, refusals=3))
    peer = mqtt.join()
    for _ in range(20):
        peer.say(puback(5, 4, 77))
    assert left(peer)[0] == Reason.RATE_TOO_HIGH


def test_a_connection_that_is_over_waits_for_no_search_for_garbage(mqtt: MqttWorld) -> None:
    peer = mqtt.join(will=("chat/a", b"gone"), keep_alive_seconds=10).subscribe(("chat/a", 1))
    connection = weakref.ref(peer.connection)
    gc.disable()
    try:
        peer.connection.closed(offended=False)
        mqtt.clock.advance(1)
        del peer
        assert connection() is None
    finally:
        gc.enable()


def test_wills_of_one_address_wait_up_to_a_hundred_and_come_at_once_beyond(mqtt: MqttWorld) -> None:
    watcher = mqtt.join(4, client_id="w").subscribe(("chat/a", 0))
    watcher.heard()
    options: dict[str, Any] = {"will_delay_seconds": 60, "properties": {Property.SESSION_EXPIRY: 600}}

    for number in range(101):
        one = mqtt.join(client_id=str(number), will=("chat/a", str(number).encode()), **options)
        one.connection.closed(offended=False)
    mqtt.clock.advance(0)
    assert [message.payload for message in watcher.messages()] == [b"100"]

    back = mqtt.join(client_id="0", will=("chat/a", b"new"), **options)  # its will waits no more, so there is a place
    back.connection.closed(offended=False)
    mqtt.clock.advance(0)
    assert not watcher.messages()

    mqtt.clock.advance(60)
    assert len(watcher.messages()) == 100


def test_large_wills_wait_up_to_a_sum(mqtt: MqttWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_websocket_sessions, "MAXIMUM_WILL_BYTES", 5000)
    watcher = mqtt.join(4, client_id="w").subscribe(("chat/a", 0))
    watcher.heard()
    options: dict[str, Any] = {"will_delay_seconds": 60, "properties": {Property.SESSION_EXPIRY: 600}}

    for name in "ab":
        mqtt.join(client_id=name, will=("chat/a", name.encode() * 3000), **options).connection.closed(offended=False)
    mqtt.clock.advance(0)
    assert [message.payload[:1] for message in watcher.messages()] == [b"b"]


@VERSIONS
def test_a_will_is_no_larger_than_a_message(version: int) -> None:
    mqtt = MqttWorld(Limits(message_bytes=1000))
    peer = mqtt.peer(version).say(speech.connect(version, will=("chat/a", b"x" * 1001)))
    ((first, body),) = peer.heard()
    assert (first, body[1]) == (0x20, Reason.PACKET_TOO_LARGE if version == 5 else 3)
    assert peer.sink.closed is not None
    assert mqtt.counters.refusals["message_too_large"] == 1
    assert mqtt.join(version, will=("chat/a", b"x" * 1000)).sink.closed is None


@VERSIONS
def test_a_packet_in_very_many_frames_costs_what_they_do(version: int) -> None:
    mqtt = MqttWorld(Limits(messages_per_second=1, messages_burst=20, refusals=3))
    peer, packet_ = mqtt.join(version), publish(version, "chat/a", b"x" * 2000)
    for place in range(250):
        peer.say(packet_[place : place + 1])
    peer.say(packet_[250:])
    assert mqtt.counters.published["mqtt"] == 1
    for place in range(400):
        peer.say(packet_[place : place + 1])
    assert peer.sink.closed is not None
    assert peer.sink.closed[0] == 4429


def test_a_connect_in_very_many_frames_ends_the_connection(mqtt: MqttWorld) -> None:
    peer, connect = mqtt.peer(), speech.connect(username="x" * 1000, password=b"y")
    for place in range(400):
        peer.say(connect[place : place + 1])
    assert peer.sink.closed is not None
