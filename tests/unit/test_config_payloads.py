"""`payload`, `transform` and `transform_to_device` of routes: how they are loaded, and what is wrong with them."""

from pathlib import Path

import cbor2
import orjson
import pytest
import yaml

from gateway.config import ConfigurationError, Settings, load_settings
from gateway.config.changes import changed_keys
from gateway.config.load import named_files
from gateway.config.show import show
from gateway.core.codec import Codec, Dialect, PayloadKind
from tests.descriptors import descriptors

ROUTE = "routes:\n  - topic: t/{d}\n    room: r/{d}\n"
READING = "    payload: {protobuf: {descriptor_file: files/plant.desc, message: plant.Reading}}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the configuration is; the process works elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "plant.desc").write_bytes(descriptors())
    return tmp_path


def load(folder: Path, text: str) -> Settings:
    (folder / "config.yaml").write_text(text)
    return load_settings(folder / "config.yaml", environment={})


def problem(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    (found,) = caught.value.problems
    return str(found).removeprefix(f"{folder}/")


@pytest.mark.parametrize("written", ["cbor", "{kind: cbor}"])
def test_a_word_names_a_codec(folder: Path, written: str) -> None:
    (spec,) = load(folder, f"{ROUTE}    payload: {written}\n").route_specs()
    assert isinstance(spec.payload, Codec)
    assert spec.payload.decode(cbor2.dumps(1)).data == b"1"


@pytest.mark.parametrize("kind", PayloadKind)
def test_the_words_of_before_mean_what_they_meant(folder: Path, kind: PayloadKind) -> None:
    (spec,) = load(folder, f"{ROUTE}    payload: {kind.value}\n").route_specs()
    assert spec.payload is kind


def test_sparkplug_is_a_dialect(folder: Path) -> None:
    text = "routes:\n  - topic: spBv1.0/{g}/{type}/{n}\n    room: p/{g}/{n}/{metric...}\n    payload: sparkplug\n"
    (spec,) = load(folder, text).route_specs()
    assert isinstance(spec.payload, Dialect)


def test_a_descriptor_file_is_beside_the_configuration(folder: Path) -> None:
    settings = load(folder, ROUTE + READING)
    (spec,) = settings.route_specs()
    assert isinstance(spec.payload, Codec)
    assert orjson.loads(spec.payload.decode(b"").data)["tempC"] == 0
    assert named_files(folder / "config.yaml") == (folder / "files" / "plant.desc",)


def test_a_namespaces_routes_have_descriptor_files_too(folder: Path) -> None:
    inner = "".join(f"    {line}\n" for line in (ROUTE + READING).splitlines())
    (spec,) = load(folder, f"namespaces:\n  b:\n{inner}").route_specs("b")
    assert isinstance(spec.payload, Codec)


def test_names_are_those_of_the_file_if_that_is_wanted(folder: Path) -> None:
    wanted = READING.replace("}}", ", preserving_proto_field_name: true}}")
    (spec,) = load(folder, ROUTE + wanted).route_specs()
    assert isinstance(spec.payload, Codec)
    assert "temp_c" in orjson.loads(spec.payload.decode(b"").data)


ALL = (
    "auto, json, text, bytes, cbor, msgpack, sparkplug, or "
    "`protobuf: {descriptor_file: plant.desc, message: plant.Reading}`"
)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("payload: protobuf", f"5: routes[0].payload: expected {ALL}, found 'protobuf'"),
        ("payload: {kind: xml}", f"5: routes[0].payload: expected {ALL}, found 'xml'"),
        ("payload: {}", None),
        ("payload: [cbor]", f"5: routes[0].payload: expected {ALL}, found a list"),
        ("payload: {kind: cbor, protobuf: {descriptor_file: files/plant.desc, message: plant.Reading}}",
         "5: routes[0].payload: expected `kind` or `protobuf`, found both"),
        ("payload: {protobuf: {message: a}}",
         "payload.protobuf.descriptor_file: missing: expected such as `descriptor_file: plant.desc`"),
        ("payload: {protobuf: {descriptor_file: none.desc, message: a}}",
         "26: routes[0].payload.protobuf.descriptor_file: expected a file, found none: "),
        ("payload: {protobuf: {descriptor_file: files/plant.desc, message: plant.No}}",
         "15: routes[0].payload.protobuf: expected a message of the descriptor file ("),
        ("payload: {protobuf: {descriptor_file: config.yaml, message: a}}",
         "15: routes[0].payload.protobuf: expected a descriptor file, as `protoc --descriptor_set_out"),
        ("payload: {protobuf: {descriptor_fil: x}}", "did you mean `descriptor_file`?"),
        ("transform: '{a:'", "5: routes[0].transform: expected a JMESPath expression: "),
        ("transform: [a]", "5: routes[0].transform: expected a JMESPath expression such as"),
        ("payload: bytes\n    transform: a", "expected another payload than `bytes` beside it"),
        ("transform_to_device: a", "5: routes[0].transform_to_device: found in a route to browsers: expected"),
        ("payload: sparkplug", "routes[0].topic: expected as the topic of sparkplug `spBv1.0/{group}/{type}/{node}`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(folder: Path, lines: str, told: str | None) -> None:
    text = f"{ROUTE}    {lines}\n"
    if told is None:
        load(folder, text)
        return
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    assert any(told in str(found) for found in caught.value.problems)


def test_a_route_whose_payload_is_wrong_is_checked_for_the_rest(folder: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, "routes:\n  - {topic: 't/{d}', room: 'r/{x}', payload: xml}\n")
    assert [found.key for found in caught.value.problems] == ["routes[0].room", "routes[0].payload"]


SHOWN = (
    ROUTE
    + READING
    + "    transform: '{a: tempC}'\n  - {topic: c, room: c, direction: to_device, payload: msgpack,"
    + " transform_to_device: a.b}\n"
)


def test_what_is_shown_is_a_configuration_of_the_same_effect(folder: Path) -> None:
    settings = load(folder, SHOWN)
    routes = yaml.safe_load(show(settings))["routes"]
    assert routes[0]["payload"]["protobuf"]["descriptor_file"] == str(folder / "files" / "plant.desc")
    assert (routes[0]["transform"], routes[1]["payload"], routes[1]["transform_to_device"]) == (
        "{a: tempC}",
        "msgpack",
        "a.b",
    )
    assert changed_keys(settings, load(folder, show(settings))) == []


def test_a_changed_descriptor_file_is_a_change(folder: Path) -> None:
    settings = load(folder, ROUTE + READING)
    (folder / "files" / "plant.desc").write_bytes(descriptors() + descriptors())
    changed = changed_keys(settings, load(folder, ROUTE + READING))
    assert changed == [("routes", 0, "payload", "protobuf", "descriptor_file")]
