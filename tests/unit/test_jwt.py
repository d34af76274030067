import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bridges.jwt import JwtOptions, JwtVerifier, UnfitKey, check_public_key
from gateway.core.errors import Unauthenticated

SECRET = b"s" * 64
NOW = int(time.time())


def claims(**changes: Any) -> dict[str, Any]:
    given = {"sub": "ann", "exp": NOW + 3600, "roles": ["operator"], **changes}
    return {name: value for name, value in given.items() if value is not None}


def verifier(*algorithms: str, key: bytes = SECRET, **options: Any) -> JwtVerifier:
    return JwtVerifier(JwtOptions(algorithms or ("HS256",), key, **options))


def pem(key: Any) -> tuple[bytes, bytes]:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


KEYS = {
    "RS256": pem(rsa.generate_private_key(65537, 2048)),
    "ES256": pem(ec.generate_private_key(ec.SECP256R1())),
    "EdDSA": pem(ed25519.Ed25519PrivateKey.generate()),
}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", *KEYS])
def test_each_algorithm_proves_user_roles_claims_and_expiry(algorithm: str) -> None:
    private, public = KEYS.get(algorithm, (SECRET, SECRET))

    identity = verifier(algorithm, key=public).identify(jwt.encode(claims(site="oslo"), private, algorithm))

    assert (identity.user, identity.roles) == ("ann", frozenset(["operator"]))
    assert (identity.claims["site"], identity.expires_at) == ("oslo", NOW + 3600)


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"exp": NOW - 1}, {}, "expired"),
        ({"exp": None}, {}, "lacks the claim 'exp'"),
        ({"exp": "soon"}, {}, "expected a JSON Web Token"),
        ({"nbf": NOW + 3600}, {}, "isn't valid yet"),
        ({"aud": "other"}, {"audience": "tidegate"}, "another audience"),
        ({}, {"audience": "tidegate"}, "lacks the claim 'aud'"),
        ({"aud": "other"}, {}, "another audience"),
        ({"iss": "other"}, {"issuer": "https://login"}, "another issuer"),
        ({}, {"issuer": "https://login"}, "lacks the claim 'iss'"),
        ({"sub": None}, {}, "lacks the claim 'sub'"),
        ({"sub": ""}, {}, "'sub': expected 1 to 256"),
        ({"sub": "a\nb"}, {}, "'sub': expected 1 to 256"),
        ({"roles": {"a": 1}}, {}, "'roles': expected a list"),
        ({"roles": ["r"] * 101}, {}, "'roles': expected a list"),
    ],
)
def test_a_token_is_refused_with_the_reason(changes: dict[str, Any], options: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        verifier(**options).identify(jwt.encode(claims(**changes), SECRET, "HS256"))
    assert reason in refused.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "tidegate"},
        {"aud": ["other", "tidegate"]},
        {"aud": "tidegate", "iss": "https://login"},
        {"aud": "tidegate", "nbf": NOW - 1, "iat": NOW},
    ],
)
def test_a_token_for_this_audience_is_taken(changes: dict[str, Any]) -> None:
    token = jwt.encode(claims(**changes), SECRET, "HS256")
    assert verifier(audience="tidegate").identify(token).user == "ann"


def test_a_token_of_the_issuer_is_taken() -> None:
    token = jwt.encode(claims(iss="https://login"), SECRET, "HS256")
    assert verifier(issuer="https://login").identify(token).user == "ann"


@pytest.mark.parametrize("changes", [{"exp": NOW - 301}, {"nbf": int(time.time()) + 400}])
def test_clocks_may_differ_by_no_more_than_the_leeway(changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        verifier(leeway_seconds=300).identify(jwt.encode(claims(**changes), SECRET, "HS256"))


def test_user_and_roles_may_be_other_claims() -> None:
    token = jwt.encode(claims(sub=None, name="bob", scope="a b"), SECRET, "HS256")
    identity = verifier(user_claim="name", roles_claim="scope").identify(token)
    assert (identity.user, identity.roles) == ("bob", frozenset(["a", "b"]))


@pytest.mark.parametrize("accepted", KEYS)
@pytest.mark.parametrize("used", ["HS256", *KEYS])
def test_an_algorithm_is_accepted_only_if_it_is_configured(accepted: str, used: str) -> None:
    private, _ = KEYS.get(used, (SECRET, SECRET))
    token = jwt.encode(claims(), private, used)
    if used == accepted:
        assert verifier(accepted, key=KEYS[accepted][1]).identify(token).user == "ann"
    else:
        with pytest.raises(Unauthenticated, match="algorithm that isn't accepted"):
            verifier(accepted, key=KEYS[accepted][1]).identify(token)


def test_clocks_may_differ_by_the_leeway() -> None:
    now = int(time.time())
    late = jwt.encode(claims(exp=now - 100, nbf=now + 100), SECRET, "HS256")

    assert verifier(leeway_seconds=300).identify(late).expires_at == now + 200


def unsigned(header: dict[str, Any], **changes: Any) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims(**changes)))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


FORGED = {
    "no algorithm": unsigned({"alg": "none"}),
    "no algorithm in capitals": unsigned({"alg": "NONE"}),
    "no header": unsigned({}),
    "an empty signature": unsigned({"alg": "HS256"}),
    "another secret": jwt.encode(claims(), b"x" * 64, "HS256"),
    "another algorithm with the right secret": jwt.encode(claims(), SECRET, "HS512"),
    "no token": "abc",
    "dots": "..",
    "nothing": "",
    "not ASCII": "é.é.é",
    "deep": unsigned({"alg": "HS256"}, x=json.loads("[" * 900 + "]" * 900)),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_token_is_refused(what: str) -> None:
    with pytest.raises(Unauthenticated):
        verifier().identify(FORGED[what])


def test_a_public_key_is_never_taken_for_a_secret() -> None:
    _, public = KEYS["RS256"]
    header = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
    import hashlib
    import hmac

    signature = base64.urlsafe_b64encode(hmac.new(public, header + b"." + body, hashlib.sha256).digest()).rstrip(b"=")
    with pytest.raises(Unauthenticated):
        verifier("RS256", key=public).identify(b".".join((header, body, signature)).decode())


def test_a_key_that_does_not_fit_is_refused() -> None:
    for algorithm, (private, public) in KEYS.items():
        check_public_key(public, [algorithm])
        with pytest.raises(UnfitKey, match="found the private one"):
            check_public_key(private, [algorithm])
    for key in (b"", b"nonsense", KEYS["ES256"][1]):
        with pytest.raises(UnfitKey, match="expected a public key"):
            check_public_key(key, ["RS256"])
