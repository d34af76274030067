"""What one may not do: by other doors, by patterns wider than what is granted, by names that would widen it."""

from typing import Final

from tests.security.case import ACTIONS, BATCH, CALL, PATTERNS, READS, WRITES, Case

CATEGORY: Final = "access"
ALL: Final = (*ACTIONS, *PATTERNS)
PRESENCE: Final = ("socket.io presence", "GET /peerjs/…/peers")
SERVED: Final = (
    "ws handshake",
    "socket.io handshake",
    "mqtt handshake",
    CALL,
    BATCH,
    "GET /problems",
    "GET /peerjs/ice",
    "GET /peerjs/…/id",
    "GET /peerjs/…/peers",
)
NAMELESS: Final = (("mqtt publish", "bad_message"), (CALL, "invalid_key"))
"""What these protocols have no name with, whoever may."""
GONE: Final = "CONNACK 0x00, close 1000"
"""A will isn't answered; that nobody hears it is proved by who is there."""
FORBIDDEN: Final = "forbidden"


def _forbidden(
    name: str,
    token: str,
    room: str,
    doors: tuple[str, ...] = ALL,
    outcome: str = FORBIDDEN,
    elsewhere: tuple[tuple[str, str], ...] = (),
) -> Case:
    return Case(name, CATEGORY, doors, outcome, room=room, token=token, elsewhere=elsewhere)


CASES: Final = (
    Case("what is granted", CATEGORY, ALL, "ok", token="of an operator"),
    Case("what is granted to an API token", CATEGORY, ALL, "ok", token="API token"),
    Case("one's own room", CATEGORY, ALL, "ok", room="users/ann/a", token="of a guest"),
    Case("a pattern within what is granted", CATEGORY, PATTERNS, "ok", room="open/+/a", token="of an operator"),
    _forbidden("a room of nobody's", "of a guest", "open/x"),
    _forbidden(
        "to speak where one may only hear", "of a listener", "shared/witness", (*WRITES, "socket.io request", CALL)
    ),
    _forbidden("a will in another's room", "of a guest", "users/witness/inbox", ("mqtt will",), GONE),
    _forbidden("a will where one may only hear", "of a listener", "shared/witness", ("mqtt will",), GONE),
    _forbidden("a will in the name of a device", "all", "raw/x", ("mqtt will",), GONE),
    _forbidden("another's room's presence", "of an operator", "users/witness/inbox", PRESENCE),
    _forbidden("what devices said that nobody understood", "of an operator", "open/x", ("GET /problems",)),
    Case("what devices said, by whom all rooms are for", CATEGORY, ("GET /problems",), "ok"),
    _forbidden("another's room", "of an operator", "users/witness/inbox"),
    _forbidden("the witness's room", "of a guest", "shared/witness"),
    _forbidden("a parent of what is granted", "of an operator", "open", ("ws publish",), "ok"),
    _forbidden("a name that begins alike", "of an operator", "openly/x"),
    _forbidden("a name in capitals", "of an operator", "Open/x"),
    _forbidden("a name that looks alike", "of an operator", "оpen/x"),
    _forbidden("everything", "of an operator", "#", PATTERNS),
    _forbidden("everybody's rooms", "of a guest", "users/#", PATTERNS),
    _forbidden("one room of everybody's", "of a guest", "users/+/a", PATTERNS),
    _forbidden("a pattern that only begins within what is granted", "of an operator", "+/x", PATTERNS),
    _forbidden("two dots out of what is granted", "of a guest", "users/ann/../witness/inbox", ALL, "ok"),
    _forbidden("a user `+` and somebody's room", "of a guest `+`", "users/x/a"),
    _forbidden("a user `+` and everybody's rooms", "of a guest `+`", "users/+/a", PATTERNS),
    _forbidden("a user `#` and everybody's rooms", "of a guest `#`", "users/#", PATTERNS),
    _forbidden("a user of two levels and another's room", "of a guest `a/b`", "users/a/b"),
    _forbidden("a user `$SYS`", "of a guest `$SYS`", "users/$SYS/a", PATTERNS, "bad_message"),
    _forbidden("a user `$SYS` and one room", "of a guest `$SYS`", "users/$SYS/a", ACTIONS, elsewhere=NAMELESS),
    _forbidden("a user of two dots and another's room", "of a guest `..`", "users/witness/inbox"),
    _forbidden("a claim `+` and a team's room", 'of a guest with `team: "+"`', "teams/red/a"),
    _forbidden("a claim `#` in a list and another team's room", 'of a guest with `team: ["red", "#"]`', "teams/blue/a"),
    _forbidden("a claim that is an object", 'of a guest with `team: {"red": 1}`', "teams/red/a"),
    _forbidden("a claim that is true", "of a guest with `team: true`", "teams/true/a"),
    _forbidden("a claim that isn't there", "of a guest", "teams/None/a"),
    Case("the rules of one namespace in another", CATEGORY, ALL, FORBIDDEN, namespace="/n/b", token="of an operator"),
    Case("a namespace that isn't there", CATEGORY, (*READS[1:], *SERVED), "no_such_endpoint", namespace="/n/c"),
    Case("a namespace by two dots", CATEGORY, READS[1:], "no_such_endpoint", namespace="/n/b/.."),
    Case("a namespace whose slash is encoded", CATEGORY, READS[1:], "no_such_endpoint", namespace="/n/b%2f.."),
)
