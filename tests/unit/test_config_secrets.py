from pathlib import Path

import pytest

from gateway.config import ConfigurationError, load_settings


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        "upstreams: {a: {url: mqtt://h, username: u, password: [hunter2]}}",
        "upstreams: {a: {url: mqtt://h, username: u, password: {x: hunter2}}}",
        "upstreams: {a: {url: mqtt://h, username: u, pasword: hunter2}}",
        "upstreams: {a: {url: mqtt://h, password: hunter2}}",
        "upstreams: {a: {url: mqtt://h, username: u, password: hunter2, password_file: config.yaml}}",
        "upstreams: {a: {url: 'mqtt://u:hunter2@h'}}",
        "upstreams: {a: {url: 'mqttt://u:hunter2@h:x'}}",
        "upstreams: {a: 'mqtt://u:hunter2@h'}",
        "upstreams: 'mqtt://u:hunter2@h'",
        "upstreams: {a: {url: mqtt://h, client_id: [], username: u, password: hunter2}}",
        "upstreams: {a: {url: mqtt://h, username: u, password: *hunter2}}",
        "upstreams: {a: {url: mqtt://h, username: u, password: &hunter2 }}",
        "upstreams: {a: {url: mqtt://h, username: u, password: !hunter2 }}",
        "upstreams: {a: {url: mqtt://h, username: u, password: '@hunter2}}",
        "upstreams: {a: {url: mqtt://h, username: u, password: @hunter2}}",
        "upstreams: {a: {url: mqtt://h, username: u, password: %hunter2}}",
        'upstreams: {a: {url: mqtt://h, username: u, password: "\\hunter2"}}',
        "origins: ['https://u:hunter2@a.example']",
    ],
)
def test_no_error_shows_a_password(text: str) -> None:
    Path("config.yaml").write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        load_settings(Path("config.yaml"), environment={})

    assert SECRET not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    "environment",
    [
        {"TIDEGATE_UPSTREAMS__A__PASWORD": SECRET},
        {"TIDEGATE_UPSTREAMS": SECRET},
        {"TIDEGATE_UPSTREAMS__A": '{"password": "hunter2'},
        {"TIDEGATE_UPSTREAMS__A": '"hunter2"'},
        {"TIDEGATE_UPSTREAMS__A__PASSWORD": SECRET},
    ],
)
def test_no_error_of_a_variable_shows_a_password(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(None, environment=environment)

    assert SECRET not in str(caught.value)
