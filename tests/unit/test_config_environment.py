from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config import ConfigurationError, load_settings
from gateway.core.routing import RouteSpec

FILE = """\
upstreams:
  plant: {url: mqtt://plant, username: gateway}
routes:
  - {topic: a, room: b}
  - {topic: c, room: d}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(FILE)
    return path


def problems(environment: Mapping[str, str], path: Path | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, environment=environment)
    return list(map(str, caught.value.problems))


def test_a_variable_sets_one_key_of_a_section() -> None:
    environment = {"TIDEGATE_LISTEN__PORT": "9000", "TIDEGATE_LIMITS__MESSAGE_BYTES": "1 KiB", "PATH": "/bin"}

    settings = load_settings(None, environment=environment)

    assert (settings.listen.port, settings.limits.message_bytes) == (9000, 1024)


def test_a_variable_sets_one_key_of_an_upstream_in_the_file(path: Path) -> None:
    settings = load_settings(path, environment={"TIDEGATE_UPSTREAMS__PLANT__PASSWORD": "s3cret"})

    plant = settings.upstreams["plant"]
    assert (plant.url.host, plant.username, plant.password_text()) == ("plant", "gateway", "s3cret")


def test_an_upstream_may_come_from_variables_alone() -> None:
    settings = load_settings(None, environment={"TIDEGATE_UPSTREAMS__PLANT__URL": "mqtt://plant"})

    assert settings.upstream_names() == ("plant",)


def test_sections_and_mappings_are_json_objects_that_merge_with_the_file(path: Path) -> None:
    environment = {
        "TIDEGATE_UPSTREAMS": '{"plant": {"client_id": 7}, "other": {"url": "ws://other", "insecure": false}}',
        "TIDEGATE_LISTEN": '{"host": "0.0.0.0", "port": 1}',
        "TIDEGATE_LISTEN__PORT": "2",
    }

    settings = load_settings(path, environment=environment)

    assert settings.upstreams["plant"].client_id == "7"
    assert settings.upstreams["plant"].username == "gateway"
    assert settings.upstreams["other"].url.path == "/mqtt"
    assert (settings.listen.host, settings.listen.port) == ("0.0.0.0", 2)


def test_a_list_is_json_and_replaces_that_of_the_file(path: Path) -> None:
    environment = {"TIDEGATE_ROUTES": '[{"topic": "x", "room": "y"}]', "TIDEGATE_ORIGINS": '["https://A.example"]'}

    settings = load_settings(path, environment=environment)

    assert settings.route_specs() == [RouteSpec("x", "y")]
    assert settings.origins == ("https://a.example",)


def test_null_is_a_value_where_it_means_something(path: Path) -> None:
    name = "TIDEGATE_UPSTREAMS__PLANT__STATUS_TOPIC"

    assert load_settings(path, environment={name: "null"}).upstreams["plant"].status_topic is None


def test_files_that_variables_name_are_relative_to_the_working_directory(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "password").write_text("s3cret\n")
    monkeypatch.chdir(tmp_path / "here")

    settings = load_settings(path, environment={"TIDEGATE_UPSTREAMS__PLANT__PASSWORD_FILE": "password"})

    assert settings.upstreams["plant"].password_text() == "s3cret"


def test_what_kubernetes_and_docker_set_for_a_service_called_tidegate_is_passed_over() -> None:
    environment = {
        "TIDEGATE_SERVICE_HOST": "10.0.0.1",
        "TIDEGATE_SERVICE_PORT": "8080",
        "TIDEGATE_SERVICE_PORT_HTTP": "8080",
        "TIDEGATE_PORT": "tcp://10.0.0.1:8080",
        "TIDEGATE_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "TIDEGATE_PORT_8080_TCP_PROTO": "tcp",
        "TIDEGATE_PORT_8080_TCP_PORT": "8080",
        "TIDEGATE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "TIDEGATE_METRICS_SERVICE_HOST": "10.0.0.2",
        "TIDEGATE_METRICS_PORT": "tcp://10.0.0.2:9090",
    }

    assert load_settings(None, environment=environment) == load_settings(None, environment={})


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("TIDEGATE_LISTEN__PORT", "abc", "listen.port: expected a whole number from 0 to 65535, found 'abc'"),
        ("TIDEGATE_LISTEN__PORT", "", "listen.port: expected a whole number from 0 to 65535, found ''"),
        ("TIDEGATE_DRAIN_SECONDS", "inf", "drain_seconds: expected a number of seconds from 0 to 3600, found 'inf'"),
        ("TIDEGATE_LISTEN_PORT", "1", "unknown variable: did you mean TIDEGATE_LISTEN__PORT?"),
        ("TIDEGATE_LISTEN__PROT", "1", "unknown variable: did you mean TIDEGATE_LISTEN__PORT?"),
        (
            "TIDEGATE_PORT",
            "1",
            "unknown variable: did you mean TIDEGATE_LISTEN__PORT or TIDEGATE_OPS__PORT or TIDEGATE_BROKER__PORT?",
        ),
        ("TIDEGATE_LISTEN__PORT__X", "1", "unknown variable: did you mean TIDEGATE_LISTEN__PORT?"),
        ("TIDEGATE_BAZAAR", "1", "unknown variable: expected such as TIDEGATE_LISTEN__PORT"),
        ("TIDEGATE_", "1", "unknown variable: did you mean TIDEGATE_OPS?"),
        (
            "TIDEGATE_UPSTREAMS__PLANT__PASWORD",
            "s3cret",
            "unknown variable: did you mean TIDEGATE_UPSTREAMS__PLANT__PASSWORD?",
        ),
        (
            "TIDEGATE_ROUTES__0__TOPIC",
            "x",
            "unknown variable: a list is set as a whole, as JSON in TIDEGATE_ROUTES",
        ),
        (
            "TIDEGATE_ROUTES",
            "[{'topic'",
            "routes: expected a JSON list, such as [...], found what is no JSON (at character 3)",
        ),
        (
            "TIDEGATE_LISTEN",
            '{"port": 1',
            "listen: expected a JSON object, such as {...}, found what is no JSON (at character 11)",
        ),
        ("TIDEGATE_LISTEN", "9000", "listen: expected a mapping (`key: value`), found 9000"),
        ("TIDEGATE_LISTEN", '{"prot": 1}', "listen.prot: unknown key `prot`: did you mean `port`?"),
        ("TIDEGATE_ORIGINS", '"https://a.example"', "origins: expected a list, found text"),
        (
            "TIDEGATE_ROUTES",
            '[{"topic": "x", "room": "y", "qos": 3}]',
            "routes[0].qos: expected 0, 1 or 2, found 3",
        ),
        (
            "TIDEGATE_ROUTES",
            '[{"topic": "x"}]',
            "routes[0].room: missing: expected such as `room: sites/{site}/{device}`",
        ),
        (
            "TIDEGATE_ROUTES",
            '[{"topic": "x", "room": "y"}, {"topic": "x", "room": "y"}]',
            "routes[1].topic: the same topic and room as another route: expected each translation once (see routes[0])",
        ),
        ("TIDEGATE_ROUTES", "[" * 500 + "]" * 500, "routes: expected at most 32 levels of nesting, found more"),
    ],
)
def test_a_wrong_variable_is_named_with_what_was_expected(path: Path, name: str, value: str, problem: str) -> None:
    assert problems({name: value}, path) == [f"{name}: {problem}"]


def test_wrong_variables_are_told_together_with_what_is_wrong_in_the_file(path: Path) -> None:
    path.write_text("listen: {host: a b}\nlogging: {level: loud}")

    assert problems({"TIDEGATE_BAZAAR": "x", "TIDEGATE_LISTEN__PORT": "x"}, path) == [
        f"{path}:1:10: listen.host: expected a host name or an IP address without a port, such as 127.0.0.1, "
        "found 'a b'",
        f"{path}:2:11: logging.level: expected debug, info, warning or error, found 'loud'",
        "TIDEGATE_BAZAAR: unknown variable: expected such as TIDEGATE_LISTEN__PORT",
        "TIDEGATE_LISTEN__PORT: listen.port: expected a whole number from 0 to 65535, found 'x'",
    ]
