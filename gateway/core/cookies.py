"""The session cookie as headers carry it (RFC 6265): how it is read, set and cleared. What is in it, `logins` knows.

Two names: where TLS is known to have led here it is `__Host-…` and `Secure`, which no other host and nobody on the way
can have set. A plain one is for `http://localhost`, and for gateways that are reached without TLS altogether.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["CLEARED", "MAXIMUM_COOKIE_LENGTH", "PLAIN_NAME", "SECURE_NAME", "ShownCookie", "read_cookie", "set_cookie"]

PLAIN_NAME: Final = "tidegate_session"
SECURE_NAME: Final = f"__Host-{PLAIN_NAME}"
MAXIMUM_COOKIE_LENGTH: Final = 4096
"""What browsers keep at least (RFC 6265 §6.1), and so the most that is made."""


class ShownCookie(NamedTuple):
    """A session cookie that a client shows."""

    value: str
    secure: bool
    """Whether by the name that only TLS can set."""


def read_cookie(headers: Iterable[tuple[bytes, bytes]], *, encrypted: bool) -> ShownCookie | None:
    """The session cookie among a request's headers.

    If TLS is known to have led here, only the name that TLS alone can set counts. A name that stands there twice, with
    different values, was set by two hosts, one of them a stranger: then it is a cookie without a value, which is wrong.
    """
    found: dict[str, set[str]] = {PLAIN_NAME: set(), SECURE_NAME: set()}
    for header, text in headers:
        if header == b"cookie":
            for pair in text.decode("latin-1").split(";"):
                # Other spaces, such as U+00A0, are part of a name, which any host of the same site can set.
                name, _, value = pair.strip(" \t").partition("=")
                if name in found:
                    found[name].add(value.strip('"'))
    for name in (SECURE_NAME,) if encrypted else (SECURE_NAME, PLAIN_NAME):
        if found[name]:
            return ShownCookie(found[name].pop() if len(found[name]) == 1 else "", name == SECURE_NAME)
    return None


def set_cookie(value: str, seconds: int, *, secure: bool) -> tuple[bytes, bytes]:
    """The header that gives a browser the cookie for so long; 0 takes it away."""
    name, more = (SECURE_NAME, "; Secure") if secure else (PLAIN_NAME, "")
    return b"set-cookie", f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{more}".encode()


CLEARED: Final = (set_cookie("", 0, secure=True), set_cookie("", 0, secure=False))
"""Headers that take the cookie away, whichever it was."""
