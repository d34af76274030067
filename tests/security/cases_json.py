"""JSON that costs more than it says, or that two readers would read differently."""

import gzip
from typing import Final

from tests.security.case import BATCH, CALL, Case

CATEGORY: Final = "JSON"
BODY: Final = ("POST /publish", "POST /request")
DATA: Final = (*BODY, BATCH)
BOTH: Final = ("ws message", *DATA)
BOMB: Final = gzip.compress(bytes(10_000_000), mtime=0)
UTF_16: Final = ("Content-Type", "application/json; charset=utf-16")
BAD: Final = "bad_message"
PARSE: Final = "close 1002"
"""As Socket.IO has it: the connection ends, with `parse error`."""


def _data(name: str, data: bytes, outcome: str = BAD) -> Case:
    """Data in a body."""
    return Case(name, CATEGORY, DATA, outcome, body=data)


def _message(name: str, text: bytes, outcome: str = BAD) -> Case:
    """A message to the gateway."""
    return Case(name, CATEGORY, ("ws message",), outcome, body=text)


BROKEN: Final = {
    "10,000 arrays in another protocol": b"[" * 10_000 + b"]" * 10_000,
    "arrays that never end in another protocol": b"[" * 30_000,
    "NaN in another protocol": b"NaN",
    "half a surrogate pair in another protocol": b'"\\ud800"',
    "nothing in another protocol": b"",
}


def _foreign(name: str, data: bytes) -> Case:
    """Data within a packet, which is none then."""
    return Case(name, CATEGORY, ("socket.io publish", CALL), BAD, body=data, elsewhere=(("socket.io publish", PARSE),))


CASES: Final = (
    Case("10,000 arrays in one another", CATEGORY, BOTH, BAD, body=b"[" * 10_000 + b"]" * 10_000),
    Case("5,000 objects in one another", CATEGORY, BOTH, BAD, body=b'{"a":' * 5000 + b"1" + b"}" * 5000),
    Case("30,000 arrays that never end", CATEGORY, BOTH, BAD, body=b"[" * 30_000),
    Case("nothing", CATEGORY, BOTH, BAD, body=b""),
    Case("a byte order mark before", CATEGORY, BOTH, BAD, body=b'\xef\xbb\xbf{"type":"ping"}'),
    Case("more behind the end", CATEGORY, BOTH, BAD, body=b'{"type":"ping"}{"type":"ping"}'),
    Case("NUL behind the end", CATEGORY, BOTH, BAD, body=b'{"type":"ping"}\0'),
    Case("half a surrogate pair in a text", CATEGORY, BOTH, BAD, body=b'{"type":"ping","id":"\\ud800"}'),
    Case("a control character in a text", CATEGORY, BOTH, BAD, body=b'{"type":"ping","id":"\x01"}'),
    Case("a comment", CATEGORY, BOTH, BAD, body=b'{"type":"ping"/**/}'),
    _data("NaN", b"NaN"),
    _data("infinity", b"-Infinity"),
    _data("a number beyond all", b"1e400"),
    _data("hexadecimal digits", b"0x10"),
    _data("a leading zero", b"01"),
    _data("bytes that are no UTF-8", b'"\xff"'),
    _data("overlong UTF-8", b'"\xc0\x80"'),
    _data("single quotes", b"'a'"),
    _data("a number of 60,000 digits", b"1" * 60_000),
    _data("minus zero", b"-0", "ok"),
    _data("5,000 keys", b"{%b}" % b",".join(b'"%d":1' % i for i in range(5000)), "ok"),
    _data("the same key twice in data is data", b'{"a":1,"a":2}', "ok"),
    _data("keys of prototypes are data", b'{"__proto__":{"admin":true},"constructor":1}', "ok"),
    Case("a bomb of gzip", CATEGORY, BODY, BAD, body=BOMB, headers=(("Content-Encoding", "gzip"),)),
    Case(
        "a form", CATEGORY, BODY, BAD, body=b"data=1", headers=(("Content-Type", "application/x-www-form-urlencoded"),)
    ),
    Case("a text that is no UTF-8", CATEGORY, BODY, BAD, body=b"\xff", headers=(("Content-Type", "text/plain"),)),
    Case("another encoding of signs", CATEGORY, BODY, BAD, body="1".encode("utf-16"), headers=(UTF_16,)),
    *(_foreign(name, data) for name, data in BROKEN.items()),
    Case("a text as what is called with", CATEGORY, (CALL,), BAD, body=b'"a"'),
    Case("a list as what is called with", CATEGORY, (CALL,), BAD, body=b"[]"),
    Case("keys of prototypes in a call are the other one's", CATEGORY, (CALL,), "ok", body=b'{"__proto__":{"a":1}}'),
    Case("two payloads of a call, the last one bad", CATEGORY, (CALL,), BAD, body=b'{},"payload":1'),
    Case("another's name as the caller's", CATEGORY, (CALL,), "ok", body=b'{},"src":"witness"'),
    Case("more arguments than there are", CATEGORY, ("socket.io publish",), BAD, body=b"1,{},2"),
    Case("options that nobody knows", CATEGORY, ("socket.io publish",), BAD, body=b'1,{"from":{"user":"witness"}}'),
    Case(
        "an attachment that never comes", CATEGORY, ("socket.io publish",), "ok", body=b'{"_placeholder":true,"num":9}'
    ),
    Case("another room behind a batch's data: it holds", CATEGORY, (BATCH,), BAD, body=b'1,"room":"open/##"'),
    Case("another type in a batch", CATEGORY, (BATCH,), BAD, body=b'1,"type":"subscribe"'),
    Case("another's name as a batch's sender", CATEGORY, (BATCH,), BAD, body=b'1,"from":{"user":"witness"}'),
    _message("an array of messages", b'[{"type":"ping"}]'),
    _message("a text instead of an object", b'"subscribe"'),
    _message("two types, the last one good: it holds", b'{"type":"nonsense","type":"ping"}', "ok"),
    _message("two types, the first one good: it doesn't hold", b'{"type":"ping","type":"nonsense"}'),
    _message("two rooms, the last one bad", b'{"type":"subscribe","room":"open/x","room":"open/##"}'),
    _message("a type that is an object", b'{"type":{"toString":"ping"}}'),
    _message("a type that is a prototype's", b'{"type":"__proto__"}'),
    _message("a key of prototypes", b'{"type":"ping","__proto__":{"type":"publish"}}'),
    _message("5,000 unknown fields", b'{"type":"ping",%b}' % b",".join(b'"%d":1' % i for i in range(5000))),
    _message("an id that is an object", b'{"type":"ping","id":{"a":1}}'),
    _message("an id of 1,000 signs", b'{"type":"ping","id":"%b"}' % (b"a" * 1000)),
    _message("an id of 10,000 digits", b'{"type":"ping","id":%b}' % (b"1" * 10_000)),
    _message("an id beyond 64 bits", b'{"type":"ping","id":18446744073709551616}'),
    _message("a room that is an array in arrays", b'{"type":"subscribe","room":[["#"]]}'),
    _message("a room that is a number", b'{"type":"publish","room":1,"data":1}'),
    _message("a time-out beyond all", b'{"type":"request","id":1,"room":"open/x","data":1,"timeout_seconds":1e308}'),
    _message("a time-out before now", b'{"type":"request","id":1,"room":"open/x","data":1,"timeout_seconds":-1}'),
    _message("a sampling of no time", b'{"type":"subscribe","room":"open/x","sample":{"seconds":1e-300}}'),
    _message("a bandwidth that is true", b'{"type":"bandwidth","bytes_per_second":true}'),
    _message("bytes that are no base64", b'{"type":"publish","room":"open/x","data":"*","binary":true}'),
    _message("another's name as the sender", b'{"type":"publish","room":"open/x","data":1,"from":{"user":"witness"}}'),
    _message(
        "a cursor of another epoch's making", b'{"type":"subscribe","room":"open/x","since":"a-99999999999999999999"}'
    ),
    Case("a body of 70,000 bytes", CATEGORY, DATA, "message_too_large", body=b'"%b"' % (b"a" * 70_000)),
)
