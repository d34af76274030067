"""Passwords: hashed and checked by argon2id (RFC 9106), slowly on purpose, and so beside the event loop.

One thread checks one password after the other, since each check takes a processor, and 64 MiB, for a while; healthy
clients are to notice nothing. A password counts as typed whichever way its characters are composed (RFC 8265 §4.2.2).
"""

import asyncio
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from unicodedata import normalize

from argon2 import Parameters, PasswordHasher, Type, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.core.login_errors import LoginsBusy

__all__ = ["PasswordChecker", "UnfitHash", "check_hash", "hash_password", "verify_password"]

MAXIMUM_WAITING: Final = 64
"""Passwords that may wait; they take some seconds."""
MAXIMUM_WAITING_OF_ADDRESS: Final = 4
"""Those of them that come from one address, so that it can't keep all others out."""
RETRY_SECONDS: Final = 2.0
MAXIMUM_MEMORY_KIB: Final = 1024 * 1024
"""The most memory that a hash may ask for: a typing mistake is not to stop the machine."""
MAXIMUM_ROUNDS: Final = 100


class UnfitHash(ValueError):
    """Text that is no hash of a password as it is taken here."""


def check_hash(text: str) -> Parameters:
    """How a hash was made.

    Raises:
        UnfitHash: it is none, of an older kind, or one that takes too much to check.
    """
    try:
        found = extract_parameters(text)
    except (InvalidHashError, ValueError):
        raise UnfitHash(
            "expected an argon2 hash, as `tidegate user add` makes them; in quotes, if it stands between braces"
        ) from None
    if found.type is not Type.ID:
        raise UnfitHash("expected an argon2id hash, as `tidegate user add` makes them")
    if found.memory_cost > MAXIMUM_MEMORY_KIB or found.time_cost > MAXIMUM_ROUNDS:
        raise UnfitHash(f"expected a hash with at most 1 GiB of memory and {MAXIMUM_ROUNDS} rounds")
    return found


def hash_password(password: str) -> str:
    """The hash to keep of a password, with a salt of its own."""
    return PasswordHasher().hash(normalize("NFC", password))


def verify_password(password_hash: str, password: str) -> bool:
    """Whether a password is that of a hash."""
    try:
        return PasswordHasher().verify(password_hash, normalize("NFC", password))
    except (VerificationError, InvalidHashError):
        return False


class PasswordChecker:
    """Checks passwords one after the other.

    Args:
        hashes: Those of all users. The password of somebody unknown is checked against one made as most of them are, so
            that the time it takes doesn't tell who is known.
    """

    def __init__(self, hashes: Collection[str]) -> None:
        alike = {text.rsplit("$", 2)[0]: text for text in hashes}
        counts = Counter(text.rsplit("$", 2)[0] for text in hashes)
        usual = max(alike, key=counts.__getitem__, default=None)
        hasher = PasswordHasher() if usual is None else PasswordHasher.from_parameters(check_hash(alike[usual]))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._nobodys = self._thread.submit(hasher.hash, "nobody's")  # there before the first password is checked
        self._waiting: Counter[str] = Counter()
        """How many passwords wait, by where they come from."""

    async def check(self, password_hash: str | None, password: str, network: str) -> bool:
        """Whether a password that comes from there is that of a hash; None stands for one that no password has.

        Raises:
            LoginsBusy: too many wait.
        """
        if self._waiting.total() >= MAXIMUM_WAITING or self._waiting[network] >= MAXIMUM_WAITING_OF_ADDRESS:
            raise LoginsBusy("too many passwords wait to be checked", retry_after_seconds=RETRY_SECONDS)
        self._waiting[network] += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._thread, self._verify, password_hash, password)
        finally:
            self._waiting[network] -= 1
            if not self._waiting[network]:
                del self._waiting[network]
        return right and password_hash is not None

    def _verify(self, password_hash: str | None, password: str) -> bool:
        return verify_password(password_hash or self._nobodys.result(), password)
