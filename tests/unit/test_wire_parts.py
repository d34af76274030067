import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wire_parts import data_of, last_values

texts = st.text(
    st.sampled_from('ab"\\[]{},:') | st.characters(exclude_categories=["Cs"]), max_size=12
) | st.sampled_from([',"data":', ',"cursor":"', ',"last":['])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(texts, values)
def test_data_is_cut_out_as_it_stands(room: str, value: object) -> None:
    text = b" " + orjson.dumps(value)
    fields = {"type": "message", "room": room, "topic": room, "data": orjson.Fragment(text), "cursor": "e-1"}
    assert data_of(orjson.dumps(fields)) == text


@given(texts, st.lists(st.dictionaries(texts, values, max_size=3), max_size=3))
def test_last_values_are_cut_out_one_by_one(room: str, messages: list[object]) -> None:
    fields = {"type": "subscribed", "room": room, "recovered": False, "last": messages}
    assert list(last_values(orjson.dumps(fields))) == [orjson.dumps(message) for message in messages]
