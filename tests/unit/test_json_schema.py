"""JSON Schemas: what is refused at load, what is said of payloads, and that no payload takes long."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.config.json_schema import DRAFTS, UnfitSchema, compile_schema
from gateway.config.schema_keywords import MAXIMUM_STEPS, MAXIMUM_VALUES
from gateway.core.routes import Accepts


def compiled(schema: Any) -> Accepts:
    return compile_schema(orjson.dumps(schema))


COMMAND: dict[str, Any] = {
    "type": "object",
    "properties": {
        "switch": {"type": "boolean"},
        "level": {"type": "number", "minimum": 0, "maximum": 100, "multipleOf": 0.5},
        "mode": {"enum": ["eco", "boost"]},
        "name": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[a-z]+$"},
        "tags": {"type": "array", "maxItems": 3, "uniqueItems": True, "items": {"type": "string"}},
        "never": False,
        "other": {"not": {"type": "null"}},
        "version": {"const": 2},
    },
    "patternProperties": {"^x-": {"type": ["integer", "null"]}},
    "additionalProperties": False,
    "required": ["switch"],
}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"switch": True}, None),
        ({"switch": True, "level": 20.5, "mode": "eco", "name": "abc", "tags": ["a"], "x-a": 1, "other": 0}, None),
        ("on", 'data: expected object, found "on"'),
        ({}, 'data: expected "switch" in it'),
        ({"switch": "on"}, 'data.switch: expected boolean, found "on"'),
        ({"switch": True, "level": -1}, "data.level: expected at least 0, found -1"),
        ({"switch": True, "level": 101}, "data.level: expected at most 100, found 101"),
        ({"switch": True, "level": 0.3}, "data.level: expected a multiple of 0.5, found 0.3"),
        ({"switch": True, "mode": "x"}, 'data.mode: expected one of "eco", "boost", found "x"'),
        ({"switch": True, "name": "ABC"}, 'data.name: expected text that matches "^[a-z]+$", found "ABC"'),
        ({"switch": True, "name": "abc\n"}, 'data.name: expected text that matches "^[a-z]+$", found "abc\\n"'),
        ({"switch": True, "tags": ["a", 1]}, "data.tags[1]: expected string, found 1"),
        ({"switch": True, "tags": ["a", "b", "a"]}, "data.tags: expected no item twice"),
        ({"switch": True, "never": {}}, 'data: expected no property "never"'),
        ({"switch": True, "x-a": "1"}, 'data.x-a: expected integer or null, found "1"'),
        ({"switch": True, "colour": 1}, 'data: expected no property "colour"'),
        ({"switch": True, "a\n\x1b[31m": 1}, 'data: expected no property "a\\n\\u001b[31m"'),
        ({"switch": True, "__proto__": {"x": 1}}, 'data: expected no property "__proto__"'),
        ({"switch": True, "other": None}, "data.other: expected what the schema says by `not`, found null"),
        ({"switch": True, "version": 3}, "data.version: expected 2, found 3"),
        ({"switch": "x" * 1000}, f'data.switch: expected boolean, found "{"x" * 39}…'),
    ],
)
def test_what_misfits_is_told_with_its_path(data: Any, told: str | None) -> None:
    assert compiled(COMMAND)(data) == told


def test_a_whole_number_is_an_integer_however_it_is_written() -> None:
    assert compiled({"type": "integer"})(1.0) is None
    assert compiled({"type": "array", "uniqueItems": True})([1, 1.0]) == "data: expected no item twice"
    assert compiled({"type": "array", "uniqueItems": True})([1, True, "1", [1], {"a": 1}]) is None


def test_objects_are_the_same_in_any_order_of_their_keys() -> None:
    unique = compiled({"uniqueItems": True})
    assert unique([{"a": 1, "b": 2}, {"b": 2, "a": 1.0}]) == "data: expected no item twice"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"{", "expected JSON: "),
        (b"\xff", "expected JSON: "),
        (b"[]", "expected a JSON object, found a list"),
        (b'{"type": "boolan"}', "type: 'boolan' is not "),
        (b'{"properties": {"a": {"minimum": "x"}}}', "properties.a.minimum: 'x' is not of type 'number'"),
        (b'{"$schema": "http://example.org/mine"}', "$schema: expected http"),
        (b'{"$schema": 5}', "$schema: expected http"),
        (b'{"not": {"$schema": "http://json-schema.org/draft-07/schema"}}', "expected `$schema` only at the top"),
        (b'{"$ref": "https://example.org/other.json"}', "$ref: expected a reference into this file"),
        (b'{"$ref": "http://127.0.0.1:1/x"}', "$ref: expected a reference into this file"),
        (b'{"$ref": "file:///etc/passwd"}', "$ref: expected a reference into this file"),
        (b'{"$ref": "other.json"}', "$ref: expected a reference into this file"),
        (b'{"$ref": "https://json-schema.org/draft/2020-12/schema"}', "$ref: expected a reference into this file"),
        (b'{"$id": "https://a.example/b.json", "properties": {"a": {"$ref": "c.json"}}}', "$ref: expected a reference"),
        (b'{"$ref": "#/$defs/none"}', "$ref: expected a reference into this file"),
        (b'{"$ref": "#/x", "x": {"items": {"$ref": "#/y"}}}', "$ref: expected a reference into this file"),
        (b'{"$dynamicRef": "https://example.org/#a"}', "$dynamicRef: expected a reference into this file"),
        (b'{"$ref": "#"}', "$ref: expected an end, found a schema that refers to itself without one"),
        (b'{"pattern": "("}', "pattern: "),
        (b'{"pattern": "(?=a)b"}', "schema: pattern: expected a regular expression without lookaround"),
        (b'{"properties": {"a": {"pattern": "(a)\\\\1"}}}', "schema: pattern: expected a regular expression"),
        (b'{"$ref": "#/x", "x": {"pattern": "(?=a)b"}}', "#/x: pattern: expected a regular expression"),
        (b'{"patternProperties": {"(?=a)b": true}}', "schema: pattern: expected a regular expression"),
        (b'{"patternProperties": {"a": true}, "unevaluatedProperties": false}', "schema: expected `additionalProp"),
        (b'{"unevaluatedProperties": false, "allOf": [{"patternProperties": {"a": true}}]}', "expected `additional"),
        (b'{"allOf": [{"patternProperties": {"a": true}}], "unevaluatedProperties": false}', "expected `additional"),
        (b'{"unevaluatedProperties": false, "$ref": "#/x", "x": {"patternProperties": {"a": true}}}', "expected `add"),
        (b'{"allOf": [{"unevaluatedProperties": false}], "patternProperties": {"a": true}}', "expected `additio"),
        (b'{"items":' * 65 + b"true" + b"}" * 65, "expected at most 64 levels of nesting, found more"),
        (b'{"items":' * 5000 + b"true" + b"}" * 5000, "expected JSON: depth limit"),
    ],
)  # fmt: skip
def test_a_schema_that_is_none_is_refused_in_plain_words(text: bytes, told: str) -> None:
    with pytest.raises(UnfitSchema) as caught:
        compile_schema(text)

    assert told in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("draft", [*DRAFTS, *(f"{draft}#" for draft in DRAFTS)])
def test_the_draft_that_a_schema_names_is_respected(draft: str) -> None:
    """`items` as a list is of old drafts, `prefixItems` of the newest, where 2020-12 forbids such `items`."""
    accepts = compiled({"$schema": draft, "prefixItems": [{"type": "string"}]})
    assert (accepts([1]) is None) == ("2020-12" not in draft)


def test_a_reference_within_the_file_is_followed() -> None:
    tree = {"$defs": {"tree": {"properties": {"next": {"$ref": "#/$defs/tree"}, "size": {"type": "integer"}}}}}
    accepts = compiled({**tree, "$ref": "#/$defs/tree"})
    assert accepts({"next": {"next": {"size": 1}}}) is None
    assert accepts({"next": {"next": {"size": "1"}}}) == 'data.next.next.size: expected integer, found "1"'


def test_the_references_of_a_schema_with_a_name_are_those_of_its_file() -> None:
    schema = {"$id": "https://a.example/b.json", "$ref": "b.json#/$defs/a", "$defs": {"a": {"type": "string"}}}
    assert compiled(schema)("x") is None
    assert compiled(schema)(1) is not None


DOUBLING = {
    "properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}},
    "required": ["b"],
}


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {}


ANY = {"type": "array", "items": {"type": ["object", "array", "integer"]}}
HOSTILE: dict[str, tuple[Any, Any]] = {
    "a pattern that others try for ever": ({"pattern": "^(a+)+$"}, "a" * 60_000 + "b"),
    "a pattern with many ways": ({"pattern": "^(a|a)*(a|aa)*b$"}, "a" * 60_000),
    "a pattern for names": ({"patternProperties": {"^(a+)+$": True}, "additionalProperties": False}, {"a" * 60_000: 1}),
    "more items than steps": (ANY, [1] * (MAXIMUM_STEPS - 10)),
    "more values than are looked at": (ANY, [1] * (MAXIMUM_VALUES + 1)),
    "many objects that are to differ": ({"uniqueItems": True}, [{"a": number} for number in range(2000)]),
    "a check that doubles with each level": ({**DOUBLING}, {"b": 1, **nested(50)}),
    "many levels": (ANY, orjson.loads(b"[" * 1000 + b"]" * 1000)),
    "many names and patterns": (
        {"patternProperties": {f"{number}$": True for number in range(100)}},
        {f"x{number}": 1 for number in range(2000)},
    ),
    "a large object told of at every level": (
        {"anyOf": [{"type": "string"}] * 2000},
        {f"{number}": "x" * 20 for number in range(2000)},
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.timeout(10)
def test_no_payload_takes_long(what: str) -> None:
    """Without the bounds, each of these takes minutes, or a tenth of the memory there is."""
    schema, data = HOSTILE[what]
    told = compiled(schema)(data)
    assert told is None or len(told) < 300


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("a check that doubles with each level", f"data: expected what can be checked in {MAXIMUM_STEPS} steps"),
        ("more values than are looked at", f"data: expected at most {MAXIMUM_VALUES} values, found more"),
        ("many levels", "data: expected at most 64 levels of nesting, found more"),
        ("many names and patterns", f"data: expected what can be checked in {MAXIMUM_STEPS} steps"),
    ],
)
def test_what_would_take_too_long_is_refused(what: str, told: str) -> None:
    schema, data = HOSTILE[what]
    assert (compiled(schema)(data) or "").startswith(told)


def test_each_check_has_steps_of_its_own() -> None:
    accepts = compiled(ANY)
    for _ in range(3):
        assert accepts([1] * (MAXIMUM_STEPS - 10)) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 1.0, "a", "ab", "x-a", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "x-a", "switch"]), inner),
    max_leaves=8,
)
SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"]),
        "properties": st.dictionaries(st.sampled_from(["a", "b"]), st.just({"type": "integer"}) | st.booleans()),
        "patternProperties": st.dictionaries(st.sampled_from(["^x-", "b$"]), st.just({"type": "string"})),
        "additionalProperties": st.booleans() | st.just({"type": "boolean"}),
        "pattern": st.sampled_from(["^a", "b$", "x"]),
        "uniqueItems": st.booleans(),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "required": st.lists(st.sampled_from(["a", "b"]), unique=True),
        "anyOf": st.just([{"type": "string"}, {"minItems": 1}]),
    },
)


@given(SCHEMAS, VALUES)
def test_the_bounded_check_agrees_with_the_librarys_own(schema: dict[str, Any], data: Any) -> None:
    assert (compiled(schema)(data) is None) == Draft202012Validator(schema).is_valid(data)
