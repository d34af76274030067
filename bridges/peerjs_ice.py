"""STUN and TURN servers as browsers take them (`RTCConfiguration`), with credentials that hold for a while.

Those for TURN are what coturn calls `use-auth-secret` (draft-uberti-behave-turn-rest-00): the username says until when
it holds and whose it is, and the password is its HMAC with a secret that the gateway and the TURN server share.
"""

import hmac
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["IceServer", "ice_servers", "turn_credential"]

NOBODY: Final = "anonymous"


@dataclass(frozen=True, slots=True)
class IceServer:
    """One server, by one or several addresses."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    """What makes credentials; None for those that are given, or none."""
    users_only: bool = False
    """Whether it is told only to who has a name."""


def turn_credential(secret: str, user: str | None, expires_at: float) -> tuple[str, str]:
    """A username and a password, for a user and until a time in seconds since the Unix epoch."""
    username = f"{int(expires_at)}:{user or NOBODY}"
    digest = hmac.digest(secret.encode(), username.encode(), "sha1")
    return username, b64encode(digest).decode()


def ice_servers(servers: Iterable[IceServer], user: str | None, expires_at: float) -> list[dict[str, Any]]:
    """The servers that somebody may use, as a page gives them to `RTCPeerConnection`."""
    return [_told(server, user, expires_at) for server in servers if user is not None or not server.users_only]


def _told(server: IceServer, user: str | None, expires_at: float) -> dict[str, Any]:
    told: dict[str, Any] = {"urls": list(server.urls)}
    username, credential = server.username, server.credential
    if server.secret is not None:
        username, credential = turn_credential(server.secret, user, expires_at)
    if username is not None:
        told["username"] = username
    if credential is not None:
        told["credential"] = credential
    return told
