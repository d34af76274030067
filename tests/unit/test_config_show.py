from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from gateway.config import Settings, load_settings
from gateway.config.section import Section
from gateway.config.show import MASK, _shown, show

TEXT = """
listen: {port: 9000}
engine: {url: "sqlite:x.db"}
upstreams:
  plant: {url: "mqtt://h", username: u, status_topic: null}
limits: {message_bytes: 1 KiB}
rooms: [{room: chat/#, history: {messages: 3}}]
routes:
  - {topic: "a/{b}", room: "a/{b}", presence: true, sample: {seconds: 1, keep: max}}
  - {topic: "c/{d}", room: "c/{d}", presence: {member: "{d}"}}
  - {topic: "e/{f}", room: "e/{f}", direction: to_device, schema: s.json, upstream: plant}
namespaces: {b: {limits: {connections: 5}, routes: [{topic: x, room: y, history: {messages: 2, seconds: 1}}]}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "s.json").write_text("{}")
    (tmp_path / "config.yaml").write_text(TEXT)
    return load_settings(tmp_path / "config.yaml", environment={"TIDEGATE_DRAIN_SECONDS": "3"})


def test_what_is_shown_is_a_configuration_of_the_same_effect(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "shown.yaml").write_text(show(settings))
    again = load_settings(tmp_path / "shown.yaml", environment={})

    assert show(again) == show(settings)
    assert (again.listen, again.drain_seconds, again.upstreams) == (settings.listen, 3, settings.upstreams)
    for name in settings.namespace_names():
        assert again.core_limits(name) == settings.core_limits(name)
        assert again.room_rules(name) == settings.room_rules(name)
        assert [str(spec).partition("accepts")[0] for spec in again.route_specs(name)] == [
            str(spec).partition("accepts")[0] for spec in settings.route_specs(name)
        ]


def test_defaults_and_the_limits_that_a_namespace_inherits_are_shown(settings: Settings) -> None:
    shown = yaml.safe_load(show(settings))
    assert (shown["listen"]["host"], shown["listen"]["port"]) == ("127.0.0.1", 9000)
    limits = shown["namespaces"]["b"]["limits"]
    assert (limits["connections"], limits["message_bytes"]) == (5, 1024)
    assert list(shown) == list(Settings.model_fields)


class Odd(Section):
    secret: SecretStr = SecretStr("hunter2")
    jwt_secret: str = "hunter2"
    passwords: tuple[str, ...] = ("hunter2",)
    url: str = "redis://user:hunter2@host:1/0"
    password_file: str = "a.txt"
    unknown: object = b"hunter2"


def test_a_secret_is_masked_by_its_type_its_name_and_its_place_in_a_url() -> None:
    assert _shown("", Odd()) == {
        "secret": MASK,
        "jwt_secret": MASK,
        "passwords": [MASK],
        "url": "redis://…@host:1/0",
        "password_file": "a.txt",
        "unknown": "(bytes)",
    }
