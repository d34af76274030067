from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import wire, wire_requests
from gateway.core.errors import BadMessage
from gateway.core.limit_errors import RateLimited
from gateway.core.message import Audience, Cursor, Message
from gateway.core.sample import Keep, Sample

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":"subscribe","room":"a/#","id":1}', wire_requests.Subscribe(1, ("a/#",), None)),
        ('{"type":"subscribe","room":"a","since":"e1-42"}', wire_requests.Subscribe(None, ("a",), Cursor("e1", 42))),
        ('{"type":"subscribe","room":["a","b/+","a"]}', wire_requests.Subscribe(None, ("a", "b/+"), None)),
        ('{"type":"unsubscribe","room":"a","id":"x"}', wire_requests.Unsubscribe("x", "a")),
        ('{"type":"publish","room":"a","data":null}', wire_requests.Publish(None, "a", None, False)),
        ('{"type":"publish","room":"a","data":"AA==","binary":true}', wire_requests.Publish(None, "a", "AA==", True)),
        (
            '{"type":"publish","room":"a","data":1,"to":{"session":"s"},"volatile":true}',
            wire_requests.Publish(None, "a", 1, False, Audience(session="s"), True),
        ),
        (
            '{"type":"publish","room":"a","data":1,"to":{"user":"ann"},"echo":false}',
            wire_requests.Publish(None, "a", 1, False, Audience(user="ann", sender=False)),
        ),
        ('{"type":"ping","id":0}', wire_requests.Ping(0)),
        ('{"type":"bandwidth","bytes_per_second":1e3}', wire_requests.Bandwidth(None, 1000)),
        ('{"type":"bandwidth","id":1}', wire_requests.Bandwidth(1, None)),
        (
            '{"type":"subscribe","room":"a","sample":{"seconds":0.5,"keep":"mean"}}',
            wire_requests.Subscribe(None, ("a",), None, Sample(0.5, Keep.MEAN)),
        ),
        ('{"type":"subscribe","room":"a","sample":null}', wire_requests.Subscribe(None, ("a",), None, None)),
    ],
)
def test_request_is_read(text: str, expected: wire_requests.Request) -> None:
    assert wire_requests.read(wire_requests.parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a JSON object"),
        ("[]", "expected a JSON object such as"),
        ("{", "expected a JSON object"),
        (
            "{}",
            'type: expected "auth", "subscribe", "unsubscribe", "publish", "request", "presence", "bandwidth" '
            'or "ping", found null',
        ),
        ('{"type":"subscrib"}', 'did you mean "subscribe"?'),
        ('{"type":["ping"]}', "found a list"),
        ('{"type":"subscribe"}', "room: expected a string, found null"),
        ('{"type":"subscribe","rooom":"a"}', 'unknown field "rooom" in subscribe: did you mean "room"?'),
        ('{"type":"subscribe","room":{}}', "room: expected a string, found an object"),
        ('{"type":"subscribe","room":[]}', "room: expected a string, or a list of at least one"),
        ('{"type":"subscribe","room":["a",1]}', "room: expected a string, or a list"),
        ('{"type":"unsubscribe","room":["a"]}', "room: expected a string, found a list"),
        ('{"type":"subscribe","room":"a","since":5}', "since: expected a cursor, found 5"),
        ('{"type":"subscribe","room":"a","since":"nope"}', "since: 'nope' is no cursor"),
        ('{"type":"publish","room":"a"}', "data: expected what is to be published"),
        ('{"type":"publish","room":"a","data":1,"binary":"yes"}', "binary: expected true or false"),
        ('{"type":"publish","room":"a","data":1,"to":"s"}', 'to: expected {"session"'),
        ('{"type":"publish","room":"a","data":1,"to":{"user":"a","session":"b"}}', 'to: expected {"session"'),
        ('{"type":"publish","room":"a","data":1,"to":{"user":1}}', 'to: expected {"session"'),
        ('{"type":"publish","room":"a","data":1,"echo":0}', "echo: expected true or false, found 0"),
        (
            '{"type":"subscribe","room":"a","sample":{"seconds":0}}',
            "sample.seconds: expected a number from 0.01 to 3600",
        ),
        ('{"type":"bandwidth","bytes_per_second":0}', "bytes_per_second: expected a number above 0, or null, found 0"),
        ('{"type":"bandwidth","bytes_per_second":true}', "bytes_per_second: expected a number above 0"),
        ('{"type":"ping","id":true}', "id: expected a whole number or a string"),
        ('{"type":"ping","id":1.5}', "id: expected a whole number or a string"),
        ('{"type":"ping","id":"' + "x" * 65 + '"}', "at most 64 characters"),
    ],
)
def test_request_is_refused_naming_the_field(text: str, expected: str) -> None:
    with pytest.raises(BadMessage) as refused:
        wire_requests.read(wire_requests.parse(text))
    assert expected in refused.value.message


@given(st.one_of(JSON, st.dictionaries(st.sampled_from(["type", "room", "id", "data", "since"]), JSON)))
def test_any_json_is_read_or_refused(value: object) -> None:
    with suppress(BadMessage):
        assert isinstance(wire_requests.read(wire_requests.parse(orjson.dumps(value).decode())), wire_requests.Request)


@given(st.binary() | st.text())
def test_any_frame_is_parsed_or_refused(frame: bytes | str) -> None:
    with suppress(BadMessage):
        assert isinstance(wire_requests.parse(frame), dict)


def test_message_carries_its_data_as_it_came() -> None:
    message = Message("r", b'{"a": 1.10}', "e", 1, 5.5, "t")
    assert wire.encode_message(message) == (
        b'{"type":"message","room":"r","topic":"t","data":{"a": 1.10},"cursor":"e-1","time":5.5}'
    )


def test_message_says_who_sent_it_and_that_it_is_old_or_binary() -> None:
    message = Message("r", b'"AA=="', "e", 1, 5.5, None, "s1", retained=True, binary=True)
    assert orjson.loads(wire.encode_message(message)) == {
        "type": "message",
        "room": "r",
        "data": "AA==",
        "cursor": "e-1",
        "time": 5.5,
        "from": {"session": "s1"},
        "retained": True,
        "binary": True,
    }


def test_error_says_when_to_try_again_where_waiting_helps() -> None:
    text = wire.encode_error(7, RateLimited("slower", retry_after_seconds=0.25))
    assert orjson.loads(text) == {
        "type": "error",
        "id": 7,
        "code": "rate_limited",
        "message": "slower",
        "retry_after_seconds": 0.25,
    }


@given(st.from_regex(r"[0-9a-z]{1,32}", fullmatch=True), st.integers(0, 10**18))
def test_cursor_survives_the_way_there_and_back(epoch: str, sequence: int) -> None:
    assert Cursor.parse(str(Cursor(epoch, sequence))) == Cursor(epoch, sequence)


@pytest.mark.parametrize(
    "text", ["", "-", "e", "e-", "-1", "e-01", "e--1", "E-1", "e-1 ", "e-1\n", "é-1", "e-" + "9" * 20]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no cursor"):
        Cursor.parse(text)
