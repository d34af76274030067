"""Webhooks as they are configured."""

from base64 import b64encode
from pathlib import Path

import pytest

from gateway.config import ConfigurationError, Settings, load_settings
from gateway.config.show import show

URL = "url: 'https://a.example/h'"


def load(folder: Path, text: str) -> Settings:
    (folder / "config.yaml").write_text(text)
    return load_settings(folder / "config.yaml", environment={})


def problems(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


def test_a_route_adds_its_rooms_to_the_webhook_that_it_names(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        f"webhooks: {{a: {{{URL}, rooms: ['chat/#', 'x/+']}}, b: {{{URL}, events: [connect]}}}}\n"
        "routes: [{topic: 'x/{y}', room: 'x/{y}', webhook: a},\n"
        "  {topic: 's/{rest...}', room: 's/{rest...}', webhook: a}]\n"
        f"namespaces: {{other: {{webhooks: {{c: {{{URL}, rooms: ['#']}}}}}}}}",
    )
    found = settings.webhooks_of("default")
    assert found["a"][1].rooms == ("chat/#", "x/+", "s/#")
    assert found["b"][1].events == {"connect"}
    assert list(settings.webhooks_of("other")) == ["c"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"webhooks: {{a: {{{URL}}}}}", "config.yaml:1:12: webhooks.a.rooms: missing, for message: expected such as"),
        ("routes: [{topic: x, room: x, webhook: b}]",
         "config.yaml:1:30: routes[0].webhook: expected one of `webhooks` (none), found 'b'"),
        (f"namespaces: {{n: {{webhooks: {{a: {{{URL}, events: [left]}}}}}}}}",
         "namespaces.n.webhooks.a.rooms: missing, for left"),
        ("webhooks: {a: {url: 'ftp://a.example'}}", "webhooks.a.url: expected a URL such as https://"),
        ("webhooks: {a: {url: 'https://u:hunter2@a.example'}}", "expected no user name or password in a URL"),
        (f"webhooks: {{a: {{{URL}, events: [mesage]}}}}", "expected message, joined, left, connect or disconnect"),
        (f"webhooks: {{a: {{{URL}, rooms: ['#'], secret_file: short.key}}}}",
         "secret_file: expected at least 24 bytes on each"),
        (f"webhooks: {{a: {{{URL}, rooms: ['#'], secret_file: wrong.key}}}}",
         "secret_file: expected base64 after 'whsec_'"),
        ("webhooks: {a: {url: 'http://a.example', rooms: ['#'], ca_file: short.key}}",
         "ca_file: expected it only with an https://"),
        (f"webhooks: {{a: {{{URL}, rooms: ['#'], retry_max_seconds: 0.1}}}}", "retry_max_seconds: expected at least"),
        ("webhooks: {A b: {}}", "expected a name of a-z"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "short.key").write_text("s" * 32 + "\nhunter2")
    (tmp_path / "wrong.key").write_text("whsec_hunter2!")
    found = problems(tmp_path, text)
    assert told in found
    assert "hunter2" not in found


def test_secrets_are_one_a_line_as_text_or_base64(tmp_path: Path) -> None:
    new = b"n" * 32
    (tmp_path / "hook.key").write_text(f"{'o' * 24}\r\n\nwhsec_{b64encode(new).decode()}\n")
    settings = load(tmp_path, f"webhooks: {{a: {{{URL}, rooms: ['#'], secret_file: hook.key}}}}")
    assert settings.webhooks["a"].secrets() == (b"o" * 24, new)
    assert "oooo" not in show(settings)
