import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.core.authentication import hash_token
from tests.provider import jwk, provider, sign

SECRET = "s" * 32
API_TOKEN = "tg_" + "a" * 64
CONFIG = f"""
identity:
  jwt: {{algorithms: [HS256], secret_file: jwt.key, audience: tidegate}}
  tokens: [{{name: ci, sha256: {hash_token(API_TOKEN)}, roles: [publisher]}}]
"""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEGATE_TOKEN", raising=False)
    Path("jwt.key").write_text(SECRET)
    Path("config.yaml").write_text(CONFIG)


def check(given: str | None = None, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["token", "check", *arguments], input=given)


def token(**changes: Any) -> str:
    return sign("HS256", key=SECRET, aud="tidegate", **changes)


def test_an_api_token_is_told_whose_it_is() -> None:
    told = check(f"{API_TOKEN}\n")

    assert told.exit_code == 0
    assert json.loads(told.stdout) == {"user": "ci", "roles": ["publisher"], "expires": None, "claims": {}}


def test_a_json_web_token_is_told_with_its_claims_and_expiry() -> None:
    said = json.loads(check(token(exp=4102444800, team="red\x1b[2J\u202e")).stdout)

    assert (said["user"], said["roles"], said["expires"]) == ("ann", ["operator"], "2100-01-01T00:00:00+00:00")
    assert said["claims"]["team"] == "red\x1b[2J\u202e"


def test_no_claim_steers_a_terminal() -> None:
    assert check(token(team="\x1b[2J\u202e\x9b", sub="ann")).stdout.isascii()
    assert "\x1b" not in check(token(team="\x1b[2J")).stdout


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lambda: token(exp=time.time() - 1), "it has expired"),
        (lambda: token(nbf=time.time() + 60), "it isn't valid yet"),
        (lambda: sign("HS256", key=SECRET, aud="other"), "it is for another audience"),
        (lambda: sign("HS256", key="x" * 32, aud="tidegate"), "its signature is wrong"),
        (lambda: sign("ES256", aud="tidegate"), "algorithm that isn't accepted"),
        (lambda: "tg_" + "b" * 64, "expected one that this gateway knows"),
        (lambda: "nonsense", "expected a JSON Web Token"),
        (lambda: "", "standard input: expected a token and nothing else"),
        (lambda: "two tokens", "standard input: expected a token and nothing else"),
        (lambda: "tökén", "standard input: expected a token and nothing else"),
    ],
)
def test_a_token_is_refused_with_the_reason_and_exit_code_1(given: Any, reason: str) -> None:
    told = check(given())

    assert (told.exit_code, told.stdout) == (1, "")
    assert reason in told.stderr
    assert "Traceback" not in told.stderr


def test_an_expiry_after_the_end_of_the_calendar_is_never() -> None:
    assert json.loads(check(token(exp=10**15)).stdout)["expires"] == "never"


def test_a_token_comes_from_a_file_or_else_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("token").write_text(f"{API_TOKEN}\n")
    monkeypatch.setenv("TIDEGATE_TOKEN", token())

    assert json.loads(check().stdout)["user"] == "ann"
    assert json.loads(check(None, "--token-file", "token").stdout)["user"] == "ci"
    assert "No such file" in check(None, "--token-file", "none").stderr


def test_a_token_is_no_argument() -> None:
    told = check(None, API_TOKEN)

    assert told.exit_code == 2
    assert "unexpected extra argument" in told.stderr.lower()


def test_a_configuration_without_tokens_can_check_none() -> None:
    Path("config.yaml").write_text("")
    assert "knows no tokens" in check(API_TOKEN).stderr


def test_keys_of_an_identity_provider_are_fetched_to_check_with() -> None:
    with provider() as idp:
        Path("config.yaml").write_text(f'identity: {{jwt: {{algorithms: [ES256], jwks_url: "{idp.url}"}}}}')
        idp.publish(jwk("ES256", "a"))
        assert json.loads(check(sign(kid="a")).stdout)["user"] == "ann"
        assert "a key that isn't known here" in check(sign(kid="b")).stderr
    assert check(sign(kid="a")).exit_code == 1
