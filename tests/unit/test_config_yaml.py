import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.config import ConfigurationError, Settings, load_settings
from gateway.config.problems import Place
from gateway.config.tree import Node
from gateway.config.yaml_source import MAXIMUM_BYTES, read_yaml


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, environment={})
    return list(map(str, caught.value.problems))


def read(text: str) -> Any:
    tree, found = read_yaml(text, "c")
    assert found == []
    return tree.plain()


def test_scalars_stay_text_but_for_null() -> None:
    assert read("{a: 1, b: 0123, c: yes, d: 2001-01-01, e: 'null', f: ~, g: null, h: , i: '', 1: 1:30:00}") == {
        "a": "1", "b": "0123", "c": "yes", "d": "2001-01-01", "e": "null", "f": None, "g": None, "h": None, "i": "",
        "1": "1:30:00",
    }  # fmt: skip


def test_every_value_knows_its_line_and_column() -> None:
    tree, _ = read_yaml("a:\n  - b: 1\n    c: [x,\n      y]\n", "c")

    assert tree.find("a").place == Place("c", 1, 1)
    assert tree.find("a", 0).place == Place("c", 2, 5)
    assert tree.find("a", 0, "c").place == Place("c", 3, 5)
    assert tree.find("a", 0, "c", 1).place == Place("c", 4, 7)
    assert tree.find("a", 0, "missing", 7).place == Place("c", 2, 5)
    assert tree.find("a", 9).place == Place("c", 1, 1)


def test_mappings_merge_and_of_all_else_the_upper_one_wins() -> None:
    lower, upper = (
        Node.of({"a": {"b": 1, "c": [1, 2]}, "d": 1}, Place("l")),
        Node.of({"a": {"c": [3]}, "d": {"e": 1}}, Place("u")),
    )

    merged = lower.overlaid(upper)

    assert merged.plain() == {"a": {"b": 1, "c": [3]}, "d": {"e": 1}}
    assert merged.find("a", "b").place == Place("l")
    assert merged.find("a", "c", 0).place == merged.find("d").place == Place("u")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("listen: {port: 1\n", "2:1: expected `}` before the end of the file (opened in line 1)"),
        ("origins: [a b\nroutes: []", "2:7: expected `,` or `]`: between brackets, quote text that contains one "
         "(opened in line 1)"),
        ("a: b: c", "1:5: expected no `:` here: check the indentation, or quote text that contains `: `"),
        ("listen:\n\tport: 1", "2:1: expected spaces, found a tab"),
        ("a: @b", "1:4: expected quotes around text that starts with @"),
        ("a: %b", "1:4: expected quotes around text that starts with %"),
        ("%%", "1:2: expected quotes around text that starts with %"),
        ("a: 1\nb\n", "3:1: expected `key: value` before this line"),
        ("a: b\n- c", "2:1: expected no list item here: check the indentation"),
        ("a:\n  - b\n c: 1", "3:2: expected a new line with the indentation of the lines above"),
        ('a: "b\n\nc', "3:2: expected the closing quotation mark (opened in line 1)"),
        ('a: "\\q"', "1:6: expected an escape such as \\n, or single quotes"),
        ('a: "\\UFFFFFFFF"', "1:7: expected an escape that stands for a character"),
        ("a: -\n- b", "1:4: expected a list item on a line of its own"),
        ("a: ]", "1:4: expected a value"),
        ("a: b\nc: \x07", "2:4: expected text without control characters"),
        ("a: &", "1:5: expected quotes around text that starts with & or *"),
        ("a: 1\n...\nfoo", "3:1: expected one document"),
        ("a: !<", "1:6: expected quotes around text that starts with !"),
        ("a: |x\n", "1:5: expected YAML"),
        ("listen: {}\n---\nlisten: {}", "2:1: expected one document, found a second one"),
        ("- a", "1:1: expected a mapping (`key: value`) at the top, found a list"),
        ("hello", "1:1: expected a mapping (`key: value`) at the top, found text"),
        ("? [a]\n: b", "1:3: expected text as the key, found a list or mapping"),
        ("a:\n  <<: *b", "2:7: a.'<<': expected no alias (*): repeat the value, or quote text that starts with *"),
        ("a:\n  b: &c 1", "2:6: a.b: expected no anchor (&): leave it out, or quote text that starts with &"),
        ("a:\n - b: !!python/object/apply:os.system [ls]", "2:7: a[0].b: expected no tag (!): leave it out, or quote "
         "text that starts with !"),
        ("listen: {port: 1}\nbroker: {}\nlisten: {port: 2}",
         "3:1: listen: expected each key once, found it in line 1 too"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_yaml_as_taken_here_says_where_and_what_was_expected(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)

    assert problems(path) == [f"{path}:{problem}"]


def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path.write_text("\n".join(lines))

    assert problems(path) == [f"{path}:1:5: a0: expected no anchor (&): leave it out, or quote text that starts with &"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "[1, "])
def test_deep_nesting_is_refused_before_it_is_read(tmp_path: Path, opening: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a:\n " + opening * (500_000 // len(opening)))

    (problem,) = problems(path)
    assert problem.endswith("expected at most 32 levels of nesting, found more")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbflisten: {port: 1}")

    assert load_settings(path, environment={}).listen.port == 1


def test_text_that_is_not_utf_8_says_where(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("listen:\n  host: zürich".encode("latin-1"))

    assert problems(path) == [f"{path}:2:10: expected text in UTF-8"]


def test_a_file_that_is_not_there_or_a_folder_or_too_large_is_told(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAXIMUM_BYTES + 1))

    assert problems(tmp_path / "none.yaml") == [f"{tmp_path}/none.yaml: expected a file, found none"]
    assert problems(large / "x") == [f"{large}/x: expected a file, found none"]
    assert problems(tmp_path) == [f"{tmp_path}: expected a file, found a directory"]
    assert problems(large) == [f"{large}: expected a file of at most 1048576 bytes, found a larger one"]


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.touch(mode=0)
    if os.access(path, os.R_OK):  # the superuser may read everything but not this
        path = Path("/proc/self/mem")

    (problem,) = problems(path)
    assert problem.startswith(f"{path}: expected a file that ")


def test_wrong_variables_are_told_even_if_the_file_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "none", environment={"TIDEGATE_COLOUR": "red"})

    assert [problem.source for problem in caught.value.problems] == [str(tmp_path / "none"), "TIDEGATE_COLOUR"]


KEYS = st.sampled_from(
    [
        *Settings.model_fields,
        *(key for field in Settings.model_fields.values() for key in getattr(field.annotation, "model_fields", {})),
        *("url", "protocol", "username", "password", "password_file", "ca_file", "certificate_file", "key_file"),
        *("session", "client_id", "status_topic", "topic", "room", "direction", "payload", "qos", "upstream"),
        *("plant", "_env_file", "self", "__pydantic_self__", ""),
    ]
)
SCALARS = st.one_of(
    st.text(max_size=10),
    st.sampled_from(["1", "-1", "0", "64 KiB", "nan", "inf", "9" * 5000, "1e999", "true", "null", "~", "a/{b}", "a/+"]),
    st.sampled_from(["mqtt://h", "mqtts://h", "ws://[::1", "mqtt://\u2100", "https://a", "::1", "5", "both", "plant"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def written(value: Any) -> str:
    """As YAML in one line; text is sometimes quoted, sometimes not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key or '?'}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return str(value)


def loads_or_says_why(text: str) -> None:
    path = Path("config.yaml")
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_settings(path, environment={})
    except ConfigurationError as error:
        assert error.problems
        assert all(len(line) < 1000 and line.isprintable() for line in map(str, error.problems)), str(error)
        assert all("another value" not in problem.message for problem in error.problems), str(error)


@pytest.fixture(scope="module")
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("empty"))
    yield
    os.chdir(before)


@pytest.mark.usefixtures("empty_folder")
@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=st.sampled_from("abz019 \n\t:-?,[]{}#&*!|>'\"%@`~\\/xuU\x00\ud800é")) | st.text())
@example('a: "\\UFFFFFFFF"')
@example('a: "\\ud800"')
@example('"\\ud800": 1')
@example("%YAML " + "9" * 5000 + ".1\n---\n")
@example("!<%ff> a")
@example("? ")
def test_any_text_loads_or_is_refused_in_words(text: str) -> None:
    loads_or_says_why(text)


@pytest.mark.usefixtures("empty_folder")
@settings(deadline=None, max_examples=500)
@given(st.dictionaries(st.sampled_from(list(Settings.model_fields)), VALUES, max_size=4))
@example({"upstreams": {"plant": {"url": "mqtt://h", "username": '"\\ud800"'}}})
@example({"routes": [{"topic": '"\\ud800"', "room": "x"}]})
@example({"upstreams": {"plant": {"url": "mqtts://h", "ca_file": '"\\ud800"'}}})
@example({"listen": {"port": "9" * 5000, "host": '"\\0"'}})
@example({"limits": {"message_bytes": "9" * 5000, "messages_per_second": "1e999"}})
def test_any_configuration_loads_or_is_refused_in_words(data: dict[str, Any]) -> None:
    loads_or_says_why("\n".join(f"{key}: {written(value)}" for key, value in data.items()))


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(KEYS.map(lambda key: f"TIDEGATE_{key.upper()}"), SCALARS, max_size=3))
@example({"TIDEGATE_LISTEN__HOST": "\udcff", "TIDEGATE_\udcff": "x", "TIDEGATE_UPSTREAMS__\udcff__URL": "mqtt://h"})
@example({"TIDEGATE_UPSTREAMS__A__USERNAME": "\udcff", "TIDEGATE_UPSTREAMS__A__CA_FILE": "\udcff"})
@example({"TIDEGATE_ROUTES": "[" * 5000})
@example({"TIDEGATE_ROUTES": "[" * 1000 + "]" * 1000})
@example({"TIDEGATE_LIMITS": '{"connections": NaN}'})
@example({"TIDEGATE_LIMITS": '{"connections": 1e999, "message_bytes": 1.5}'})
@example({"TIDEGATE_UPSTREAMS__PLANT": '{"url": 5, "password": 7, "username": true}'})
def test_any_environment_loads_or_is_refused_in_words(environment: dict[str, str]) -> None:
    try:
        load_settings(None, environment=environment)
    except ConfigurationError as error:
        assert all("another value" not in problem.message for problem in error.problems), str(error)
