"""The keys of an identity provider, kept current: its key set is fetched at the start, then now and again.

A token that names a key that isn't there has the set fetched once more, but only a while after the last time, however
many such tokens come. Its client waits for that: so nobody notices that the provider has changed its keys. When the
provider can't be reached, the keys that there are stay; what it says when it can be holds, and no other key.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from bridges.jwks_document import MAXIMUM_KID_LENGTH, KeySet, UnfitDocument, read_keys
from bridges.jwks_fetch import FetchFailed
from gateway.core.authentication import KeyUnknown
from gateway.core.clock import Clock
from gateway.core.errors import Unauthenticated

__all__ = ["Jwks", "JwksOptions"]

logger = logging.getLogger(__name__)

MAXIMUM_WAITING: Final = 1000
"""How many clients may wait for a key; others are refused at once."""


@dataclass(frozen=True, slots=True)
class JwksOptions:
    """When a key set is fetched."""

    url: str
    algorithms: tuple[str, ...]
    refresh_seconds: float = 600.0
    """How long after the last time."""
    cooldown_seconds: float = 10.0
    """How long after the last time at least, though a key is missing or the last time failed."""
    timeout_seconds: float = 5.0
    """How long one time may take, and how far off the next may be for clients to wait for it."""


class Jwks:
    """The keys, as `JwtVerifier` asks for them.

    Args:
        fetch: Brings the document; raises `FetchFailed`.
    """

    def __init__(self, options: JwksOptions, fetch: Callable[[], Awaitable[bytes]], clock: Clock) -> None:
        self.problem: str | None = "not fetched yet"
        """Why the keys aren't those that the provider has now."""
        self._options = options
        self._fetch = fetch
        self._clock = clock
        self._keys = KeySet()
        self._earliest = clock.monotonic()
        """When the set may be fetched next."""
        self._fetching = False
        self._fetched = asyncio.Event()
        """Another one for each time."""
        self._wanted = False
        self._alarm: asyncio.Event | None = None
        """What ends the pause until the next regular time."""
        self._waiting = 0

    @property
    def has_keys(self) -> bool:
        """Whether any token can be verified."""
        return bool(self._keys)

    def key_for(self, kid: str | None, algorithm: str) -> Any:
        """The public key for a token whose header says this.

        Raises:
            KeyUnknown: it isn't there, but the provider is about to be asked for it.
            Unauthenticated: it isn't there.
        """
        found = self._keys.find(kid, algorithm)
        if found is not None:
            return found
        if kid is not None and len(kid) > MAXIMUM_KID_LENGTH:
            raise Unauthenticated(f"the token is refused: expected a `kid` of at most {MAXIMUM_KID_LENGTH} characters")
        reason = "it is signed with a key that isn't known here"
        if kid is None:
            reason = "it names no key (`kid`), and not just one fits"
        message = f"the token is refused: {reason}"
        wait_seconds = self._earliest - self._clock.monotonic()
        soon = self._fetching or wait_seconds <= self._options.timeout_seconds
        if soon and self._waiting < MAXIMUM_WAITING:
            raise KeyUnknown(message, self.renew)
        raise Unauthenticated(message, retry_after_seconds=max(1.0, wait_seconds))

    async def renew(self) -> None:
        """Wait until the set was fetched once more; returns as well if that takes too long."""
        if not self._fetching:
            self._wanted = True
            if self._alarm is not None:
                self._alarm.set()
        self._waiting += 1
        try:
            async with asyncio.timeout(2 * self._options.timeout_seconds):
                await self._fetched.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    async def run(self) -> None:
        """Keep the keys current; never returns."""
        while True:
            await self._pause(asyncio.Event(), self._earliest - self._clock.monotonic())
            if self.problem is None and not self._wanted:
                self._alarm = asyncio.Event()
                await self._pause(self._alarm, self._options.refresh_seconds - self._options.cooldown_seconds)
                self._alarm = None
            await self.update()

    async def _pause(self, ended: asyncio.Event, seconds: float) -> None:
        if seconds > 0:
            timer = self._clock.call_later(seconds, ended.set)
            try:
                await ended.wait()
            finally:
                timer.cancel()

    async def update(self) -> None:
        """Fetch the set once, now. What comes of it is in `problem`."""
        self._wanted, self._fetching = False, True
        try:
            keys = read_keys(await self._fetch(), self._options.algorithms)
        except (FetchFailed, UnfitDocument) as error:
            self._failed(str(error))
        else:
            self._take(keys)
        finally:
            self._earliest = self._clock.monotonic() + self._options.cooldown_seconds
            self._fetching = False
            self._fetched.set()
            self._fetched = asyncio.Event()

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            kept = f"the {len(self._keys)} that are known stay" if self._keys else "no JSON Web Token is accepted"
            logger.warning("keys at %s: %s; %s", self._options.url, problem, kept)
        self.problem = problem

    def _take(self, keys: KeySet) -> None:
        """Let these be the keys, whatever was before."""
        known, self._keys = self._keys, keys
        if keys.left_out != known.left_out:
            for reason in keys.left_out:
                logger.warning("keys at %s: %s", self._options.url, reason)
        if not keys:
            return self._failed(f"none fits: expected one for {', '.join(self._options.algorithms)}")
        if keys != known or self.problem is not None:
            logger.info("keys at %s: %d known", self._options.url, len(keys))
        self.problem = None
        return None
