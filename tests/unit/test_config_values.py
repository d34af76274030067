import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config import ConfigurationError, Settings, load_settings
from gateway.core.device_status import DeviceStatus
from gateway.core.limits import Limits
from gateway.core.retention import Retention
from gateway.core.room_rules import RoomRule
from gateway.core.routing import Direction, PayloadKind, RouteSpec, RoutingTable
from gateway.core.sample import Keep, Sample

Load = Callable[..., Settings]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a YAML text."""

    def load(text: str, environment: Mapping[str, str] | None = None, **options: Any) -> Settings:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return load_settings(path, environment=environment or {}, **options)

    return load


def test_the_configuration_that_users_copy_is_valid() -> None:
    settings = load_settings(REPOSITORY / "config.yaml", environment={})

    assert [(route.topic, route.direction) for route in settings.routes] == [
        ("sensors/{site}/{device}/{metric}", Direction.TO_BROWSER),
        ("alarms/{site}/{device}", Direction.TO_BROWSER),
        ("commands/{site}/{device}", Direction.TO_DEVICE),
    ]
    assert settings.routes[2].qos == 1


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null", "{}", "routes:\nupstreams:\nlimits:\n"])
def test_what_is_empty_or_commented_out_has_its_default(load: Load, text: str) -> None:
    assert load(text) == Settings() == load_settings(None, environment={})


def test_without_anything_the_gateway_listens_locally_and_uses_the_embedded_broker() -> None:
    settings = Settings()

    assert (settings.listen.host, settings.listen.port) == ("127.0.0.1", 8080)
    assert (settings.broker.host, settings.broker.port) == ("127.0.0.1", 1883)
    assert settings.upstream_names() == ("embedded",)
    assert settings.route_specs() == []


def test_the_limits_are_those_of_the_core(load: Load) -> None:
    assert Settings().core_limits() == Limits()
    assert load("limits: {message_bytes: 1 KiB}").core_limits() == Limits(message_bytes=1024)


def test_routes_become_the_specs_of_the_routing_table(load: Load) -> None:
    settings = load("""
upstreams: {plant: {url: mqtt://broker}}
routes:
  - {topic: "a/{b}", room: "b/{b}"}
  - {topic: "c/{d}", room: "d/{d}", direction: both, payload: text, qos: 2, retain: yes, last: off, upstream: plant}
  - {topic: "e/{f}", room: "f/{f}", history: {messages: 5, seconds: 60}}
  - {topic: "g/{h}", room: "h/{h}", direction: to_device, reply: "g/{h}/reply", upstream: plant}
  - {topic: m, room: n, presence: true}
  - {topic: i, room: j, presence: false}
  - {topic: "k/{l}", room: m, presence: {member: "{l}", online: [on, 1]}}
  - {topic: "g/{h}", room: "g/{h}", sample: {seconds: 0.5, keep: mean}}
rooms:
  - {room: "chat/#", history: {messages: 3}}
  - {room: "#", last: false, presence: yes}
""")
    assert settings.route_specs() == [
        RouteSpec("a/{b}", "b/{b}"),
        RouteSpec("c/{d}", "d/{d}", Direction.BOTH, PayloadKind.TEXT, 2, True, False, None, "plant"),
        RouteSpec("e/{f}", "f/{f}", history=Retention(True, 5, 60)),
        RouteSpec("g/{h}", "h/{h}", Direction.TO_DEVICE, upstream="plant", reply="g/{h}/reply"),
        RouteSpec("m", "n", presence=True),
        RouteSpec("i", "j"),
        RouteSpec("k/{l}", "m", presence=DeviceStatus("{l}", frozenset({"on", "1"}), frozenset({"offline"}))),
        RouteSpec("g/{h}", "g/{h}", sample=Sample(0.5, Keep.MEAN)),
    ]
    assert settings.room_rules() == [
        RoomRule("chat/#", Retention(True, 3, math.inf)),
        RoomRule("#", Retention(last=False), presence=True),
    ]
    assert [field.name for field in fields(RouteSpec)] == list(type(settings.routes[0]).model_fields)
    assert len(RoutingTable(settings.route_specs(), settings.upstream_names()).routes) == 8


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("65536", 65536),
        ("1", 1),
        ("64 KiB", 65536),
        ("64KiB", 65536),
        ("64 kib", 65536),
        ("500 kB", 500_000),
        ("1 MiB", 1_048_576),
        ("1.5 MiB", 1_572_864),
        ("2 GB", 2_000_000_000),
        ("1024 GiB", 2**40),
        ("7 B", 7),
    ],
)
def test_sizes_have_units(load: Load, written: str, size_bytes: int) -> None:
    assert load(f"limits: {{message_bytes: {written}}}").limits.message_bytes == size_bytes


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://dashboard.example", "https://dashboard.example"),
        ("HTTPS://Dashboard.Example:443", "https://dashboard.example"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:08080", "http://localhost:8080"),
        ("https://a.example:80", "https://a.example:80"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_origins_are_written_as_browsers_write_them(load: Load, written: str, origin: str) -> None:
    assert load(f"origins: ['{written}']").origins == (origin,)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker", ("mqtt", "broker", 1883, "/mqtt")),
        ("mqtts://broker.example/", ("mqtts", "broker.example", 8883, "/")),
        ("MQTT://Broker:1884", ("mqtt", "broker", 1884, "/mqtt")),
        ("ws://broker", ("ws", "broker", 80, "/mqtt")),
        ("wss://broker/a/b", ("wss", "broker", 443, "/a/b")),
        ("mqtt://[::1]:1883", ("mqtt", "::1", 1883, "/mqtt")),
    ],
)
def test_a_brokers_url_gives_scheme_host_port_and_path(load: Load, url: str, address: object) -> None:
    found = load(f"upstreams: {{a: {{url: '{url}'}}}}").upstreams["a"].url
    assert (found.scheme, found.host, found.port, found.path) == address


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("mqtt://broker", "mqtt://broker:1883"),
        ("wss://broker/a", "wss://broker:443/a"),
        ("mqtt://[::1]", "mqtt://[::1]:1883"),
    ],
)
def test_a_brokers_url_is_shown_in_full(load: Load, written: str, shown: str) -> None:
    assert str(load(f"upstreams: {{a: {{url: '{written}'}}}}").upstreams["a"].url) == shown


@pytest.mark.parametrize(
    ("written", "protocol"),
    [("5", "5"), ("5.0", "5"), ("v5", "5"), ("'5'", "5"), ("3.1.1", "3.1.1"), ("v3.1.1", "3.1.1")],
)
def test_the_protocol_may_be_written_as_people_write_it(load: Load, written: str, protocol: str) -> None:
    assert load(f"upstreams: {{a: {{url: mqtt://h, protocol: {written}}}}}").upstreams["a"].protocol == protocol


def test_text_stays_what_was_written(load: Load) -> None:
    upstream = load("upstreams: {a: {url: mqtt://h, username: 0123, password: 0x1F, client_id: no}}").upstreams["a"]

    assert (upstream.username, upstream.password_text(), upstream.client_id) == ("0123", "0x1F", "no")


def test_null_switches_the_status_topic_off(load: Load) -> None:
    assert load("upstreams: {a: {url: mqtt://h}}").upstreams["a"].status_topic == "tidegate/status"
    assert load("upstreams: {a: {url: mqtt://h, status_topic: null}}").upstreams["a"].status_topic is None


@pytest.mark.parametrize(
    ("content", "password"), [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), (" a b \n\n", " a b \n"), ("", "")]
)
def test_a_password_file_is_relative_to_the_configuration_and_loses_one_newline(
    load: Load, tmp_path: Path, content: str, password: str
) -> None:
    (tmp_path / "password").write_bytes(content.encode())

    settings = load("upstreams: {a: {url: mqtt://h, username: u, password_file: password}}")
    (tmp_path / "password").unlink()

    assert settings.upstreams["a"].password_text() == password


def test_certificate_files_are_relative_to_the_configuration(load: Load, tmp_path: Path) -> None:
    for name in ("ca", "key", "certificate"):
        (tmp_path / name).touch()

    upstream = load(
        "upstreams: {a: {url: mqtts://h, ca_file: ca, key_file: key, certificate_file: ./certificate}}"
    ).upstreams["a"]

    assert [upstream.ca_file, upstream.key_file, upstream.certificate_file] == [
        tmp_path / name for name in ("ca", "key", "certificate")
    ]


def test_settings_show_no_password(load: Load, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")

    one = load("upstreams: {a: {url: mqtt://h, username: u, password: hunter2}}")
    other = load("upstreams: {a: {url: mqtt://h, username: u, password_file: password}}")

    assert "hunter2" not in repr(one) + str(one) + repr(other) + str(other)


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().listen.port = 1


def test_nothing_is_read_behind_the_callers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_LISTEN__PORT", "9000")
    monkeypatch.setenv("LISTEN", '{"port": 9000}')

    assert Settings().listen.port == load_settings(None, environment={}).listen.port == 8080


def test_environment_wins_over_the_file_and_overrides_over_both(load: Load) -> None:
    text = "listen: {host: 10.0.0.1, port: 1}"
    environment = {"TIDEGATE_LISTEN__PORT": "2"}

    assert load(text).listen.port == 1
    assert load(text, environment).listen.port == 2
    settings = load(text, environment, overrides={"listen": {"port": 3}})
    assert (settings.listen.host, settings.listen.port) == ("10.0.0.1", 3)


def test_an_error_names_the_source_that_won(load: Load) -> None:
    text, environment = "listen: {port: a}", {"TIDEGATE_LISTEN__PORT": "b"}

    with pytest.raises(ConfigurationError, match=r"^TIDEGATE_LISTEN__PORT: listen.port: .* found 'b'$"):
        load(text, environment)
    with pytest.raises(ConfigurationError, match=r"^command line: listen.port: .* found 70000$"):
        load(text, environment, overrides={"listen": {"port": 70000}})
    load(text, environment, overrides={"listen": {"port": 7000}})


@pytest.mark.parametrize(
    "text",
    [
        "{listen: {port: 0}, broker: {port: 0}}",
        "{listen: {host: 127.0.0.2, port: 1883}}",
        "{listen: {port: 1883}, upstreams: {a: {url: mqtt://a}}}",
    ],
)
def test_web_and_devices_may_seem_to_have_one_port(load: Load, text: str) -> None:
    load(text)
