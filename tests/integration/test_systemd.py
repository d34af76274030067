"""The unit for systemd: systemd finds it in order, and how far it shuts the gateway in; what it says is what holds."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.config import load_settings
from tests.deployment import DOCKER
from tests.real import TIDEGATE

UNIT = Path(__file__).parents[2] / "systemd" / "tidegate.service"
PROGRAM = "/opt/tidegate/bin/tidegate"


def settings(name: str) -> list[str]:
    """What the unit gives for a name, each time."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with the program that is here."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(PROGRAM, str(TIDEGATE)))
    return path


@pytest.mark.parametrize("check", [["verify", "--man=no"], ["security", "--offline=true", "--threshold=15"]], ids=str)
def test_systemd_finds_the_unit_in_order(unit: Path, check: list[str]) -> None:
    ended = subprocess.run(["systemd-analyze", *check, unit], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 0, ended.stdout
    assert ended.stderr == ""


def test_its_command_and_credentials_are_what_the_gateway_takes(tmp_path: Path) -> None:
    (command,) = settings("ExecStart")
    assert command == f"{PROGRAM} run --config /etc/tidegate/config.yaml"
    config = yaml.safe_load((DOCKER / "gateway" / "config.yaml").read_text())
    del config["engine"]["password_file"], config["upstreams"]["main"]["password_file"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    credentials = dict(credential.split(":") for credential in settings("LoadCredential"))
    for name, source in credentials.items():
        assert source == f"/etc/tidegate/secrets/{name}"
        (tmp_path / name).write_text(f"that of {name}")
    environment = dict(each.replace("%d", str(tmp_path)).split("=") for each in settings("Environment"))
    taken = load_settings(tmp_path / "config.yaml", environment=environment)
    assert taken.engine.password_text() == "that of redis-password"
    assert taken.upstreams["main"].password_text() == "that of mqtt-password"


def test_it_leaves_the_gateway_the_time_and_the_files_that_it_needs() -> None:
    defaults = load_settings(
        DOCKER / "gateway" / "config.yaml",
        environment={"TIDEGATE_ENGINE__PASSWORD_FILE": "null", "TIDEGATE_UPSTREAMS__MAIN__PASSWORD_FILE": "null"},
    )
    (seconds,), (files,) = settings("TimeoutStopSec"), settings("LimitNOFILE")
    assert int(seconds) > defaults.drain_seconds + 10
    assert int(files) > 3 * defaults.limits.connections
