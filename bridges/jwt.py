"""JSON Web Tokens (RFC 7519), read by PyJWT: from a token to an `Identity`, or to the reason why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import jwt
from jwt.algorithms import get_default_algorithms

from gateway.core.errors import Unauthenticated
from gateway.core.identity import Identity

__all__ = ["JwtOptions", "JwtVerifier", "Keys", "UnfitKey", "check_public_key"]

MAXIMUM_ROLES: Final = 100
"""The most roles of one token: each rule is asked for each."""
MAXIMUM_USER_LENGTH: Final = 256
LATEST: Final = 2.0**53
"""Where a token expires later, this is late enough."""


class UnfitKey(ValueError):
    """A key that isn't one for an algorithm; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class JwtOptions:
    """What tokens are accepted. Algorithms are those given here, whatever a token's header says (RFC 8725 §3.1)."""

    algorithms: tuple[str, ...]
    key: bytes = field(repr=False)
    """The secret or the public key; unused where there are `Keys`."""
    audience: str | None = None
    issuer: str | None = None
    leeway_seconds: float = 0.0
    user_claim: str = "sub"
    roles_claim: str = "roles"


class Keys(Protocol):
    """Public keys of somebody who changes them now and then."""

    def key_for(self, kid: str | None, algorithm: str) -> Any:
        """The key that a token's header names by `kid`, for an algorithm that is accepted.

        Raises:
            KeyUnknown: it may be had in a moment.
            Unauthenticated: there is none.
        """
        ...


def check_public_key(key: bytes, algorithms: Sequence[str]) -> None:
    """Check that a key is a public one for these algorithms.

    Raises:
        UnfitKey: it isn't.
    """
    known = get_default_algorithms()
    for algorithm in algorithms:
        try:
            prepared = known[algorithm].prepare_key(key)
        except (ValueError, TypeError, jwt.PyJWTError):
            raise UnfitKey(f"expected a public key (PEM) for {algorithm}") from None
        if hasattr(prepared, "private_bytes"):
            raise UnfitKey(f"expected the public key for {algorithm}, found the private one: keep that elsewhere")


class JwtVerifier:
    """Says who a token's bearer is.

    Args:
        keys: Where the key of each token is found; without, it is the one of the options.
    """

    def __init__(self, options: JwtOptions, keys: Keys | None = None) -> None:
        self._options = options
        self._keys = keys
        self._jwt = jwt.PyJWT()

    def identify(self, token: str) -> Identity:
        """The identity that a token proves.

        Raises:
            KeyUnknown: the key that it is signed with may be had in a moment.
            Unauthenticated: it proves none: it is malformed, not signed as it must be, expired, or for somebody else.
        """
        options = self._options
        try:
            key, algorithms = self._key_of(token)
            claims = self._jwt.decode(
                token,
                key,
                algorithms=algorithms,
                audience=options.audience,
                issuer=options.issuer,
                leeway=options.leeway_seconds,
                options={"require": ["exp", options.user_claim]},
            )
            return _identity(claims, options)
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token is refused: {_reason(error)}") from None
        except (ValueError, OverflowError, RecursionError, TypeError):
            raise Unauthenticated("the token is refused: expected a JSON Web Token") from None

    def _key_of(self, token: str) -> tuple[Any, list[str]]:
        """The key that verifies a token, and for which algorithms. Of its header only `alg` and `kid` are looked at."""
        algorithms = list(self._options.algorithms)
        if self._keys is None:
            return self._options.key, algorithms
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm not in algorithms:
            raise jwt.InvalidAlgorithmError
        return self._keys.key_for(header.get("kid"), algorithm), [algorithm]


def _identity(claims: Mapping[str, Any], options: JwtOptions) -> Identity:
    user, roles = claims.get(options.user_claim), claims.get(options.roles_claim, [])
    if not isinstance(user, str) or not 0 < len(user) <= MAXIMUM_USER_LENGTH or not user.isprintable():
        raise Unauthenticated(
            f"the token's {options.user_claim!r}: expected 1 to {MAXIMUM_USER_LENGTH} printable characters"
        )
    roles = roles.split() if isinstance(roles, str) else roles
    if not isinstance(roles, list) or len(roles) > MAXIMUM_ROLES or not all(isinstance(role, str) for role in roles):
        raise Unauthenticated(f"the token's {options.roles_claim!r}: expected a list of at most {MAXIMUM_ROLES} names")
    expires_at = min(float(claims["exp"]) + options.leeway_seconds, LATEST)
    return Identity(user, frozenset(roles), claims, expires_at)


def _reason(error: jwt.PyJWTError) -> str:
    """Why, without anything of the token or the key."""
    match error:
        case jwt.ExpiredSignatureError():
            return "it has expired"
        case jwt.ImmatureSignatureError():
            return "it isn't valid yet"
        case jwt.InvalidAudienceError():
            return "it is for another audience"
        case jwt.InvalidIssuerError():
            return "it is of another issuer"
        case jwt.MissingRequiredClaimError():
            return f"it lacks the claim {error.claim!r}"
        case jwt.InvalidAlgorithmError():
            return "it is signed by an algorithm that isn't accepted here"
        case jwt.InvalidSignatureError():
            return "its signature is wrong"
    return "expected a JSON Web Token"
