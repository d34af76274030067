"""Tickets in Redis: each may be taken once, by whichever node it is shown at.

Who reads Redis learns nothing that lets in: the key is a hash of the ticket, and what it says, such as the token that
was shown for it, is encrypted under another one. A ticket is 192 random bits and encrypts once, so the nonce is fixed.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bridges.redis_link import RedisLink, RedisRefused
from bridges.redis_options import RedisUnavailable

__all__ = ["RedisTickets"]

NONCE: Final = bytes(12)


class RedisTickets:
    """A `TicketStore`."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    @property
    def is_up(self) -> bool:
        """Whether Redis can be reached, as far as is known."""
        return self._link.is_up

    async def put(self, ticket: str, fields: Mapping[str, Any], seconds: float) -> bool:
        """Keep a ticket for so long; whether Redis has said that it is there."""
        sealed = _cipher(ticket).encrypt(NONCE, orjson.dumps(dict(fields)), None)
        try:
            await self._link.call("SET", self._key(ticket), sealed, "PX", max(1, round(seconds * 1000)))
        except (RedisUnavailable, RedisRefused):
            return False
        return True

    async def take(self, ticket: str) -> Mapping[str, Any] | None:
        """What was kept, for the first who asks; None if there is nothing, or Redis can't say."""
        try:
            sealed = await self._link.call("GETDEL", self._key(ticket))
            if sealed is None:
                return None
            fields: Mapping[str, Any] = orjson.loads(_cipher(ticket).decrypt(NONCE, sealed, None))
        except (RedisUnavailable, RedisRefused, InvalidTag, ValueError):
            return None
        return fields

    def _key(self, ticket: str) -> str:
        return self._link.key(f"ticket:{sha256(b'key ' + ticket.encode()).hexdigest()}")


def _cipher(ticket: str) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(sha256(b"cipher " + ticket.encode()).digest())
