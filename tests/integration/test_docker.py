"""docker/ without docker: its commands run with the files that it mounts, and do what those say. No image is built."""

import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from gateway.config import load_settings
from tests.deployment import DOCKER, GATEWAYS, Deployment, instruction
from tests.real import DEADLINE_SECONDS, wait_until


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("docker")) as running:
        with (running.folder / "secrets" / "mqtt-users").open("a") as users:
            users.write("boiler-1:its password\n")
        running.start_all()
        yield running


def test_what_compose_mounts_and_builds_is_there(deployed: Deployment) -> None:
    compose = deployed.compose
    assert {*GATEWAYS, "nginx", "redis", "mosquitto", "prometheus", "grafana", "devices"} == set(compose["services"])
    for name, secret in compose["secrets"].items():
        assert (deployed.folder / secret["file"]).is_file(), name
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (deployed.folder / source).is_dir(), f"{name}: {volume}"
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
        assert set(service.get("depends_on", ())) <= set(compose["services"]), name
        if "build" in service:
            assert (DOCKER.parent / service["build"]["dockerfile"]).is_file()


def test_only_nginx_and_the_brokers_tls_can_be_reached_from_elsewhere_and_only_if_wanted(deployed: Deployment) -> None:
    ports = {name: service["ports"] for name, service in deployed.compose["services"].items() if "ports" in service}
    given = "${PUBLISH_ADDRESS:-127.0.0.1}"
    assert ports == {
        "nginx": [f"{given}:443:443", f"{given}:80:80"],
        "mosquitto": [f"{given}:8883:8883"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_the_image_leaves_out_secrets() -> None:
    assert "docker/secrets" in (DOCKER.parent / ".dockerignore").read_text().splitlines()
    assert "docker/secrets/" in (DOCKER.parent / ".gitignore").read_text()


def test_prepare_keeps_what_is_there_and_lets_nobody_else_look(tmp_path: Path) -> None:
    made = Deployment(tmp_path)
    secrets = made.folder / "secrets"
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    subprocess.run([made.folder / "prepare", "dashboard.example"], check=True, timeout=30)
    assert before == {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    assert secrets.stat().st_mode & 0o077 == 0
    for name in ("fullchain.pem", "privkey.pem"):
        (secrets / "tls" / name).unlink()
    subprocess.run([made.folder / "prepare", "dashboard.example"], check=True, timeout=30)
    shown = subprocess.run(
        ["openssl", "x509", "-in", made.certificate, "-noout", "-ext", "subjectAltName"], capture_output=True, text=True
    )
    assert "DNS:dashboard.example" in shown.stdout


def test_the_gateways_take_their_configuration_as_it_is(tmp_path: Path) -> None:
    made = Deployment(tmp_path)
    for name in GATEWAYS:
        environment = made.compose["services"][name]["environment"]
        settings = load_settings(made.folder / "gateway" / "config.yaml", environment=environment)
        assert settings.cluster.node == name
        assert settings.engine.password_text() == made.secret("redis-password")
        grace_seconds = int(made.compose["services"][name]["stop_grace_period"].removesuffix("s"))
        assert grace_seconds > settings.drain_seconds + 10
        assert made.compose["services"][name]["ulimits"]["nofile"] > 3 * settings.limits.connections


def test_the_images_health_check_works(deployed: Deployment) -> None:
    program, *check = instruction("HEALTHCHECK")
    assert program == "python"
    gateway = deployed.gateways["gateway-1"]
    check = [part.replace("8080", str(gateway.port)) for part in check]
    assert subprocess.run([sys.executable, *check], timeout=10).returncode == 0


def test_a_renewed_certificate_is_shown_once_services_are_told(tmp_path: Path) -> None:
    with Deployment(tmp_path) as made:
        made.start_mosquitto()
        made.start_nginx()
        ports = {made.ports["https"], made.ports["mqtts"]}
        before = {certificate_at(port) for port in ports}
        for name in ("fullchain.pem", "privkey.pem"):
            (made.certificate.parent / name).unlink()
        subprocess.run([made.folder / "prepare"], check=True, timeout=30)
        assert {certificate_at(port) for port in ports} == before
        for running in made.running.values():
            running.send_signal(signal.SIGHUP)
        after = {made.certificate.read_text()}
        wait_until(lambda: {certificate_at(port) for port in ports} == after, "both show the new one")


def certificate_at(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_redis_keeps_all_and_lets_in_who_has_the_password(deployed: Deployment) -> None:
    port = deployed.ports["redis"]
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=port, retry=Retry(NoBackoff(), 0)).ping()
    with redis.Redis(port=port, username="tidegate", password=deployed.secret("redis-password")) as client:
        client.set("tidegate:{x}:y", 1)
        for refused in (["SET", "other", "1"], ["FLUSHALL"], ["CONFIG", "GET", "*"], ["ACL", "LIST"], ["SHUTDOWN"]):
            with pytest.raises(NoPermissionError):
                client.execute_command(*refused)
        memory, persistence = client.info("memory"), client.info("persistence")
    assert memory["maxmemory_policy"] == "noeviction"
    assert memory["maxmemory"] == 1024**3
    assert persistence["aof_enabled"] == 1


def mqtt(
    deployed: Deployment, program: str, user: str, password: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """Runs one of mosquitto's clients as a device that comes over TLS."""
    where = ["--cafile", str(deployed.certificate), "-h", "localhost", "-p", str(deployed.ports["mqtts"])]
    command = [program, *where, "-u", user, "-P", password, "-q", "1", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)


def test_the_broker_holds_each_device_to_its_own_topics(deployed: Deployment) -> None:
    for topic in ("sensors/oslo/fan-4/power", "alarms/oslo/fan-4", "sensors/oslo/boiler-1/power"):
        mqtt(deployed, "mosquitto_pub", "boiler-1", "its password", "-r", "-t", topic, "-m", "of boiler-1")
    demo = ("demo", deployed.secret("demo-password"))
    mqtt(deployed, "mosquitto_pub", *demo, "-r", "-t", "sensors/oslo/fan-4/power", "-m", "of fan-4")
    heard = mqtt(deployed, "mosquitto_sub", *demo, "-v", "-t", "sensors/#", "-t", "alarms/#", "-C", "2").stdout
    assert sorted(heard.splitlines()) == [
        "sensors/oslo/boiler-1/power of boiler-1",
        "sensors/oslo/fan-4/power of fan-4",
    ]
    refused = mqtt(deployed, "mosquitto_sub", "boiler-1", "wrong", "-t", "commands/oslo/boiler-1", "-C", "1")
    assert "not authorised" in refused.stderr.lower()
    assert "boiler-1:$7$" in (deployed.folder / "users").read_text()


def test_the_simulated_devices_come_in(deployed: Deployment) -> None:
    devices = deployed.start_devices()
    demo = ("demo", deployed.secret("demo-password"))
    heard = mqtt(deployed, "mosquitto_sub", *demo, "-t", "sensors/+/+/status", "-C", "12").stdout
    assert heard.split() == ['"online"'] * 12, devices.text
