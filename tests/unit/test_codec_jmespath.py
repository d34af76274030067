"""`transform`: what is made of data by an expression, and that no expression and no data keeps anybody waiting."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.codec_jmespath import UnfitExpression, compile_transform
from gateway.core.codec import Payload, PayloadError, PayloadKind
from gateway.core.payload import decoder, reshape
from tests.unit.test_codecs import JSON


@pytest.mark.parametrize(
    ("expression", "data", "made"),
    [
        ("{temperature: t, unit: 'C'}", {"t": 21, "x": 1}, {"temperature": 21, "unit": "C"}),
        ("a.b", {"a": {"b": [1]}}, [1]),
        ("readings[?ok].value", {"readings": [{"ok": True, "value": 1}, {"ok": False, "value": 2}]}, [1]),
        ("nothing", {"t": 21}, None),
        ("to_number(@)", "21.5", 21.5),
        ("value", [1], None),
    ],
)
def test_fields_are_picked_and_renamed(expression: str, data: Any, made: Any) -> None:
    assert compile_transform(expression)(data) == made


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("((", "a JMESPath expression"),
        ("", "a JMESPath expression"),
        ("{a:", "a JMESPath expression"),
        ("(" * 900, "a JMESPath expression"),
        ("!" * 900 + "a", "a JMESPath expression"),
        ("@" + "|[@,@]" * 100, "at most 64 levels"),
        ("a" * 2001, "at most 2000 characters"),
    ],
)
def test_an_expression_that_is_none_or_too_much_is_refused(expression: str, told: str) -> None:
    with pytest.raises(UnfitExpression, match=told):
        compile_transform(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "@" + "|[@,@]" * 30,  # says much by sharing
        "@" + "|[@,@][]" * 20,  # doubles a list each time
        "to_string(@)" + "|join('',[@,@])" * 20,  # and a text
        "[" + ",".join(["@"] * 400) + "][]|[" + ",".join(["@"] * 400) + "][]",
    ],
)
def test_an_evaluation_ends(expression: str) -> None:
    with pytest.raises(PayloadError, match="transform: expected"):
        compile_transform(expression)([{"some": "data", "n": list(range(100))}])


def test_steps_count_though_little_comes_of_them() -> None:
    with pytest.raises(PayloadError, match="at most 50000 steps"):
        compile_transform("@" + "|[@,@][]" * 20 + "|length(@)")([1] * 100)


@pytest.mark.parametrize("expression", ["sort(@)", "avg(@)", "abs(t)", "nosuch(@)", "sum(t)", "keys(t)", "length(`1`)"])
def test_a_function_that_meets_other_data_is_a_bad_payload(expression: str) -> None:
    with pytest.raises(PayloadError, match="transform: "):
        compile_transform(expression)({"t": "x"})


@given(
    JSON,
    st.sampled_from(["[].a", "*.b | [0]", "sort_by(@, &a)", "max(@)", "{a: a, n: length(@)}", "to_array(@)", "&a"]),
)
def test_whatever_data_comes_there_is_json_or_an_error(data: Any, expression: str) -> None:
    try:
        made = reshape(orjson.dumps(data), compile_transform(expression))
    except PayloadError as error:
        assert "\n" not in str(error).splitlines()[0]
        return
    orjson.loads(made)


def test_bytes_have_nothing_to_pick_from() -> None:
    decode = decoder(PayloadKind.AUTO, compile_transform("{value: @}"))
    assert decode is not None
    assert decode(b"21") == Payload(b'{"value":21}')
    assert decode(b"ON") == Payload(b'{"value":"ON"}')
    with pytest.raises(PayloadError, match="found bytes"):
        decode(b"\xff")


def test_two_routes_that_say_the_same_share_what_was_decoded() -> None:
    assert decoder(PayloadKind.JSON) is decoder(PayloadKind.JSON)
    one, other = (decoder(PayloadKind.JSON, compile_transform("a")) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != decoder(PayloadKind.JSON, compile_transform("b"))
