"""What shows who one is, forged, worn out or in the wrong place; and names that would be more than a name."""

from typing import Final

from tests.security.case import ACTIONS, BATCH, CALL, HTTP, PATTERNS, Case

CATEGORY: Final = "identity"
DOORS: Final = (*ACTIONS, *PATTERNS)
HANDSHAKES: Final = ("ws handshake", "socket.io handshake", "mqtt handshake")
ENDPOINTS: Final = ("POST /ticket", "GET /problems", "GET /peerjs/ice")
HEADER: Final = ("ws handshake", *HTTP, BATCH, *HANDSHAKES[1:], *ENDPOINTS)
"""Where a token comes in a header; in a message JSON may hold what headers can't."""
MESSAGE: Final = tuple(door for door in DOORS if door.startswith("ws "))
OTHERS: Final = ("socket.io subscribe", "mqtt subscribe", CALL)
"""Where a token comes in what other protocols say of who one is."""
REFUSED: Final = "unauthenticated"
FORGED: Final = (
    "nonsense",
    "an unknown API token",
    "the hash of an API token",
    "expired",
    "not valid yet",
    "issued for another audience",
    "without `exp`",
    "with `exp` as a list",
    "with `exp: 1e400`",
    "by another secret",
    "by an empty secret",
    "with `alg: none`",
    "with `alg: NoNe`",
    "with `alg: none` and a good signature",
    "by an algorithm that isn't configured",
    "with `alg: RS256` over the secret",
    "with `kid: ../../dev/null`",
    "with a `kid` of SQL",
    "with a `jwk` of its own",
    "with `crit`",
    "with another's claims",
    "with its signature cut off",
    "with four parts",
    "of a list instead of claims",
    "with a role that is an object",
    "with roles that are an object",
    "with 1,000 roles",
    "with a user that is a number",
    "with a user of two lines",
    "with an empty user",
    "of 10,000 dots",
    "with a space in it",
)
ELSEWHERE: Final = ("sse", *HANDSHAKES, "ws raw", "GET /poll", "GET /last", *ENDPOINTS[1:])


def _header(name: str, *headers: tuple[str, str], doors: tuple[str, ...] = HEADER) -> Case:
    """Headers besides which no token is sent."""
    return Case(name, CATEGORY, doors, REFUSED, headers=headers, token=None)


def _query(name: str, query: str) -> Case:
    return Case(name, CATEGORY, ELSEWHERE, REFUSED, query=f"room=open/x&{query}", token=None)


NO_TOKEN: Final = tuple(door for door in HEADER if door != "ws handshake")
"""A WebSocket is accepted without one, and hears nothing until there is one."""

LONG: Final = ("with 1,000 roles", "of 10,000 dots")
"""Too long for a PeerJS client, which has its token in an address."""
ROOMY: Final = tuple(door for door in HEADER if door not in HANDSHAKES)
"""Doors to which another server lets so long a head come."""
MORE: Final = ("socket.io request", "socket.io presence", "GET /peerjs/…/peers")
TRIED: Final = (*(door for door in DOORS if door not in ("socket.io publish", "mqtt publish", CALL)), CALL)
"""Where one token after the other is tried: who publishes by these has come in as who subscribes."""

CASES: Final = (
    Case("a good token", CATEGORY, (*DOORS, *HANDSHAKES, *ENDPOINTS, *MORE), "ok"),
    *(
        Case(f"a token {token}", CATEGORY, TRIED[:-1] if token in LONG else TRIED, REFUSED, token=token)
        for token in FORGED
    ),
    Case("no token", CATEGORY, (*DOORS, *ENDPOINTS, *HANDSHAKES[1:], *MORE), REFUSED, token=None),
    Case("whoever wants an id of a PeerJS client", CATEGORY, ("GET /peerjs/…/id",), "ok", token=None),
    Case("an empty token in a header", CATEGORY, HEADER, REFUSED, token="empty"),
    Case("an empty token in a message", CATEGORY, MESSAGE, "bad_message", token="empty"),
    Case("an empty token in another protocol", CATEGORY, OTHERS, REFUSED, token="empty"),
    Case("a token of 20 KB in a header", CATEGORY, ROOMY, REFUSED, token="of 20 KB"),
    Case(
        "a token of 20 KB in three parts in a header",
        CATEGORY,
        ROOMY,
        REFUSED,
        token="of 20 KB in three parts",
    ),
    Case("a token of 20 KB in a message", CATEGORY, MESSAGE, "bad_message", token="of 20 KB"),
    Case("a token of 20 KB in another protocol", CATEGORY, OTHERS[:2], REFUSED, token="of 20 KB"),
    _header(
        "two tokens, the first one good",
        ("Authorization", "Bearer tg_" + "a" * 64),
        ("Authorization", "Bearer x"),
        doors=HEADER[1:],
    ),
    _header(
        "two tokens, the last one good",
        ("Authorization", "Bearer x"),
        ("Authorization", "Bearer tg_" + "a" * 64),
        doors=HEADER[1:],
    ),
    _header("a user and a password", ("Authorization", "Basic Ym9zczpib3Nz"), doors=NO_TOKEN),
    _header("a scheme without a token", ("Authorization", "Bearer"), ("Connection", "close")),
    _header("a header of 30 KB", ("Authorization", "Bearer " + "a" * 30_000), doors=ROOMY),
    _header("a name in a header of a proxy", ("X-Forwarded-User", "boss"), ("X-Remote-User", "boss"), doors=NO_TOKEN),
    _header("a token in a cookie", ("Cookie", "token={token}; session=boss"), doors=NO_TOKEN),
    _query("a ticket that nobody has", "ticket=" + "0" * 48),
    _query("an empty ticket", "ticket="),
    _query("two tickets", "ticket=a&ticket=b"),
    _query("a ticket of 5,000 signs", "ticket=" + "a" * 5000),
    Case(
        "a token in the address",
        CATEGORY,
        tuple(door for door in ELSEWHERE if door != "ws handshake"),
        REFUSED,
        query="room=open/x&token=tg_" + "a" * 64 + "&access_token=tg_" + "a" * 64,
        token=None,
    ),
)
