"""Secrets from a file, from YAML and from the environment come out nowhere: no output, error, log or answer."""

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.faults import open_to_mosquitto
from tests.real import TIDEGATE, GatewayProcess, Mosquitto, mosquitto, wait_until

SECRET = "hunter2-hunter2"
NAME = "TIDEGATE_UPSTREAMS__PLANT__PASSWORD"
WAYS = ("file", "yaml", "environment")


def given(way: str, folder: Path, port: int) -> tuple[dict[str, Any], dict[str, str]]:
    """A configuration with a wrong password, which the broker refuses and so has the gateway talk about."""
    upstream: dict[str, Any] = {"url": f"mqtt://127.0.0.1:{port}", "username": "gateway", "reconnect_max_seconds": 0.5}
    if way == "file":
        (folder / "password").write_text(f"{SECRET}\n")
        upstream["password_file"] = str(folder / "password")
    if way == "yaml":
        upstream["password"] = SECRET
    return {"upstreams": {"plant": upstream}}, {NAME: SECRET} if way == "environment" else {}


def said(*arguments: str | Path, **environment: str) -> str:
    command = [str(part) for part in (TIDEGATE, *arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, **environment})
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("way", WAYS)
def test_no_command_tells_a_secret(way: str, tmp_path: Path) -> None:
    config, environment = given(way, tmp_path, 1)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))

    shown = said("check", path, "--show", **environment)
    upstream = yaml.safe_load(shown)["upstreams"]["plant"]
    assert upstream["username"] == "gateway"
    assert [upstream["password"], upstream["password_file"]] == (
        [None, str(tmp_path / "password")] if way == "file" else ["********", None]
    )
    path.write_text(yaml.safe_dump({**config, "limits": {"connections": SECRET[:0]}, "colour": "red"}))
    wrong = said("check", path, "--show", **environment)
    assert "colour" in wrong
    assert SECRET not in shown + wrong + said("routes", "explain", "a", "-c", path, **environment)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("style", ["console", "json"])
def test_no_log_and_no_answer_tells_a_secret(way: str, style: str, tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("")
    open_to_mosquitto(tmp_path / "passwords")
    with mosquitto(tmp_path, f"password_file {tmp_path / 'passwords'}\nallow_anonymous false") as broker:
        text = refused(broker, way, style, tmp_path)
    assert SECRET not in text
    assert "Traceback" not in text


def refused(broker: Mosquitto, way: str, style: str, folder: Path) -> str:
    """All that a gateway says which the broker refuses for its password."""
    config, environment = given(way, folder, broker.port)
    config["logging"] = {"level": "debug", "format": style}
    with GatewayProcess(folder / "gateway", config, env={**os.environ, **environment}) as gateway:

        def problem() -> Any:
            return httpx.get(f"{gateway.url}/readyz").json()["upstreams"]["plant"].get("problem")

        wait_until(problem, "the refusal is told")
        answers = [httpx.get(f"{gateway.url}/{path}").text for path in ("readyz", "healthz", "metrics", "nothing")]
        gateway.process.terminate()
        gateway.wait()
        return "\n".join([gateway.text, *answers])
