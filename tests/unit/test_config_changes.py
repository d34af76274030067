"""What differs between two configurations, what of it takes effect, and what must not by itself."""

from pathlib import Path

import pytest

from gateway.config import Settings, load_settings
from gateway.config.changes import changed_keys, opens, takes_effect, with_rules_of
from gateway.config.problems import dotted

TOKENS = "tokens: [{name: a, sha256: " + "a" * 64 + "}]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jwt.key").write_text("s" * 64)
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    return tmp_path


def load(folder: Path, text: str) -> Settings:
    (folder / "config.yaml").write_text(text)
    return load_settings(folder / "config.yaml", environment={})


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ("", "", []),
        ("", "listen: {port: 8080}", []),
        ("", "origins: [https://a.example]", ["origins"]),
        ("limits: {connections: 1}", "limits: {connections: 2, connections_per_address: 1}",
         ["limits.connections", "limits.connections_per_address"]),
        ("access: [{roles: [a], subscribe: [x]}]", "access: [{roles: [a, b], subscribe: [x]}]", ["access[0].roles"]),
        ("access: [{roles: [a]}]", "access: [{roles: [a]}, {roles: [b]}]", ["access"]),
        ("namespaces: {a: {}, b: {}}", "namespaces: {a: {access: [{roles: [x]}]}, c: {}}",
         ["namespaces.a.access", "namespaces.b", "namespaces.c"]),
        ("routes: [{topic: a, room: a, direction: both, schema: schema.json}]",
         "routes: [{topic: a, room: a, direction: both, schema: schema.json}]", []),
        ("upstreams: {a: {url: mqtt://a}}", "upstreams: {a: {url: mqtt://b}}", ["upstreams.a.url"]),
        ("webhooks: {a: {url: 'https://a', events: [connect]}}",
         "webhooks: {a: {url: 'https://b', events: [connect]}, c: {url: 'https://c', events: [connect]}}",
         ["webhooks.a.url", "webhooks.c"]),
    ],
)  # fmt: skip
def test_the_keys_that_differ_are_named(folder: Path, before: str, after: str, keys: list[str]) -> None:
    found = changed_keys(load(folder, before), load(folder, after))
    assert [dotted(each) for each in found] == keys


def test_another_content_of_a_file_is_a_change(folder: Path) -> None:
    text = "identity: {jwt: {algorithms: [HS256], secret_file: jwt.key}}\n"
    text += "routes: [{topic: a, room: a, direction: both, schema: schema.json}]"
    before = load(folder, text)
    assert before.identity.files == (folder / "jwt.key",)
    (folder / "jwt.key").write_text("t" * 64)
    (folder / "schema.json").write_text('{"type": "array"}')
    found = changed_keys(before, load(folder, text))
    assert [dotted(each) for each in found] == ["identity.jwt.secret_file", "routes[0].schema"]


def test_rules_are_taken_from_the_newer_one_and_all_else_from_what_runs(folder: Path) -> None:
    running = load(folder, "namespaces: {a: {access: [{roles: [x]}]}, gone: {access: [{roles: [y]}]}}")
    newer = load(
        folder,
        f"identity: {{{TOKENS}}}\naccess: [{{roles: [z]}}]\nhosts: [a.example]\norigins: [https://a.example]\n"
        "limits: {connections: 1}\nroutes: [{topic: a, room: a}]\n"
        "namespaces: {a: {access: [{roles: [w]}], limits: {connections: 2}}, new: {access: [{roles: [v]}]}}",
    )
    both = with_rules_of(running, newer)
    now, later = changed_keys(running, both), changed_keys(both, newer)
    assert [dotted(each) for each in now] == [
        "origins", "hosts", "identity.tokens", "access", "namespaces.a.access[0].roles",
    ]  # fmt: skip
    assert all(takes_effect(each) for each in now)
    assert [dotted(each) for each in later] == [
        "limits.connections", "routes", "namespaces.a.limits.connections", "namespaces.gone", "namespaces.new",
    ]  # fmt: skip
    assert not any(takes_effect(each) for each in later)
    assert both.namespaces["gone"].access[0].roles == ("y",)


def test_webhooks_take_a_restart(folder: Path) -> None:
    text = "webhooks: {a: {url: 'https://a', events: [connect], secret_file: jwt.key}}"
    running = load(folder, text)
    (folder / "jwt.key").write_text("t" * 64)
    newer = load(folder, text)
    both = with_rules_of(running, newer)
    assert both == running
    assert [dotted(each) for each in changed_keys(both, newer)] == ["webhooks.a.secret_file"]


JWKS = "algorithms: [ES256], jwks_url: 'https://a.example/keys'"


@pytest.mark.parametrize(
    ("before", "after", "later"),
    [
        (JWKS, f"{JWKS}, audience: x", []),
        (JWKS, f"{JWKS}, jwks_refresh_seconds: 60", ["identity.jwt.jwks_refresh_seconds"]),
        (JWKS, JWKS.replace("//a.", "//b."), ["identity.jwt.jwks_url"]),
        (JWKS, JWKS.replace("ES256", "RS256"), ["identity.jwt.algorithms"]),
        (JWKS, "algorithms: [HS256], secret_file: jwt.key",
         ["identity.jwt.algorithms", "identity.jwt.secret_file", "identity.jwt.jwks_url"]),
        ("algorithms: [HS256], secret_file: jwt.key", JWKS,
         ["identity.jwt.algorithms", "identity.jwt.secret_file", "identity.jwt.jwks_url"]),
    ],
)  # fmt: skip
def test_another_way_to_fetch_keys_takes_a_restart(folder: Path, before: str, after: str, later: list[str]) -> None:
    running = load(folder, f"identity: {{jwt: {{{before}}}}}")
    newer = load(folder, f"identity: {{jwt: {{{after}}}, {TOKENS}}}")
    both = with_rules_of(running, newer)

    assert both.identity.tokens == newer.identity.tokens
    assert both.identity.jwt == (running if later else newer).identity.jwt
    assert [dotted(each) for each in changed_keys(both, newer)] == later


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ("", "", False),
        ("", "access: [{roles: [a]}]", False),
        ("access: [{roles: [a]}]", "", True),
        ("access: [{roles: [a]}]", "namespaces: {a: {access: [{roles: [a]}]}}", False),
        ("identity: {anonymous: {roles: [a]}}", "", True),
        (f"identity: {{{TOKENS}}}", "access: [{roles: ['*'], subscribe: ['#']}]", True),
        (f"identity: {{{TOKENS}}}", "identity: {jwt: {algorithms: [HS256], secret_file: jwt.key}}", False),
        (f"identity: {{{TOKENS}}}\naccess: [{{roles: [a]}}]", f"identity: {{{TOKENS}}}", False),
    ],
)
def test_what_lets_in_everybody_is_no_change_that_takes_effect_by_itself(
    folder: Path, before: str, after: str, refused: bool
) -> None:
    assert (opens(load(folder, before), load(folder, after)) is not None) == refused
