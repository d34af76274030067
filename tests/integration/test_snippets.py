"""Every command and snippet of the documents, run as written; only ports and paths are those of the test."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from gateway.config import ConfigurationError, load_settings
from gateway.core import wire_requests
from tests.certificates import Authority
from tests.descriptors import descriptors
from tests.nginx import nginx
from tests.real import TIDEGATE, GatewayProcess, Mosquitto, free_port

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {
    "make run": "test_fresh_clone.py",
    "make test": "test_fresh_clone.py",
    "pip install .": "test_package.py",
    "docker/prepare": "test_docker.py",
    "docker compose -f docker/compose.yaml --profile demo up --build": "test_docker.py, without docker",
    "tidegate run": "every integration test",
    "python -m benchmarks.cluster --workloads latency,latency-broker --rounds 3 --output artifacts": (
        "test_cluster_benchmark.py"
    ),
    "python -m benchmarks.scale_model": "unit/test_scale_model.py",
    "python -m benchmarks.compare --workloads fan-out,light --peers Tidegate,mosquitto --rounds 3": "test_compare.py",
}
"""Commands that other tests run."""


@dataclass(frozen=True)
class Snippet:
    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def snippets(*languages: str) -> list[Snippet]:
    found = []
    for path in DOCUMENTS:
        text = path.read_text()
        for match in re.finditer(r"^```([a-z ]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if match[1] in languages:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Snippet(path.name, line, match[1], match[2]))
    return found


def documented_config() -> dict[str, Any]:
    """The repository's configuration, with the namespaces, the presence and the payloads that the documents show."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    documents = ("namespaces.md", "presence.md", "payloads.md")
    namespaces, presence, payloads = (yaml.safe_load(shown(document)) for document in documents)
    routes = [*config["routes"], *presence["routes"], *payloads["routes"]]
    return {**config, "routes": routes, "rooms": presence["rooms"], "namespaces": namespaces["namespaces"]}


def shown(document: str) -> str:
    """The one configuration that a document shows."""
    (found,) = (snippet for snippet in snippets("yaml") if snippet.document == document)
    return found.text


def test_every_snippet_is_of_a_kind_that_is_run() -> None:
    run_here = {"sh", "yaml", "yaml refused", "json", "nginx"}
    run_elsewhere = {
        "html": "browser/test_snippets.py",
        "js": "browser/test_snippets.py",
        "python": "integration/test_python_snippets.py",
        "nginx upstream": "integration/test_rolling_restart.py",
    }
    of_the_configuration = {
        "yml": "unit/test_config_documentation.py",
        "yml users": "unit/test_config_documentation.py",
        "text": "unit/test_config_documentation.py",
    }
    known = {*run_here, *run_elsewhere, *of_the_configuration}
    for path in DOCUMENTS:
        fences = re.findall(r"^```(.*)$", path.read_text(), re.MULTILINE)
        assert set(fences[::2]) <= known, f"{path.name}: {set(fences[::2]) - known}"


@pytest.mark.parametrize("snippet", snippets("yaml"), ids=str)
def test_configurations_load(snippet: Snippet, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(snippet.text)
    for name in re.findall(r"_file: (\S+?)[,}\s]", snippet.text):
        target = tmp_path / Path(name).name
        target.write_text("" if name == "users.yaml" else "secret" * 11)
        if name.endswith(".desc"):
            target.write_bytes(descriptors())
        if name.endswith("privkey.pem"):  # the last of the two
            issued = Authority().issue(tmp_path)
            (tmp_path / "fullchain.pem").write_bytes(Path(issued["tls_certificate_file"]).read_bytes())
            target.write_bytes(Path(issued["tls_key_file"]).read_bytes())
        text = (tmp_path / "config.yaml").read_text().replace(name, str(target))
        (tmp_path / "config.yaml").write_text(text)
    for name in re.findall(r" schema: (\S+)", snippet.text):
        (schema,) = (other.text for other in snippets("json") if other.document == snippet.document)
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(schema)
    load_settings(tmp_path / "config.yaml", environment={})


@pytest.mark.parametrize("snippet", snippets("yaml refused"), ids=str)
def test_configurations_that_are_refused_are_refused(snippet: Snippet, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(snippet.text)
    with pytest.raises(ConfigurationError):
        load_settings(tmp_path / "config.yaml", environment={})


@pytest.mark.parametrize("snippet", snippets("json"), ids=str)
def test_objects_are_what_the_protocol_takes(snippet: Snippet) -> None:
    try:
        values = [json.loads(snippet.text)]
    except json.JSONDecodeError:
        values = [json.loads(line) for line in snippet.text.splitlines()]
    for value in values:
        if value.get("type") in wire_requests._FIELDS:
            wire_requests.read(wire_requests.parse(orjson.dumps(value).decode()))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, int]]:
    """What the reader has started: the repository's configuration, with devices."""
    broker_port = free_port()
    documented = documented_config()
    config = {"broker": {"port": broker_port}, **{key: documented[key] for key in ("routes", "rooms", "namespaces")}}
    folder = tmp_path_factory.mktemp("demo")
    (folder / "gateway").mkdir()
    (folder / "gateway" / "plant.desc").write_bytes(descriptors())
    with GatewayProcess(folder / "gateway", config, "--demo") as running:
        running.wait_until_ready()
        yield running, broker_port


def commands() -> list[tuple[str, str]]:
    return [(str(snippet), line) for snippet in snippets("sh") for line in snippet.text.strip().splitlines()]


@pytest.mark.parametrize(("place", "command"), commands())
def test_commands_run(place: str, command: str, demo: tuple[GatewayProcess, int], tmp_path: Path) -> None:
    if command in ELSEWHERE:
        return
    gateway, broker_port = demo
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(documented_config()))
    (tmp_path / "plant.desc").write_bytes(descriptors())
    command = command.replace("localhost:8080", f"localhost:{gateway.port}").replace("-p 1883", f"-p {broker_port}")
    command = re.sub(r"(\.venv/bin/)?tidegate (sub|pub)", rf"{TIDEGATE} \2 --url {gateway.url}", command)
    command = re.sub(r"(^|\| )tidegate", rf"\1{TIDEGATE}", command)
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path,
        env={**os.environ, "CURL_HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 0, f"{place}: {command}\n{ended.stdout}\n{ended.stderr}"
    assert '"status":4' not in ended.stdout, ended.stdout


def test_nginx_takes_the_snippet_and_passes_every_transport_on(
    broker: Mosquitto, demo: tuple[GatewayProcess, int], tmp_path: Path
) -> None:
    import httpx
    from websockets.sync.client import connect

    (snippet,) = snippets("nginx")
    location = snippet.text.replace("127.0.0.1:8080", f"127.0.0.1:{demo[0].port}")
    with nginx(tmp_path, location) as port:
        origin = f"http://127.0.0.1:{port}"
        with httpx.stream("GET", f"{origin}/sse?room=sites/%23", headers={"Origin": origin}, timeout=10) as stream:
            lines = stream.iter_lines()
            assert any(line.startswith("data:") and '"type":"message"' in line for line in lines)
        with connect(f"ws://127.0.0.1:{port}/ws", origin=origin) as client:  # type: ignore[arg-type]
            assert json.loads(client.recv(timeout=10))["type"] == "welcome"
        assert httpx.post(f"{origin}/publish?room=chat/x", json=1, headers={"Origin": origin}).status_code == 200
