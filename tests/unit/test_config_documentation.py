"""docs/configuration.md says of every key what the settings say."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config import (
    AccessRuleSettings,
    AnonymousSettings,
    ApiTokenSettings,
    ConfigurationError,
    HistorySettings,
    IceServerSettings,
    JwtSettings,
    NamespaceSettings,
    ProtobufSettings,
    RoleLimitsSettings,
    RoomSettings,
    RoutePayloadSettings,
    RoutePresenceSettings,
    RouteSettings,
    SampleSettings,
    Settings,
    UpstreamSettings,
    UserSettings,
    WebhookSettings,
    load_settings,
)
from gateway.config.section import Section
from gateway.config.shape import fields_of
from gateway.config.users import read_users

DOCUMENT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
SECTIONS: dict[str, type[BaseModel]] = {
    **{name: type(value) for name, value in Settings() if isinstance(value, BaseModel)},
    "identity.anonymous": AnonymousSettings,
    "identity.jwt": JwtSettings,
    "identity.tokens": ApiTokenSettings,
    "identity.users_file": UserSettings,
    "limits.by_role": RoleLimitsSettings,
    "access": AccessRuleSettings,
    "upstreams": UpstreamSettings,
    "rooms": RoomSettings,
    "routes": RouteSettings,
    "history": HistorySettings,
    "routes[].payload": RoutePayloadSettings,
    "routes[].payload.protobuf": ProtobufSettings,
    "routes[].presence": RoutePresenceSettings,
    "peerjs.ice_servers": IceServerSettings,
    "sample": SampleSettings,
    "webhooks": WebhookSettings,
    "namespaces": NamespaceSettings,
}


def table(model: type[BaseModel]) -> str:
    said = descriptions(model)
    rows = [f"| `{name}` | {default(name, field)} | {said[name]} |" for name, field in fields_of(model).items()]
    return "\n".join(["| key | default | what |", "|---|---|---|", *rows])


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What stands behind each field; pydantic could say it, but would read all sources at each start for that."""
    found: dict[str, str] = {}
    for base in reversed([each for each in model.__mro__ if issubclass(each, Section) or each is Settings]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                assert isinstance(text.value, ast.Constant)
                known = model.model_fields[field.target.id]
                found[known.alias or field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    if isinstance(value, BaseModel):
        return "see below"
    if value is None or value in ({}, ()):
        return "none"
    if name.endswith("_bytes") or name in ("bytes_per_second", "bytes_burst"):
        value = f"{value // 1024} KiB" if value < 1024**2 else f"{value // 1024**2} MiB"
    value = value.value if isinstance(value, Enum) else value
    value = f"[{', '.join(value)}]" if isinstance(value, tuple) else value
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_the_keys_at_the_top_are_those_of_the_code() -> None:
    assert table(Settings) in DOCUMENT, f"expected\n{table(Settings)}"


@pytest.mark.parametrize("name", SECTIONS)
def test_each_section_is_that_of_the_code(name: str) -> None:
    model = SECTIONS[name]
    heading = f"## `{name}`\n\n{' '.join((model.__doc__ or '').split())}\n\n{table(model)}\n"

    assert heading in DOCUMENT, f"expected\n{heading}"


def blocks(kind: str) -> Iterator[str]:
    yield from re.findall(rf"```{kind}\n(.*?)```", DOCUMENT, re.DOTALL)


def test_every_example_is_valid(tmp_path: Path) -> None:
    (tmp_path / "mqtt-password").write_text("s3cret")
    (tmp_path / "jwt.key").write_text("s3cret" * 8)
    examples = list(blocks("yaml"))
    for example in examples:
        path = tmp_path / "config.yaml"
        path.write_text(example)
        load_settings(path, environment={})
    assert examples


def test_the_users_file_that_is_shown_is_valid(tmp_path: Path) -> None:
    (example,) = blocks("yml users")
    path = tmp_path / "users.yaml"
    path.write_text(example)
    assert list(read_users(path).users) == ["ann"]


def test_every_variable_of_the_examples_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("upstreams: {plant: {url: mqtt://broker, username: gateway}}")
    variables = re.findall(r"^(TIDEGATE_\w+)='?(.*?)'?$", "".join(blocks("sh")), re.MULTILINE)

    load_settings(path, environment=dict(variables))

    assert len(variables) > 3


def test_the_errors_shown_are_those_that_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong, told = next(blocks("yml")), next(blocks("text"))
    Path("config.yaml").write_text(wrong)

    with pytest.raises(ConfigurationError) as caught:
        load_settings(Path("config.yaml"), environment={"TIDEGATE_LISTEN_PORT": "9000"})

    assert str(caught.value) + "\n" == told
