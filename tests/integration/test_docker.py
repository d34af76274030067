"""What can be said of docker/ without docker: its commands run, its configurations load, its files fit together."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

from gateway.config import load_settings
from tests.real import TIDEGATE, GatewayProcess, Mosquitto

DOCKER = Path(__file__).parents[2] / "docker"


def instruction(name: str) -> list[str]:
    found = re.findall(rf"^{name} .*?(\[.*\])$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    arguments: list[str] = json.loads(found[-1])
    return arguments


def test_the_images_command_and_health_check_work(tmp_path: Path, broker: Mosquitto) -> None:
    settings = load_settings(DOCKER / "config.yaml", environment={})
    assert list(settings.upstreams) == ["main"]
    program, *arguments = instruction("CMD")
    assert (program, arguments[:2]) == ("tidegate", ["run", "--config"])
    config = yaml.safe_load((DOCKER / "config.yaml").read_text())
    config["upstreams"]["main"]["url"] = f"mqtt://127.0.0.1:{broker.port}"
    options = ["127.0.0.1" if argument == "0.0.0.0" else argument for argument in arguments[3:]]
    with GatewayProcess(tmp_path / "gateway", config, *options) as gateway:
        gateway.wait_until_ready()
        _, *check = [part.replace("8080", str(gateway.port)) for part in instruction("HEALTHCHECK")[0:]]
        assert subprocess.run([sys.executable, *check], timeout=10).returncode == 0


def test_the_compose_file_names_what_there_is() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert set(services) == {"mosquitto", "gateway", "devices"}
    for service in services.values():
        for volume in service.get("volumes", []):
            assert (DOCKER / volume.split(":")[0]).is_file()
        if "build" in service:
            assert (DOCKER.parent / service["build"]["dockerfile"]).is_file()
    command = services["devices"]["command"]
    ended = subprocess.run([TIDEGATE, *command[1:2], "--help"], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 0
    assert all(option in ended.stdout for option in command if option.startswith("--"))


def test_mosquitto_takes_its_configuration(tmp_path: Path, broker: Mosquitto) -> None:
    lines = (DOCKER / "mosquitto.conf").read_text().replace("listener 1883", f"listener {broker.port}")
    (tmp_path / "mosquitto.conf").write_text(lines)
    command: list[str | Path] = ["/usr/sbin/mosquitto", "-c", tmp_path / "mosquitto.conf"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=10)  # the port is taken, so it ends
    assert "Address already in use" in ended.stderr
    assert "Unknown" not in ended.stderr
