"""The users file as part of the configuration: read with it, checked with it, and never shown."""

from pathlib import Path

import pytest

from gateway.config import ConfigurationError, Settings, load_settings
from gateway.config.show import show
from gateway.core.access import Action
from gateway.core.identity import ANONYMOUS

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$c29tZWhhc2hzb21laGFzaA"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("users.yaml").write_text(
        f"ann:\n  password_hash: {HASH}\n  roles: [operator]\n  claims: {{level: 3, sites: [a, b]}}\n"
    )


def load(text: str) -> Settings:
    Path("config.yaml").write_text(text)
    return load_settings(Path("config.yaml"), environment={})


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load(text)
    return [str(problem) for problem in refused.value.problems]


def test_users_are_read_from_a_file_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    load("identity: {users_file: users.yaml}")
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = load_settings(tmp_path / "config.yaml", environment={}).identity.users_file

    assert found is not None
    ann = found.users["ann"]
    assert (ann.password_hash, sorted(ann.roles)) == (HASH, ["operator"])
    assert dict(ann.claims) == {"level": "3", "sites": ("a", "b")}


def test_users_make_the_gateway_ask_who_one_is() -> None:
    settings = load("identity: {users_file: users.yaml}")

    assert settings.identity.asks
    assert not settings.access_of().of(ANONYMOUS).allows(Action.SUBSCRIBE, "a")


def test_an_empty_users_file_has_nobody_in_it() -> None:
    Path("users.yaml").write_text("# nobody yet\n")
    settings = load("identity: {users_file: users.yaml}")

    assert settings.identity.users_file is not None
    assert settings.identity.users_file.users == {}
    assert settings.identity.asks


def test_all_that_is_wrong_in_a_users_file_is_told_at_its_place_there() -> None:
    Path("users.yaml").write_text(
        f"ann:\n  password_hash: secret\nbob:\n  rols: [a]\n  password_hash: {HASH}\nann: {{password_hash: '{HASH}'}}\n"
        "' x': {}\neve: hunter2\n"
    )
    assert problems("identity: {users_file: users.yaml}\nlisten: {port: x}") == [
        "config.yaml:2:10: listen.port: expected a whole number from 0 to 65535, found 'x'",
        "users.yaml:4:3: bob.rols: unknown key `rols`: did you mean `roles`?",
        "users.yaml:6:1: ann: expected each key once, found it in line 1 too",
        "users.yaml:7:1: ' x': expected a name of 1 to 256 printable characters, no space around it",
        "users.yaml:7:1: ' x'.password_hash: missing: expected such as `password_hash: $argon2id$v=19$…`",
        "users.yaml:8:1: eve: expected a mapping (`key: value`), found text",
    ]
    Path("users.yaml").write_text("ann:\n  password_hash: hunter2\n")
    assert problems("identity: {users_file: users.yaml}") == [
        "users.yaml:2:3: ann.password_hash: expected an argon2 hash, as `tidegate user add` makes them; "
        "in quotes, if it stands between braces"
    ]
    Path("users.yaml").write_text(f"ann: {{password_hash: {HASH}}}\n")
    (torn,) = problems("identity: {users_file: users.yaml}")
    assert "in quotes" in torn
    assert HASH[-8:] not in torn
    Path("users.yaml").write_text("ann: [\n")
    assert problems("identity: {users_file: users.yaml}")[0].startswith("users.yaml:2:1: expected")


def test_gateways_that_share_a_redis_have_to_read_each_others_cookies() -> None:
    Path("users.yaml").write_text("")
    cluster = "engine: {url: 'redis://localhost'}\nupstreams: {plant: {url: 'mqtt://localhost'}}\n"
    text = cluster + "identity: {users_file: users.yaml}\n"
    assert problems(text) == [
        "config.yaml:3:1: identity.session_secret_file: missing: expected the same file at all gateways that have this "
        "Redis, so that a login is one at each"
    ]
    Path("session.key").write_text("k" * 32)
    load(text.replace("users.yaml}", "users.yaml, session_secret_file: session.key}"))
    load(cluster)


def test_a_users_file_that_is_not_there_is_told_with_how_to_make_one() -> None:
    assert problems("identity: {users_file: none.yaml}") == [
        "config.yaml:1:12: identity.users_file: expected a file, found none: 'none.yaml': make one with "
        "`tidegate user add`"
    ]


@pytest.mark.parametrize("secret", ["", "\n\n", "s" * 31, "s" * 32 + "\nshort\n"])
def test_a_session_secret_that_can_be_guessed_is_refused(secret: str) -> None:
    Path("session.key").write_text(secret)
    assert problems("identity: {session_secret_file: session.key}") == [
        "config.yaml:1:1: identity: session_secret_file: expected at least 32 characters on each line"
    ]


def test_each_line_of_the_session_secret_is_a_key() -> None:
    Path("session.key").write_text("a" * 32 + "\n" + "b" * 40 + "\r\n\n")
    assert load("identity: {session_secret_file: session.key}").identity.session_keys() == ("a" * 32, "b" * 40)


def test_a_login_lasts_at_least_as_long_altogether_as_unused() -> None:
    assert problems("identity: {session_seconds: 100, session_max_seconds: 99}") == [
        "config.yaml:1:1: identity: session_max_seconds: expected at least as many as `session_seconds`"
    ]


def test_files_of_users_and_secrets_are_named_and_what_is_in_them_is_not() -> None:
    Path("session.key").write_text("a" * 32)
    settings = load("identity: {users_file: users.yaml, session_secret_file: session.key}")
    shown = show(settings)

    assert "users_file: users.yaml" in shown
    assert "session_secret_file: session.key" in shown
    assert settings.identity.files == (Path("users.yaml"), Path("session.key"))
    for secret in ("argon2", "a" * 32, "operator"):
        assert secret not in shown
    assert "argon2" not in repr(load("identity: {users_file: users.yaml}"))
