from pathlib import Path

import pytest

from gateway.config import ConfigurationError, Settings, load_settings
from gateway.core.access import Action
from gateway.core.identity import ANONYMOUS, Identity
from tests.unit.test_jwt import KEYS

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jwt.key").write_text("s" * 32)
    Path("short.key").write_text("s" * 31)
    Path("public.pem").write_bytes(KEYS["ES256"][1])
    Path("private.pem").write_bytes(KEYS["ES256"][0])


def load(text: str) -> Settings:
    Path("config.yaml").write_text(text)
    return load_settings(Path("config.yaml"), environment={})


def problem(text: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load(text)
    return str(refused.value).removeprefix("config.yaml:")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jwt: {algorithms: [none], secret_file: jwt.key}",
         "2:21: identity.jwt.algorithms[0]: expected HS256, HS384, HS512, RS256, ES256 or EdDSA, found 'none'"),
        ("jwt: {algorithms: [HS256, RS256], secret_file: jwt.key}",
         "2:2: identity.jwt: algorithms: expected either HS… with a secret, or others with a public key, found both"),
        ("jwt: {algorithms: [HS256]}",
         "2:2: identity.jwt: expected `secret_file`, and nothing else, for HS256, found none"),
        ("jwt: {algorithms: [ES256], secret_file: jwt.key}",
         "2:2: identity.jwt: expected `public_key_file` or `jwks_url`, and nothing else, for ES256, found "
         "`secret_file`"),
        ("jwt: {algorithms: [ES256], public_key_file: public.pem, jwks_url: 'https://a'}",
         "2:2: identity.jwt: expected `public_key_file` or `jwks_url`, and nothing else, for ES256, found "
         "`public_key_file` and `jwks_url`"),
        ("jwt: {algorithms: [HS256], jwks_url: 'https://a'}",
         "2:2: identity.jwt: expected `secret_file`, and nothing else, for HS256, found `jwks_url`"),
        ("jwt: {jwks_url: 'https://a'}",
         "2:2: identity.jwt: algorithms: missing: expected such as `algorithms: [HS256]`"),
        ("jwt: {algorithms: [ES256], jwks_url: 'http://login.example/keys'}",
         "2:29: identity.jwt.jwks_url: expected https:// except on the loopback, found 'http://login.example/keys'"),
        ("jwt: {algorithms: [ES256], jwks_url: 'https://ann:hunter2@login.example'}",
         "2:29: identity.jwt.jwks_url: expected no user name or password in a URL: keys are public"),
        ("jwt: {algorithms: [ES256], jwks_url: 'http://localhost', jwks_ca_file: public.pem}",
         "2:2: identity.jwt: jwks_ca_file: expected it only with an https:// address in `jwks_url`"),
        ("jwt: {algorithms: [ES256], jwks_url: 'https://a', jwks_refresh_seconds: 1}",
         "2:2: identity.jwt: jwks_refresh_seconds: expected at least `jwks_cooldown_seconds` (10)"),
        ("jwt: {secret_file: jwt.key}",
         "2:2: identity.jwt: algorithms: missing: expected such as `algorithms: [HS256]`"),
        ("jwt: {algorithms: [HS256], secret_file: short.key}",
         "2:2: identity.jwt: secret_file: expected at least 32 bytes for HS256 (RFC 7518 §3.2)"),
        ("jwt: {algorithms: [HS256], secret_file: none.key}",
         "2:29: identity.jwt.secret_file: expected a file, found none: 'none.key'"),
        ("jwt: {algorithms: [RS256], public_key_file: public.pem}",
         "2:2: identity.jwt: public_key_file: expected a public key (PEM) for RS256"),
        ("jwt: {algorithms: [ES256], public_key_file: private.pem}",
         "2:2: identity.jwt: public_key_file: expected the public key for ES256, found the private one: keep that "
         "elsewhere"),
        ("tokens: [{name: ci, sha256: tg_secret}]",
         "2:22: identity.tokens[0].sha256: expected 64 hexadecimal digits in lower case"),
        (f"tokens: [{{name: a, sha256: {HASH}}}, {{name: b, sha256: {HASH}}}]",
         "1:1: identity: tokens: expected each `sha256` once"),
        ("anonymous: {roles: ['a b']}",
         "2:22: identity.anonymous.roles[0]: expected a role of letters, digits and `_.:@/-`, at most 64, or `*`, "
         "found 'a b'"),
    ],
)  # fmt: skip
def test_an_identity_that_can_not_be_is_refused_at_its_place(text: str, expected: str) -> None:
    assert problem(f"identity:\n {text}") == expected


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://a/keys", "keys.json", "", "https://", "https:///keys", "https://a:0", "https://a:x",
     "https://a/#x", "https://a/\\r\\nX: y", "https://a b", "https://ä.example", "https://a%0d", "//a/keys"],
)  # fmt: skip
def test_keys_come_from_a_web_address_only(url: str) -> None:
    told = problem(f'identity: {{jwt: {{algorithms: [ES256], jwks_url: "{url}"}}}}')
    assert "expected a URL such as https://login.example/.well-known/jwks.json" in told


@pytest.mark.parametrize("url", ["https://a", "https://[::1]:1/x?y=z", "http://127.0.0.1:1", "http://localhost/k"])
def test_keys_come_over_tls_or_the_loopback(url: str) -> None:
    jwt = load(f'identity: {{jwt: {{algorithms: [ES256, EdDSA], jwks_url: "{url}"}}}}').identity.jwt
    assert (jwt.jwks_url, jwt.key()) == (url, b"")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{subscribe: ['#']}", "access[0].roles: missing"),
        ("{roles: [a], subscribe: ['a/#/b']}", "access[0].subscribe[0]: 'a/#/b': # stands for all that remains"),
        ("{roles: [a], publish: ['users/{name}']}", "access[0].publish[0]: 'users/{name}': expected no braces but"),
        ("{roles: [a], publish: ['users/{claims.a.b}']}", "expected no braces but {user} and {claims.name}"),
        ("{roles: [a], write: [a]}", "access[0].write: unknown key `write`"),
    ],
)  # fmt: skip
def test_a_rule_that_can_not_be_is_refused_at_its_place(rule: str, expected: str) -> None:
    told = problem(f"access:\n - {rule}")

    assert told.startswith("2:")
    assert expected in told


def test_all_is_open_only_if_nothing_says_who_may_do_what() -> None:
    def may(text: str, namespace: str = "default") -> bool:
        return load(text).access_of(namespace).of(ANONYMOUS).allows(Action.PUBLISH, "a")

    assert may("")
    assert may("identity:\naccess: []")
    assert not may(f"identity: {{tokens: [{{name: ci, sha256: {HASH}}}]}}")
    assert not may("identity: {anonymous: {roles: [guest]}}")
    assert not may("access: [{roles: [guest], publish: ['#']}]")
    assert not may("access: [{roles: ['*'], publish: ['#']}]\nnamespaces: {b: {}}", "b")
    assert not may("namespaces: {b: {access: [{roles: ['*'], publish: ['#']}]}}")
    assert may("namespaces: {b: {access: [{roles: ['*'], publish: ['#']}]}}", "b")


def test_history_is_as_subscribe_unless_a_rule_says_otherwise() -> None:
    ann = Identity("ann")
    as_subscribe = load("access: [{roles: ['*'], subscribe: [a]}]").access_of().of(ann)
    none = load("access: [{roles: ['*'], subscribe: [a], history: []}]").access_of().of(ann)

    assert as_subscribe.allows(Action.HISTORY, "a")
    assert not none.allows(Action.HISTORY, "a")
