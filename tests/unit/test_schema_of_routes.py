"""`schema` of a route: how it is loaded, and that nothing that misfits leaves the gateway."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigurationError, Settings, load_settings
from gateway.core.errors import BadMessage
from gateway.core.payload import Payload
from gateway.core.publishing import Sending
from gateway.core.routing import Direction, PayloadKind, RouteSpec
from tests.unit.conftest import World, make_world

ROUTE = "routes:\n  - topic: commands/{device}\n    room: devices/{device}\n    direction: to_device\n"
SWITCH = {"type": "object", "properties": {"switch": {"type": "boolean"}}, "required": ["switch"]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the configuration is; the process works elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "command.json").write_text(json.dumps(SWITCH))
    return tmp_path


def load(folder: Path, text: str) -> Settings:
    (folder / "config.yaml").write_text(text)
    return load_settings(folder / "config.yaml", environment={})


def problem(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    (found,) = caught.value.problems
    return str(found).removeprefix(f"{folder}/")


def test_the_file_is_beside_the_configuration_and_compiled_once(folder: Path) -> None:
    (spec,) = load(folder, ROUTE + "    schema: schemas/command.json\n").route_specs()
    assert spec.accepts is not None
    assert spec.accepts({"switch": True}) is None
    assert spec.accepts({"switch": 1}) == "data.switch: expected boolean, found 1"


def test_a_namespaces_routes_have_schemas_too(folder: Path) -> None:
    inner = "".join(f"    {line}\n" for line in (ROUTE + "    schema: schemas/command.json").splitlines())
    (spec,) = load(folder, f"namespaces:\n  b:\n{inner}").route_specs("b")
    assert spec.accepts is not None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "expected JSON: unexpected end of data: line 1 column 2 (char 1) (in 'command.json')"),
        ('{"$ref": "http://a.example/b"}',
         "$ref: expected a reference into this file, such as #/$defs/level, found 'http://a.example/b' "
         "(in 'command.json')"),
        (" " * 70_000, "expected a file of at most 65536 bytes, found a larger one: "),
    ],
)  # fmt: skip
def test_a_schema_that_is_none_is_told_with_the_line_of_the_route(folder: Path, content: str, told: str) -> None:
    (folder / "schemas" / "command.json").write_text(content)
    found = problem(folder, ROUTE + "    schema: schemas/command.json\n")
    assert found.startswith(f"config.yaml:5:5: routes[0].schema: {told}")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("schema: schemas/none.json", "expected a file, found none: "),
        ("schema: [a]", "expected a file's name, found a list"),
        ("schema: schemas", "expected a file, found a directory: "),
    ],
)
def test_a_file_that_is_none_is_told(folder: Path, line: str, told: str) -> None:
    assert problem(folder, ROUTE + f"    {line}\n").startswith(f"config.yaml:5:5: routes[0].schema: {told}")


def test_a_schema_where_nothing_is_checked_is_refused(folder: Path) -> None:
    to_browser = ROUTE.replace("to_device", "to_browser") + "    schema: schemas/command.json\n"
    assert "found in a route to browsers" in problem(folder, to_browser)
    of_bytes = ROUTE + "    payload: bytes\n    schema: schemas/command.json\n"
    assert "expected another payload than `bytes`" in problem(folder, of_bytes)


def no_number(data: Any) -> str | None:
    return "data: expected no number" if isinstance(data, int) else None


@pytest.fixture
def world() -> World:
    route = RouteSpec(
        "commands/{d}", "devices/{d}", Direction.TO_DEVICE, PayloadKind.AUTO, reply="r/{d}", accepts=no_number
    )
    copy = RouteSpec("copies/{d}", "both/{d}", Direction.TO_DEVICE)
    checked = RouteSpec("checked/{d}", "both/{d}", Direction.TO_DEVICE, accepts=no_number)
    return make_world(routes=[route, copy, checked])


def ignore(outcome: object) -> None:
    pass


def test_what_misfits_is_not_published(world: World) -> None:
    with pytest.raises(BadMessage, match=r"^data: expected no number$"):
        world.namespace.publish(Sending("devices/a", 1), ignore)
    assert world.upstream.published == []
    world.namespace.publish(Sending("devices/a", "x"), ignore)
    assert world.upstream.published == [("commands/a", b"x", 0, False)]


def test_what_one_of_two_routes_refuses_is_not_published_at_all(world: World) -> None:
    with pytest.raises(BadMessage):
        world.namespace.publish(Sending("both/a", 1), ignore)
    assert world.upstream.published == []


def test_what_misfits_is_not_asked(world: World) -> None:
    answers: list[Payload | Exception] = []
    with pytest.raises(BadMessage, match=r"^data: expected no number$"):
        world.namespace.requests.send("me", "devices/a", 1, answers.append)
    assert world.upstream.published == []
    assert len(world.namespace.requests) == 0
    world.namespace.requests.send("me", "devices/a", "x", answers.append)
    assert len(world.upstream.published) == 1


def test_base64_is_no_way_around_a_schema(world: World) -> None:
    with pytest.raises(BadMessage, match=r"^binary: expected data that is no base64"):
        world.namespace.publish(Sending("devices/a", "MQ==", binary=True), ignore)
    with pytest.raises(BadMessage, match=r"^binary: "):
        world.namespace.requests.send("me", "devices/a", "MQ==", ignore, binary=True)
    assert world.upstream.published == []
