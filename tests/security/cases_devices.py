"""What devices say that browsers must not choke on, and what browsers say that devices must not."""

from typing import Final

from tests.security.case import WRITES, Case

CATEGORY: Final = "devices and schemas"
SENSOR: Final = "sensors/oslo/fan-4/power"
BAD: Final = "bad_message"


def _device(name: str, topic: str, payload: bytes, outcome: str) -> Case:
    return Case(name, CATEGORY, ("MQTT",), outcome, topic=topic, body=payload)


def _checked(name: str, data: bytes, outcome: str = BAD, elsewhere: tuple[tuple[str, str], ...] = ()) -> Case:
    room = "checked/fan-4"
    reaches = (room,) if outcome == "ok" else ()
    return Case(name, CATEGORY, WRITES[1:], outcome, room=room, body=data, reaches=reaches, elsewhere=elsewhere)


CASES: Final = (
    _device(
        "arrays in one another from a device",
        SENSOR,
        b"[" * 5000 + b"]" * 5000,
        '"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[',
    ),
    _device("NaN from a device", SENSOR, b"NaN", '"NaN"'),
    _device("bytes that are no UTF-8 from a device", SENSOR, b"\xff\xfe", "binary"),
    _device("half a surrogate pair from a device", SENSOR, b'"\\ud800"', '"\\"\\\\ud800\\""'),
    _device("NUL from a device", "text/x", b"a\0b", '"a\\u0000b"'),
    _device("an event within an event", "text/x", b"a\n\nevent: bye\ndata: {}", '"a\\n\\nevent: bye\\ndata: {}"'),
    _device("nothing from a device", "raw/x", b"", "null"),
    _device(
        "a message of the gateway's from a device",
        "raw/x",
        b'{"type":"bye","code":"x"}',
        '{"type": "bye", "code": "x"}',
    ),
    _device("a topic with an empty level", "sensors//fan-4/power", b"1", "nothing"),
    _device("a topic of the gateway's answers", "tidegate/replies/x", b"1", "nothing"),
    _device("a topic with markup", "raw/<img src=x>", b"1", "1"),
    _checked("what a schema allows", b'{"switch":true}', "ok"),
    _checked("a pattern that would take for ever", b'{"name":"%b!"}' % (b"a" * 30_000)),
    _checked("a field that a schema doesn't know", b'{"constructor":1}'),
    _checked("a key of prototypes", b'{"__proto__":{"switch":1}}'),
    _checked("another type than the schema's", b'{"switch":"on"}'),
    _checked(
        "data of 5,000 levels",
        b'{"name":' + b"[" * 5000 + b"]" * 5000 + b"}",
        elsewhere=(("socket.io publish", "close 1002"),),
    ),
    _checked("5,000 fields that a schema doesn't know", b"{%b}" % b",".join(b'"%d":1' % i for i in range(5000))),
    Case("data for a room that devices alone write", CATEGORY, WRITES, "read_only", room="sites/oslo/fan-4/power"),
    Case("data in the name of a device", CATEGORY, WRITES, "read_only", room="raw/x"),
)
