import re
from pathlib import Path

import yaml
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.authentication import hash_token

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
