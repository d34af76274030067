"""Names that would be more than one room: in rooms, in queries, and in what captures make of them for devices."""

from typing import Final

from tests.security.case import ACTIONS, BATCH, CALL, HTTP, PATTERNS, WRITES, Case

CATEGORY: Final = "topic injection"
NO_KEY: Final = (CALL, "invalid_key")
WILDCARD: Final = ("mqtt publish", "DISCONNECT 0x90")
"""MQTT has no topics with wildcards (MQTT 5 §3.3.2.1)."""
MALFORMED: Final = (("mqtt subscribe", "DISCONNECT 0x81"), ("mqtt publish", "DISCONNECT 0x81"))
"""What MQTT knows no text with (MQTT 5 §1.5.4)."""
EVERY: Final = (*ACTIONS, *PATTERNS)
COMMAND: Final = "sites/{}/fan-4/commands"
ROOMY: Final = tuple(door for door in EVERY if door != CALL)
"""Doors to which another server lets so long a head come, too."""
RESERVED: Final = (("mqtt subscribe", "forbidden"),)
SHARED: Final = (("mqtt subscribe", "SUBACK 0x9E"),)
NAMELESS: Final = (("mqtt publish", "bad_message"), NO_KEY)
LONG: Final = (("mqtt subscribe", "too_many_subscriptions"),)
"""Clients of MQTT are remembered while they are away, so their filters are bounded."""
OWN: Final = (("mqtt publish", "read_only"),)
"""To MQTT it is a topic, which is the gateway's, elsewhere a room that no topic has."""
WEBSOCKET: Final = (*(door for door in EVERY if door.startswith(("ws ", "socket.io ", "mqtt "))), BATCH)
NO_TEXT: Final = (*MALFORMED, *((door, "close 1002") for door in EVERY if door.startswith("socket.io ")))
BAD: Final = "bad_message"


def _everywhere(name: str, room: str, *elsewhere: tuple[str, str]) -> Case:
    return Case(name, CATEGORY, EVERY, BAD, room=room, elsewhere=(NO_KEY, *elsewhere))


def _for_a_device(name: str, level: str, *elsewhere: tuple[str, str]) -> Case:
    """A level that becomes one of a device's topic."""
    doors = (*WRITES, "ws request", "POST /request", "socket.io request")
    return Case(name, CATEGORY, doors, BAD, room=COMMAND.format(level), elsewhere=elsewhere)


def _query(name: str, query: str, outcome: str = BAD) -> Case:
    return Case(name, CATEGORY, HTTP, outcome, query=query)


CASES: Final = (
    Case("everything as one room", CATEGORY, ACTIONS, BAD, room="#", elsewhere=(NO_KEY, WILDCARD)),
    Case("one level of everything as one room", CATEGORY, ACTIONS, BAD, room="open/+/a", elsewhere=(NO_KEY, WILDCARD)),
    _everywhere("a wildcard within a level", "open/a+", WILDCARD),
    _everywhere("everything in the middle", "open/#/a", WILDCARD),
    _everywhere("everything twice", "##", WILDCARD),
    Case("the broker's own topics", CATEGORY, PATTERNS, BAD, room="$SYS/broker/uptime", elsewhere=RESERVED),
    Case("all of the broker's own topics", CATEGORY, PATTERNS, BAD, room="$SYS/#", elsewhere=RESERVED),
    Case("a shared subscription", CATEGORY, PATTERNS, BAD, room="$share/group/open/#", elsewhere=SHARED),
    Case(
        "one of the broker's own topics, which nothing grants",
        CATEGORY,
        ACTIONS,
        "forbidden",
        room="$SYS/broker/uptime",
        elsewhere=NAMELESS,
    ),
    Case(
        "a shared subscription, which nothing grants",
        CATEGORY,
        ACTIONS,
        "forbidden",
        room="$share/group/open/a",
        elsewhere=NAMELESS,
    ),
    _everywhere("the broker's own topics, one level down", "open/$SYS"),
    Case("nothing at all", CATEGORY, EVERY, BAD, room="", elsewhere=(("mqtt publish", "DISCONNECT 0x82"),)),
    _everywhere("a slash before", "/open"),
    _everywhere("a slash behind", "open/"),
    _everywhere("two slashes", "open//a"),
    _everywhere("nothing but slashes", "///"),
    _everywhere("NUL", "open/a\0b", *MALFORMED),
    _everywhere("NUL alone", "\0", *MALFORMED),
    _everywhere("a line break", "open/a\r\nFORGED"),
    _everywhere("an escape sequence", "open/\x1b[2J"),
    _everywhere("a control character of Latin-1", "open/\x85FORGED"),
    _everywhere("a non-character", "open/\ufffe"),
    Case("half a surrogate pair", CATEGORY, WEBSOCKET, BAD, room="open/\ud800", elsewhere=NO_TEXT),
    Case("the other half", CATEGORY, WEBSOCKET, BAD, room="open/\udc00a", elsewhere=NO_TEXT),
    _everywhere("129 levels", "/".join(["a"] * 129)),
    _everywhere("200 levels", "/".join(["a"] * 200)),
    Case("a name of 15,000 slashes", CATEGORY, ROOMY, BAD, room="/" * 15_000),
    Case("a name of 60,000 bytes is a name", CATEGORY, ROOMY, "ok", room="a" * 60_000, elsewhere=LONG),
    Case("a name of 65,536 bytes in an address", CATEGORY, HTTP, "headers_too_large", room="a" * 65_536),
    _for_a_device("a command to all devices", "#", WILDCARD),
    _for_a_device("a command to one level of devices", "+", WILDCARD),
    _for_a_device("a command to no device", ""),
    _for_a_device("a command into the broker's topics", "$SYS"),
    _for_a_device("a command with NUL", "a\0", MALFORMED[1]),
    _for_a_device("a command with a line break", "a\n"),
    Case(
        "a command to more levels than a device has is in no device's room",
        CATEGORY,
        WRITES,
        "ok",
        room="sites/a/b/c/fan-4/commands",
    ),
    Case("a command for all that remains", CATEGORY, WRITES, BAD, room="tree/a/#", elsewhere=(WILDCARD,)),
    Case("a reply to another's request", CATEGORY, WRITES, "ok", room="tidegate/replies/x", elsewhere=OWN),
    Case("a wildcard that is encoded twice is text", CATEGORY, HTTP, "ok", query="room=open/%2523"),
    Case("a fullwidth number sign is no wildcard", CATEGORY, EVERY, "ok", room="open/＃"),
    Case("signs that turn text around are text", CATEGORY, EVERY, "ok", room="open/\u202egnp"),
    Case("signs without width are text", CATEGORY, EVERY, "ok", room="open/a\u200bb"),
    Case("a byte order mark is text", CATEGORY, EVERY, "ok", room="open/\ufeffa"),
    Case("two dots are text", CATEGORY, EVERY, "ok", room="open/../users/witness/inbox"),
    Case("braces are no capture", CATEGORY, EVERY, "ok", room="open/{user}"),
    _query("an encoded wildcard", "room=open/%23%2Fa"),
    _query("an encoded NUL", "room=open/%00"),
    _query("encoded slashes", "room=open%2F%2Fa"),
    # What is no UTF-8 becomes U+FFFD before anything reads it, and so never the sign that it might stand for.
    _query("an overlong NUL", "room=open/%C0%80", "ok"),
    _query("an overlong slash", "room=open/%C0%AF%C0%AF", "ok"),
    _query("an overlong number sign", "room=open/%C0%A3", "ok"),
    _query("bytes that are no UTF-8", "room=open/%FF%FE", "ok"),
    _query("an encoded surrogate", "room=open/%ED%A0%80", "ok"),
    _query("half an encoding", "room=open/%2", "ok"),
    Case("two rooms for one", CATEGORY, HTTP[2:], BAD, query="room=open/a&room=open/b"),
    Case("no room", CATEGORY, HTTP, BAD, query="rooms=open/a"),
    Case("a list of a room", CATEGORY, HTTP, BAD, query="room[]=open/a"),
)
