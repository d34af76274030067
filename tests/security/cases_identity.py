"""What shows who one is, forged, worn out or in the wrong place; and names that would be more than a name."""

from typing import Final

from tests.security.case import ACTIONS, PATTERNS, Case

CATEGORY: Final = "identity"
DOORS: Final = (*ACTIONS, *PATTERNS)
HEADER: Final = ("ws handshake", *(door for door in DOORS if not door.startswith("ws ")), "POST /ticket")
"""Where a token comes in a header; in a message JSON may hold what headers can't."""
MESSAGE: Final = tuple(door for door in DOORS if door.startswith("ws "))
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
ELSEWHERE: Final = ("sse", "ws handshake", "ws raw", "GET /poll", "GET /last")


def _header(name: str, *headers: tuple[str, str], doors: tuple[str, ...] = HEADER) -> Case:
    """Headers besides which no token is sent."""
    return Case(name, CATEGORY, doors, REFUSED, headers=headers, token=None)


def _query(name: str, query: str) -> Case:
    return Case(name, CATEGORY, ELSEWHERE, REFUSED, query=f"room=open/x&{query}", token=None)


NO_TOKEN: Final = tuple(door for door in HEADER if door != "ws handshake")
"""A WebSocket is accepted without one, and hears nothing until there is one."""

CASES: Final = (
    Case("a good token", CATEGORY, (*DOORS, "ws handshake", "POST /ticket"), "ok"),
    *(Case(f"a token {token}", CATEGORY, DOORS, REFUSED, token=token) for token in FORGED),
    Case("no token", CATEGORY, (*DOORS, "POST /ticket"), REFUSED, token=None),
    Case("an empty token in a header", CATEGORY, HEADER, REFUSED, token="empty"),
    Case("an empty token in a message", CATEGORY, MESSAGE, "bad_message", token="empty"),
    Case("a token of 20 KB in a header", CATEGORY, HEADER[1:], REFUSED, token="of 20 KB"),
    Case("a token of 20 KB in three parts in a header", CATEGORY, HEADER[1:], REFUSED, token="of 20 KB in three parts"),
    Case("a token of 20 KB in a message", CATEGORY, MESSAGE, "bad_message", token="of 20 KB"),
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
    _header("a header of 30 KB", ("Authorization", "Bearer " + "a" * 30_000), doors=HEADER[1:]),
    _header("a name in a header of a proxy", ("X-Forwarded-User", "boss"), ("X-Remote-User", "boss"), doors=NO_TOKEN),
    _header("a token in a cookie", ("Cookie", "token={token}; session=boss"), doors=NO_TOKEN),
    _query("a ticket that nobody has", "ticket=" + "0" * 48),
    _query("an empty ticket", "ticket="),
    _query("two tickets", "ticket=a&ticket=b"),
    _query("a ticket of 5,000 signs", "ticket=" + "a" * 5000),
    Case(
        "a token in the address",
        CATEGORY,
        ("sse", "ws raw", "GET /poll", "GET /last"),
        REFUSED,
        query="room=open/x&token=tg_" + "a" * 64 + "&access_token=tg_" + "a" * 64,
        token=None,
    ),
)
