"""A JSON Web Key Set (RFC 7517) as an identity provider publishes it: from its bytes to the keys that may sign tokens.

What isn't a public key for signatures by an accepted algorithm is left out, with the reason. A key that holds its
private part is left out too: whoever can read the document could sign tokens with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

__all__ = ["MAXIMUM_KEYS", "MAXIMUM_KID_LENGTH", "Key", "KeySet", "UnfitDocument", "read_keys"]

MAXIMUM_KEYS: Final = 100
MAXIMUM_KID_LENGTH: Final = 256
RSA_BITS: Final = (2048, 8192)
"""Shorter ones aren't safe (RFC 7518 §3.3), longer ones take long to verify with."""

KINDS: Final[Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "RS256": ("RSA", (), ("n", "e")),
    "ES256": ("EC", ("P-256",), ("x", "y")),
    "EdDSA": ("OKP", ("Ed25519", "Ed448"), ("x",)),
}
"""Of each algorithm the kind of its keys, their curves, and what the public key consists of (RFC 7518 §6, RFC 8037)."""
PRIVATE: Final = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth"))


class UnfitDocument(ValueError):
    """The document is no key set; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, for one algorithm."""

    kid: str | None
    algorithm: str
    public: Any = field(repr=False)
    """As the cryptography library has it."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys that may sign tokens."""

    keys: tuple[Key, ...] = ()
    left_out: tuple[str, ...] = field(default=(), compare=False)
    """Which other keys the document has, and why they don't count."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self.keys)

    def find(self, kid: str | None, algorithm: str) -> Any | None:
        """The public key that a token's header names, or without `kid` the one that fits; None unless just one does."""
        found = [key for key in self.keys if key.algorithm == algorithm and kid in (None, key.kid)]
        return found[0].public if len(found) == 1 else None


def read_keys(document: bytes, algorithms: Sequence[str]) -> KeySet:
    """The keys in a document that sign by one of these algorithms.

    Raises:
        UnfitDocument: it is none, or has too many keys.
    """
    try:
        value = orjson.loads(document)
    except orjson.JSONDecodeError:
        value = None
    entries = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        raise UnfitDocument("expected a JSON Web Key Set: an object with a list `keys` (RFC 7517 §5)")
    if len(entries) > MAXIMUM_KEYS:
        raise UnfitDocument(f"expected at most {MAXIMUM_KEYS} keys, found {len(entries)}")
    keys: list[Key] = []
    left_out: list[str] = []
    for index, entry in enumerate(entries):
        try:
            keys += _read_key(entry, algorithms)
        except _LeftOut as reason:
            left_out.append(f"keys[{index}]: {reason}")
    return KeySet(tuple(keys), tuple(left_out))


class _LeftOut(ValueError):
    """A key doesn't count."""


def _read_key(entry: Any, algorithms: Sequence[str]) -> Iterator[Key]:
    if not isinstance(entry, dict):
        raise _LeftOut("expected an object")
    if PRIVATE & entry.keys():
        raise _LeftOut("found a private key: it is known to all who can read this address, and signs nothing here")
    kid = entry.get("kid")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAXIMUM_KID_LENGTH):
        raise _LeftOut(f"`kid`: expected 1 to {MAXIMUM_KID_LENGTH} characters")
    if entry.get("use", "sig") != "sig":
        raise _LeftOut("`use`: expected `sig`")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _LeftOut("`key_ops`: expected `verify` among them")
    fitting = [algorithm for algorithm in algorithms if _is_of(entry, algorithm)]
    if not fitting:
        raise _LeftOut(f"expected a key for {', '.join(algorithms)}")
    return (Key(kid, algorithm, _public_of(entry, algorithm)) for algorithm in fitting)


def _is_of(entry: Mapping[str, Any], algorithm: str) -> bool:
    kind, curves, _ = KINDS[algorithm]
    named = entry.get("alg", algorithm) == algorithm
    return named and entry.get("kty") == kind and (not curves or entry.get("crv") in curves)


def _public_of(entry: Mapping[str, Any], algorithm: str) -> Any:
    import jwt  # slow to import, and most configurations don't need it

    members = {name: entry.get(name) for name in ("kty", "crv", *KINDS[algorithm][2])}
    try:
        public = jwt.PyJWK(members, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        raise _LeftOut(f"expected a public key for {algorithm}") from None
    bits = public.key_size if algorithm == "RS256" else RSA_BITS[0]
    if not RSA_BITS[0] <= bits <= RSA_BITS[1]:
        raise _LeftOut(f"expected {RSA_BITS[0]} to {RSA_BITS[1]} bits, found {bits}")
    return public
