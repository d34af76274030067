"""Numbers and lists in addresses that would keep the gateway busy, or waiting, or that are no numbers."""

from typing import Final

from tests.security.case import PATTERNS, WRITES, Case

CATEGORY: Final = "queries"
BAD: Final = "bad_message"
COMMANDS: Final = "room=sites/oslo/fan-4/commands"


def _one(name: str, door: str, query: str, outcome: str = BAD) -> Case:
    return Case(name, CATEGORY, (door,), outcome, query=query)


CASES: Final = (
    *(
        _one(f"`{number}` seconds to wait for a device", "POST /request", f"{COMMANDS}&timeout_seconds={number}")
        for number in ("nan", "inf", "-1", "0", "1e400", "1e-400", "0x10", "1_000")
    ),
    *(
        _one(f"`{number}` messages of the past", "GET /history", f"room=open/x&limit={number}")
        for number in ("-1", "1e9", "0x10", "9999999999", "%00", "")
    ),
    *(
        _one(f"a sample each `{number}` seconds", "sse", f"room=open/x&sample={number}")
        for number in ("nan", "inf", "-1", "1e-300", "1e400", "0x10")
    ),
    *(
        _one(f"`{number}` bytes a second", "sse", f"room=open/x&bytes_per_second={number}")
        for number in ("nan", "inf", "-1", "0", "1e400")
    ),
    _one(
        "1,000 rooms in one address", "sse", "&".join(f"room=open/{i}" for i in range(1000)), "too_many_subscriptions"
    ),
    _one("the same room 1,000 times", "sse", "&".join(["room=open/x"] * 1000), "too_many_subscriptions"),
    _one("5,000 parameters that nobody knows", "GET /last", "room=open/x" + "&a=b" * 5000, "url_too_long"),
    _one("5,000 empty parameters", "sse", "room=open/x" + "&" * 5000, "url_too_long"),
    _one("a cursor of 1,000 digits", "GET /history", "room=open/x&since=a-" + "1" * 1000),
    _one("a cursor of full-width digits", "GET /history", "room=open/x&since=a-%EF%BC%91"),
    _one("a cursor that is a list", "GET /history", "room=open/x&since[]=a-1", "ok"),
    _one("more cursors than rooms", "sse", "room=open/x&since=a-1&since=a-2&since=a-3"),
    Case("a cursor with a line in a header", CATEGORY, ("sse",), BAD, headers=(("Last-Event-ID", "a\tb"),)),
    Case("128 wildcards", CATEGORY, PATTERNS, "ok", room="/".join(["+"] * 128)),
    Case("a name that 128 wildcards match", CATEGORY, WRITES, "ok", room="/".join(["a"] * 128)),
)
