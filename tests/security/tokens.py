"""Tokens, good and bad, by the names that cases give them. Each is made when it is shown."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any, Final

import jwt

from gateway.core.authentication import hash_token

SECRET: Final = "s" * 64
API_TOKEN: Final = "tg_" + "a" * 64


def token(user: Any, role: Any, seconds: float = 3600, *, secret: str = SECRET, **claims: Any) -> str:
    """A token as an application would make it."""
    payload = {"sub": user, "roles": [role], "exp": time.time() + seconds, **claims}
    return by_hand({"alg": "HS256", "typ": "JWT"}, payload, secret)


def by_hand(header: dict[str, Any], payload: Any, secret: str = SECRET, algorithm: str = "HS256") -> str:
    """A token with whatever header, signed by whatever algorithm."""
    signed = (
        f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(payload).replace('Infinity', '1e400').encode())}"
    )
    if algorithm == "none":
        return f"{signed}."
    signature = jwt.get_algorithm_by_name(algorithm)
    return f"{signed}.{_encoded(signature.sign(signed.encode(), signature.prepare_key(secret)))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _tampered() -> str:
    header, _, signature = token("ann", "guest").split(".")
    return f"{header}.{token('ann', 'all').split('.')[1]}.{signature}"


def _claims(**changes: Any) -> dict[str, Any]:
    return {"sub": "ann", "roles": ["all"], "exp": time.time() + 3600, **changes}


TOKENS: Final[dict[str, Callable[[], str]]] = {
    "all": lambda: token("boss", "all"),
    "of an operator": lambda: token("ann", "operator"),
    "of a listener": lambda: token("ann", "witness"),
    "of a guest": lambda: token("ann", "guest"),
    "of a guest `+`": lambda: token("+", "guest"),
    "of a guest `#`": lambda: token("#", "guest"),
    "of a guest `a/b`": lambda: token("a/b", "guest"),
    "of a guest `$SYS`": lambda: token("$SYS", "guest"),
    "of a guest `..`": lambda: token("..", "guest"),
    'of a guest with `team: "+"`': lambda: token("ann", "guest", team="+"),
    'of a guest with `team: ["red", "#"]`': lambda: token("ann", "guest", team=["red", "#"]),
    'of a guest with `team: {"red": 1}`': lambda: token("ann", "guest", team={"red": 1}),
    "of a guest with `team: true`": lambda: token("ann", "guest", team=True),
    "API token": lambda: API_TOKEN,
    "nonsense": lambda: "nonsense",
    "an unknown API token": lambda: "tg_" + "b" * 64,
    "the hash of an API token": lambda: hash_token(API_TOKEN),
    "expired": lambda: token("ann", "all", -1),
    "not valid yet": lambda: token("ann", "all", nbf=time.time() + 60),
    "issued for another audience": lambda: token("ann", "all", aud="other"),
    "without `exp`": lambda: jwt.encode({"sub": "ann", "roles": ["all"]}, SECRET, "HS256"),
    "with `exp` as a list": lambda: token("ann", "all", exp=[2**40]),
    "with `exp: 1e400`": lambda: by_hand({"alg": "HS256"}, _claims(exp=float("inf"))),
    "by another secret": lambda: token("ann", "all", secret="x" * 64),
    "by an empty secret": lambda: token("ann", "all", secret="\0"),
    "with `alg: none`": lambda: by_hand({"alg": "none"}, _claims(), algorithm="none"),
    "with `alg: NoNe`": lambda: by_hand({"alg": "NoNe"}, _claims(), algorithm="none"),
    "with `alg: none` and a good signature": lambda: by_hand({"alg": "none"}, _claims()),
    "by an algorithm that isn't configured": lambda: by_hand({"alg": "HS512"}, _claims(), algorithm="HS512"),
    "with `alg: RS256` over the secret": lambda: by_hand({"alg": "RS256"}, _claims()),
    "with `kid: ../../dev/null`": lambda: by_hand({"alg": "HS256", "kid": "../../dev/null"}, _claims(), "\0"),
    "with a `kid` of SQL": lambda: by_hand({"alg": "HS256", "kid": "x' UNION SELECT 'key"}, _claims(), "key"),
    "with a `jwk` of its own": lambda: by_hand(
        {"alg": "HS256", "jwk": {"kty": "oct", "k": _encoded(b"x" * 64)}}, _claims(), "x" * 64
    ),
    "with `crit`": lambda: by_hand({"alg": "HS256", "crit": ["b64"], "b64": False}, _claims()),
    "with another's claims": _tampered,
    "with its signature cut off": lambda: token("ann", "all").rpartition(".")[0] + ".",
    "with four parts": lambda: token("ann", "all") + ".x",
    "of a list instead of claims": lambda: by_hand({"alg": "HS256"}, ["all"]),
    "with a role that is an object": lambda: token("ann", {"name": "all"}),
    "with roles that are an object": lambda: token("ann", "x", roles={"all": True}),
    "with 1,000 roles": lambda: token("ann", "x", roles=["all"] * 1000),
    "with a user that is a number": lambda: token(1, "all"),
    "with a user of two lines": lambda: token("ann\nFORGED", "all"),
    "with an empty user": lambda: token("", "all"),
    "empty": lambda: "",
    "of 20 KB": lambda: "x" * 20_000,
    "of 20 KB in three parts": lambda: f"{'x' * 20_000}.{'y' * 100}.z",
    "of 10,000 dots": lambda: "." * 10_000,
    "with a space in it": lambda: token("ann", "all").replace(".", ". "),
}
