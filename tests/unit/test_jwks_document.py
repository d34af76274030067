import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms

from bridges.jwks_document import MAXIMUM_KEYS, KeySet, UnfitDocument, read_keys
from tests.provider import PRIVATE, jwk

ALGORITHMS = ("RS256", "ES256", "EdDSA")


def read(*keys: Any, algorithms: tuple[str, ...] = ALGORITHMS) -> KeySet:
    return read_keys(json.dumps({"keys": keys}).encode(), algorithms)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_of_each_algorithm_is_found_by_its_name(algorithm: str) -> None:
    found = read(*(jwk(each, each.lower()) for each in ALGORITHMS)).find(algorithm.lower(), algorithm)

    assert found == PRIVATE[algorithm].public_key()


def test_a_key_is_for_its_own_algorithm_only() -> None:
    keys = read(jwk("RS256", "a"), jwk("ES256", "b", alg="ES256"))

    assert keys.find("a", "ES256") is keys.find("b", "RS256") is keys.find("c", "RS256") is None
    assert read(jwk("RS256", "a"), algorithms=("ES256",)).left_out == ("keys[0]: expected a key for ES256",)


def test_without_a_name_the_one_key_that_fits_is_found_and_none_of_several() -> None:
    one, other = jwk("RS256", "a"), jwk("RS256", "b")

    assert read(one, jwk("ES256", "c")).find(None, "RS256") is not None
    assert read(one, other).find(None, "RS256") is None
    assert read(one, one).find("a", "RS256") is None
    assert KeySet().find(None, "RS256") is None


def secret(algorithm: str) -> dict[str, Any]:
    entry: dict[str, Any] = get_default_algorithms()[algorithm].to_jwk(PRIVATE[algorithm], as_dict=True)
    return {name: value for name, value in entry.items() if name != "key_ops"}


SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is to be refused
FIT = jwk("ES256")
LEFT_OUT: dict[str, tuple[Any, str]] = {
    "no object": ("key", "expected an object"),
    "a private RSA key": (secret("RS256"), "found a private key"),
    "a private EC key": (secret("ES256"), "found a private key"),
    "a private Ed25519 key": (secret("EdDSA"), "found a private key"),
    "a shared secret": ({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}, "expected a key for RS256"),
    "a shared secret said to be for RS256": ({"kty": "oct", "k": "c2VjcmV0", "alg": "RS256"}, "expected a key for"),
    "for encryption": ({**FIT, "use": "enc"}, "`use`: expected `sig`"),
    "use of another type": ({**FIT, "use": ["sig"]}, "`use`: expected `sig`"),
    "for other operations": ({**FIT, "key_ops": ["encrypt"]}, "`key_ops`"),
    "operations of another type": ({**FIT, "key_ops": "verify"}, "`key_ops`"),
    "for another algorithm": (jwk("RS256", alg="RS512"), "expected a key for"),
    "for an algorithm of another kind": (jwk("RS256", alg="ES256"), "expected a key for"),
    "an algorithm of another type": ({**FIT, "alg": ["ES256"]}, "expected a key for"),
    "of another curve": (
        get_default_algorithms()["ES384"].to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True),
        "expected a key for",
    ),
    "of no kind": ({"x": FIT["x"]}, "expected a key for"),
    "a point that is on no curve": ({**FIT, "y": FIT["x"]}, "expected a public key for ES256"),
    "without a coordinate": ({**FIT, "y": None}, "expected a public key for ES256"),
    "a coordinate of another type": ({**FIT, "y": 5}, "expected a public key for ES256"),
    "too short": (jwk("RS256", key=SHORT), "expected 2048 to 8192 bits, found 1024"),
    "a name of another type": ({**FIT, "kid": 5}, "`kid`: expected 1 to 256 characters"),
    "a long name": ({**FIT, "kid": "k" * 257}, "`kid`: expected 1 to 256 characters"),
    "no name": ({**FIT, "kid": ""}, "`kid`: expected 1 to 256 characters"),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_a_key_that_does_not_fit_is_left_out_with_the_reason_and_no_other_one_is(what: str) -> None:
    entry, reason = LEFT_OUT[what]
    keys = read(entry, jwk("EdDSA", "fit"))

    assert [key.kid for key in keys.keys] == ["fit"]
    (told,) = keys.left_out
    assert told.startswith(f"keys[0]: {reason}")
    assert "c2VjcmV0" not in told


def test_a_key_that_is_too_long_to_verify_with_is_left_out() -> None:
    numbers = base64.urlsafe_b64encode(b"\xff" * 1100).rstrip(b"=").decode()
    assert "found 8800" in read({"kty": "RSA", "n": numbers, "e": "AQAB"}).left_out[0]


def test_ed448_is_eddsa_too() -> None:
    key = ed448.Ed448PrivateKey.generate()
    assert read(jwk("EdDSA", "a", key)).find("a", "EdDSA") == key.public_key()


@pytest.mark.parametrize(
    "document", [b"", b"null", b"[]", b"{}", b'{"keys": {}}', b"<html>", b"\xff", b'{"keys": [', b"[" * 100_000]
)
def test_what_is_no_key_set_is_refused(document: bytes) -> None:
    with pytest.raises(UnfitDocument, match="expected a JSON Web Key Set"):
        read_keys(document, ALGORITHMS)


def test_too_many_keys_are_refused() -> None:
    with pytest.raises(UnfitDocument, match="expected at most 100 keys, found 101"):
        read(*[FIT] * (MAXIMUM_KEYS + 1))


@given(
    st.dictionaries(
        st.sampled_from(["kty", "alg", "crv", "kid", "use", "key_ops", "n", "e", "x", "y", "d"]),
        st.sampled_from(["RSA", "EC", "OKP", "oct", *ALGORITHMS, "P-256", "Ed25519", "AQAB", FIT["x"], FIT["y"], "é"])
        | st.integers()
        | st.lists(st.text(max_size=3), max_size=2)
        | st.none(),
    )
)
def test_no_key_makes_reading_fail_and_none_with_a_private_part_is_taken(entry: dict[str, Any]) -> None:
    keys = read(entry)

    assert len(keys) + len(keys.left_out) == 1
    assert len(keys) == 0 or "d" not in entry
