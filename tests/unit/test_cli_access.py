import re
from pathlib import Path

import yaml
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.authentication import hash_token
from tests.unit.test_config_users import HASH

CONFIG = """
access:
  - {roles: [operator], subscribe: ["sites/#"]}
  - {roles: ["*"], publish: ["users/{user}/#", "teams/{claims.team}"]}
namespaces:
  b: {access: [{roles: ["*"], presence: ["#"]}]}
"""


def ask(tmp_path: Path, *arguments: str, config: str = CONFIG) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(config)
    return CliRunner().invoke(app, ["access", "explain", "--config", str(path), *arguments]).output


def test_explain_says_which_rule_decided(tmp_path: Path) -> None:
    assert ask(tmp_path, "--user", "ann", "--role", "operator", "sites/oslo").splitlines() == [
        "subscribe  yes  access[0]: sites/#",
        "publish    no   no rule covers all of it",
        "request    no   no rule covers all of it",
        "presence   no   no rule covers all of it",
        "history    yes  access[0]: sites/#",
    ]
    assert "publish    yes  access[1]: users/{user}/#" in ask(tmp_path, "--user", "ann", "users/ann/inbox")
    assert "publish    yes  access[1]: teams/{claims.team}" in ask(tmp_path, "--claim", "team=red", "teams/red")
    assert "publish    no " in ask(tmp_path, "--user", "bob", "users/ann/inbox")
    assert "presence   yes  namespaces.b.access[0]: #" in ask(tmp_path, "--namespace", "b", "x")
    assert "subscribe  yes  all is open" in ask(tmp_path, "x", config="")


def test_explain_knows_the_users_of_the_users_file(tmp_path: Path) -> None:
    users = {"ann": {"password_hash": HASH, "roles": ["operator"], "claims": {"team": "red"}}}
    (tmp_path / "users.yaml").write_text(yaml.safe_dump(users))
    config = CONFIG + "identity: {users_file: users.yaml}\n"
    assert "subscribe  yes  access[0]: sites/#" in ask(tmp_path, "--user", "ann", "sites/oslo", config=config)
    assert "publish    yes  access[1]: teams/{claims.team}" in ask(
        tmp_path, "--user", "ann", "teams/red", config=config
    )
    assert "subscribe  no " in ask(tmp_path, "--user", "ann", "--role", "guest", "sites/oslo", config=config)
    assert "subscribe  no " in ask(tmp_path, "--user", "bob", "sites/oslo", config=config)


def test_explain_refuses_what_is_no_room(tmp_path: Path) -> None:
    assert "is a whole level" in ask(tmp_path, "a+")
    assert "no namespace is called 'c'" in ask(tmp_path, "--namespace", "c", "a")


def test_token_makes_another_one_each_time_with_its_hash_in_yaml() -> None:
    said = [CliRunner().invoke(app, ["token", "make", "ci", "--role", "publisher"]).output for _ in range(2)]
    tokens = [text.splitlines()[0] for text in said]

    assert all(re.fullmatch(r"tg_[0-9a-f]{64}", token) for token in tokens)
    assert tokens[0] != tokens[1]
    (entry,) = yaml.safe_load(said[0].splitlines()[-1])
    assert entry == {"name": "ci", "sha256": hash_token(tokens[0]), "roles": ["publisher"]}
