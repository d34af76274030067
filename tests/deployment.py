"""docker/compose.yaml without docker: the commands that it gives, with the files that it mounts, on this machine.

What is started is a copy of docker/, in which only what containers give is replaced: folders, and the addresses and
ports at which services find each other.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import yaml

from tests.real import TIDEGATE, GatewayProcess, Running, free_port, listens, wait_until

__all__ = ["DOCKER", "GATEWAYS", "Deployment", "deployment", "instruction"]

DOCKER = Path(__file__).parents[1] / "docker"
GATEWAYS = {"gateway-1": "172.28.5.11:8080", "gateway-2": "172.28.5.12:8080"}
NGINX = "172.28.5.10"


def instruction(name: str) -> list[str]:
    """The arguments of the last instruction of that name in the Dockerfile."""
    found = re.findall(rf"^{name} .*?(\[.*\])$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    arguments: list[str] = json.loads(found[-1])
    return arguments


class Deployment:
    """A copy of docker/ with secrets of its own, and those of its services that were started.

    Args:
        changes: Keys of the gateways' configuration to replace.
    """

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.folder = directory / "docker"
        shutil.copytree(DOCKER, self.folder, ignore=shutil.ignore_patterns("secrets", "acme"))
        subprocess.run([self.folder / "prepare"], check=True, timeout=30)
        self.compose: dict[str, Any] = yaml.safe_load((self.folder / "compose.yaml").read_text())
        self.certificate = self.folder / "secrets" / "tls" / "fullchain.pem"
        self.trust = ssl.create_default_context(cafile=str(self.certificate))
        self.ports = {
            name: free_port() for name in (*GATEWAYS, "redis", "mqtt", "mqtts", "http", "https", "prometheus")
        }
        self.gateways: dict[str, GatewayProcess] = {}
        self.running: dict[str, Running] = {}
        self._changes = changes
        self._started = ExitStack()
        self._replaced = {**self._folders(), **self._addresses()}
        for path in self.folder.rglob("*"):
            if path.is_file() and path.parent.name in ("gateway", *self.compose["services"]):
                path.write_text(self.here(path.read_text()))

    def _folders(self) -> dict[str, str]:
        """What containers have mounted, and where it is here."""
        places = {f"/run/secrets/{name}": secret["file"] for name, secret in self.compose["secrets"].items()}
        for service in self.compose["services"].values():
            for volume in service.get("volumes", ()):
                source, target, *_ = volume.split(":")
                places[target] = source if source.startswith(".") else f"volumes/{source}"
        for name in self.compose["volumes"]:
            (self.folder / "volumes" / name).mkdir(parents=True)
        found = {target: str((self.folder / source).resolve()) for target, source in places.items()}
        return {**found, "/tmp/users": f"{self.folder}/users", "/run/nginx.pid": f"{self.folder}/nginx.pid"}

    def _addresses(self) -> dict[str, str]:
        ports, temporary = self.ports, f"{self.folder}/temporary"
        worker = "user root; " if os.geteuid() == 0 else ""  # the folders are those of who runs the tests
        return {
            **{address: f"127.0.0.1:{ports[name]}" for name, address in GATEWAYS.items()},
            NGINX: "127.0.0.1",
            "redis:6379": f"127.0.0.1:{ports['redis']}",
            "mosquitto:1883": f"127.0.0.1:{ports['mqtt']}",
            "listener 1883": f"listener {ports['mqtt']} 127.0.0.1",
            "listener 8883": f"listener {ports['mqtts']} 127.0.0.1",
            "listen 80": f"listen 127.0.0.1:{ports['http']}",
            "listen 443": f"listen 127.0.0.1:{ports['https']}",
            "worker_processes": f"{worker}worker_processes",
            "http {": f"http {{ client_body_temp_path {temporary}/body; proxy_temp_path {temporary}/proxy;",
            "scrape_interval: 15s": "scrape_interval: 200ms",
            "evaluation_interval: 15s": "evaluation_interval: 200ms",
        }

    def here(self, text: str) -> str:
        """A text of docker/ with folders and addresses as they are here."""
        known = "|".join(map(re.escape, sorted(self._replaced, key=len, reverse=True)))
        return re.sub(rf"(?<![\w.-])(?:{known})(?![\w-])", lambda found: self._replaced[found[0]], text)

    @property
    def url(self) -> str:
        """Where nginx serves all that browsers come for."""
        return f"https://localhost:{self.ports['https']}"

    def secret(self, name: str) -> str:
        """What docker/prepare made."""
        return (self.folder / "secrets" / name).read_text()

    def log(self, service: str) -> str:
        """All that a service has said."""
        return self.running[service].text

    def start(self, service: str, *options: str, port: str = "") -> Running:
        """Start what compose.yaml says, with options that only this machine needs; it listens then."""
        described = self.compose["services"][service]
        command: list[str | Path] = [
            self.here(word) for word in (*described.get("entrypoint", ()), *described["command"])
        ]
        command += options
        running = self._started.enter_context(Running(command, self.folder / f"{service}.log"))
        self.running[service] = running

        def is_up() -> bool:
            assert running.process.poll() is None, running.text
            return listens(self.ports[port or service])

        wait_until(is_up, f"{service} listens")
        return running

    def start_redis(self) -> None:
        """Start it."""
        self.start("redis", "--port", str(self.ports["redis"]), "--bind", "127.0.0.1")

    def start_mosquitto(self) -> None:
        """Start it."""
        if os.geteuid() == 0:  # in a container it is started as who it is to be
            with (self.folder / "mosquitto" / "mosquitto.conf").open("a") as config:
                config.write("user root\n")
        self.start("mosquitto", port="mqtts")

    def start_nginx(self) -> None:
        """Start it."""
        (self.folder / "temporary").mkdir(exist_ok=True)
        self.start("nginx", port="https")

    def gateway_config(self, name: str) -> dict[str, Any]:
        """The configuration of a gateway, with what its environment adds."""
        config: dict[str, Any] = yaml.safe_load((self.folder / "gateway" / "config.yaml").read_text())
        environment = self.compose["services"][name]["environment"]
        assert list(environment) == ["TIDEGATE_CLUSTER__NODE"]
        return {**config, "cluster": {"node": environment["TIDEGATE_CLUSTER__NODE"]}, **self._changes}

    def start_gateway(self, name: str) -> GatewayProcess:
        """Start a gateway, or start it again; it can do its work then."""
        options = [self.here(option) for option in instruction("CMD")[4:]]
        options = ["127.0.0.1" if option == "0.0.0.0" else option for option in options]
        running = GatewayProcess(self.folder / name, self.gateway_config(name), *options, port=self.ports[name])
        self.gateways[name] = self._started.enter_context(running)
        running.wait_until_ready()
        return running

    def start_devices(self) -> Running:
        """Start the simulated devices, which come in one after the other."""
        program, *arguments = self.compose["services"]["devices"]["command"]
        assert (program, arguments.count("mosquitto")) == ("tidegate", 1)
        arguments = ["127.0.0.1" if word == "mosquitto" else self.here(word) for word in arguments]
        command: list[str | Path] = [TIDEGATE, *arguments, "--port", str(self.ports["mqtt"])]
        return self._started.enter_context(Running(command, self.folder / "devices.log"))

    def start_all(self) -> None:
        """Start all that serves browsers and devices: two gateways behind nginx, with Redis and mosquitto."""
        self.start_redis()
        self.start_mosquitto()
        for name in GATEWAYS:
            self.start_gateway(name)
        self.start_nginx()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for gateway in self.gateways.values():
            gateway.process.kill()  # there is nobody to say goodbye to
        self._started.close()


@contextmanager
def deployment(directory: Path, **changes: Any) -> Iterator[Deployment]:
    """A deployment with all started."""
    with Deployment(directory, **changes) as running:
        running.start_all()
        yield running
