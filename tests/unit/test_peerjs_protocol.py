import re
from base64 import b64decode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.peerjs_ice import IceServer, ice_servers, turn_credential
from bridges.peerjs_protocol import (
    Handshake,
    Heartbeat,
    Ids,
    Signal,
    check_id,
    expire,
    read,
    read_handshake,
    read_quietly,
    refusal,
    told,
)
from gateway.core import wire
from gateway.core.errors import BadMessage, Forbidden, PresenceFull, TidegateError
from gateway.core.limit_errors import RateLimited
from gateway.core.peer_errors import IdTaken, InvalidKey

IDS = st.from_regex(re.compile(r"[A-Za-z0-9]{1,10}([ _-][A-Za-z0-9]{1,10}){0,3}", re.ASCII), fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def says(**fields: Any) -> str:
    return orjson.dumps(fields).decode()


@given(IDS, IDS, st.sampled_from(["OFFER", "ANSWER", "CANDIDATE"]), st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_relayed_is_what_was_said_but_for_who_says_it(
    src: str, dst: str, kind: str, payload: dict[str, Any]
) -> None:
    signal = read(says(type=kind, src="somebody-else", dst=dst, payload=payload, extra=1))

    assert isinstance(signal, Signal)
    assert orjson.loads(signal.text(src)) == {"type": kind, "src": src, "dst": dst, "payload": payload}
    assert signal.waits


@given(st.text() | st.binary())
def test_whatever_a_client_sends_is_understood_or_refused(frame: str | bytes) -> None:
    incoming = read_quietly(frame)

    assert incoming is None or isinstance(incoming, Signal | Heartbeat)


@given(JSON, JSON, JSON)
def test_whatever_stands_in_a_field_is_understood_or_refused(kind: object, dst: object, payload: object) -> None:
    for one in (kind, "OFFER", "LEAVE"):
        read_quietly(orjson.dumps({"type": one, "dst": dst, "payload": payload}))


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ("{", "JSON"),
        ("[1]", "JSON object"),
        ("[" * 2000, "JSON"),
        (b"\xff", "JSON"),
        (says(), "type: expected one of OFFER, ANSWER, CANDIDATE, LEAVE, HEARTBEAT, found 'None'"),
        (says(type="EXPIRE", dst="bob"), "type: .*'EXPIRE'"),
        (says(type="OPEN"), "type: .*'OPEN'"),
        (says(type=["OFFER"], dst="bob"), "type: "),
        (says(type="OFFER", payload={}), "dst: "),
        (says(type="OFFER", dst=7, payload={}), "dst: "),
        (says(type="OFFER", dst="b" * 65, payload={}), "dst: expected 1 to 64"),
        (says(type="LEAVE", dst="../bob"), "dst: "),
        (says(type="OFFER", dst="bob"), "payload: expected an object"),
        (says(type="CANDIDATE", dst="bob", payload="x"), "payload: "),
        ('{"type":"OFFER","dst":"bob","payload":{"a":' + "[" * 900 + "]" * 900 + "}}", "payload: .*depth"),
    ],
)
def test_what_isnt_understood_is_refused_with_its_field(frame: str | bytes, named: str) -> None:
    with pytest.raises(BadMessage, match=named):
        read(frame)


def test_leave_to_nobody_is_the_clients_own() -> None:
    assert read(says(type="LEAVE")) == Signal("LEAVE", None)
    assert read(says(type="HEARTBEAT")) == Heartbeat()


def test_the_handshake_is_key_id_and_token() -> None:
    asked = read_handshake({"key": ["calls/oslo"], "id": ["ann-1"], "token": ["t"], "version": ["1.5.5"]})

    assert asked == Handshake("calls/oslo", "ann-1", "t")
    assert "'t'" not in repr(asked)


@pytest.mark.parametrize(
    "changed",
    [
        {"key": []},
        {"id": [""]},
        {"token": []},
        {"id": ["ann", "bob"]},
        {"id": ["ann "]},
        {"id": ["ann--1"]},
        {"id": ["a/b"]},
        {"id": ["ä"]},
        {"token": ["t" * 8193]},
    ],
    ids=str,
)
def test_a_handshake_that_lacks_something_is_refused(changed: dict[str, list[str]]) -> None:
    with pytest.raises(BadMessage):
        read_handshake({"key": ["k"], "id": ["i"], "token": ["t"], **changed})


@pytest.mark.parametrize(
    ("identifier", "user", "ids", "may"),
    [
        ("anything", None, "any", True),
        ("ann", "ann", "user", True),
        ("ann-phone", "ann", "user", True),
        ("ann_2", "ann", "user", True),
        ("anna", "ann", "user", False),
        ("bob", "ann", "user", False),
        ("bob", None, "user", False),
        ("None", None, "user", False),
    ],
)
def test_an_id_may_be_bound_to_the_user(identifier: str, user: str | None, ids: Ids, may: bool) -> None:
    assert check_id(identifier, user, ids) is may


@pytest.mark.parametrize(
    ("error", "kind"),
    [(IdTaken("x"), "ID-TAKEN"), (InvalidKey("x"), "INVALID-KEY"), (Forbidden("x"), "ERROR")],
    ids=str,
)
def test_a_refusal_has_the_kind_that_the_client_knows(error: TidegateError, kind: str) -> None:
    assert orjson.loads(refusal(error)) == {"type": kind, "payload": {"msg": "x", "code": error.code}}


def test_a_call_that_comes_to_nothing_is_told_as_from_who_was_called() -> None:
    text = expire("bob", "ann", RateLimited("too many", retry_after_seconds=2))

    reason = {"msg": "too many", "code": "rate_limited", "retry_after_seconds": 2}
    assert orjson.loads(text) == {"type": "EXPIRE", "src": "bob", "dst": "ann", "payload": reason}


@pytest.mark.parametrize("kind", ["message", "subscribed", "joined", "left", "presence", "upstream"])
def test_what_is_told_in_the_room_is_not_for_peers(kind: str) -> None:
    assert told(kind, b'{"type":"OFFER","src":"ann","dst":"bob"}') == b""


def test_the_end_of_a_session_is_an_error_with_its_reason() -> None:
    bye = told("bye", wire.encode("bye", code="idle", reason="silent", retry=True))

    assert orjson.loads(bye) == {"type": "ERROR", "payload": {"msg": "silent", "code": "idle"}}
    assert orjson.loads(told("error", wire.encode_error(None, Forbidden("no"))))["payload"]["code"] == "forbidden"
    assert told("error", wire.encode_error(None, PresenceFull("full"))) == b""


def test_turn_credentials_are_those_of_coturn() -> None:
    # echo -n 1700000000:ann | openssl dgst -sha1 -hmac north -binary | base64
    assert turn_credential("north", "ann", 1_700_000_000.9) == ("1700000000:ann", "jeamH6dA5l2I9g3jmieza7CzEDo=")
    username, credential = turn_credential("north", None, 5)
    assert username == "5:anonymous"
    assert len(b64decode(credential)) == 20


def test_who_has_no_name_is_told_no_servers_for_users() -> None:
    stun = IceServer(("stun:a",))
    turn = IceServer(("turn:b", "turns:b"), secret="north", users_only=True)
    fixed = IceServer(("turn:c",), "me", "pass")

    everyone = [{"urls": ["stun:a"]}, {"urls": ["turn:c"], "username": "me", "credential": "pass"}]
    assert ice_servers([stun, turn, fixed], None, 9) == everyone
    ann = ice_servers([stun, turn], "ann", 9)
    assert ann[1]["urls"] == ["turn:b", "turns:b"]
    assert ann[1]["username"] == "9:ann"
    assert "north" not in repr(turn) + repr(ann)
