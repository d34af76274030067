"""Sparkplug B: what births, data and deaths say, in order or not, and how little of it is remembered."""

import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges import codec_sparkplug, codec_sparkplug_values
from bridges.codec_sparkplug import SPARKPLUG, SparkplugListener
from bridges.codec_sparkplug_schema import make_payload_class
from gateway.core.codec import PayloadError, Told
from gateway.core.counters import Counters
from gateway.core.topics import Pattern
from tests.sparkplug import birth, payload

BIRTH = "spBv1.0/g/NBIRTH/n"
DATA = "spBv1.0/g/NDATA/n"
DEATH = "spBv1.0/g/NDEATH/n"
DEVICE_BIRTH = "spBv1.0/g/DBIRTH/n/d"
DEVICE_DATA = "spBv1.0/g/DDATA/n/d"
DEVICE_DEATH = "spBv1.0/g/DDEATH/n/d"


class Heard:
    """A listener with what it counts."""

    def __init__(self) -> None:
        self.counters = Counters()
        self._listener = SparkplugListener(self.counters)

    def __call__(self, topic: str, raw: Any, upstream: str = "plant") -> Told:
        told = self._listener.hear(upstream, topic, raw if isinstance(raw, bytes) else raw.SerializeToString())
        assert told is not None
        return told

    def nothing(self, topic: str, raw: bytes) -> bool:
        return self._listener.hear("plant", topic, raw) is None

    @property
    def dropped(self) -> dict[str, int]:
        return dict(self.counters.drops)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def parts(told: Told) -> dict[str, Any]:
    return {part.name: orjson.loads(part.data)["value"] for part in told.parts}


def test_aliases_are_those_of_the_birth_certificate(heard: Heard) -> None:
    heard(BIRTH, birth(0, ("Temperature/Inlet", 1, "Double", 20.5)))
    told = heard(DATA, payload((1, None, 21.5), seq=1))
    assert parts(told) == {"Temperature/Inlet": 21.5}
    assert orjson.loads(told.parts[0].data) == {"value": 21.5, "datatype": "Double"}
    assert told.topic == DATA
    assert orjson.loads(told.whole or b"") == {
        "type": "NDATA",
        "timestamp": 1_700_000_000_000,
        "seq": 1,
        "metrics": {"Temperature/Inlet": {"value": 21.5, "datatype": "Double"}},
    }


def test_a_devices_aliases_are_its_own(heard: Heard) -> None:
    heard(BIRTH, birth(0, ("of the node", 1, "Double", 0.0)))
    heard(DEVICE_BIRTH, birth(None, ("of the device", 1, "Double", 0.0), seq=1))
    assert parts(heard(DEVICE_DATA, payload((1, None, 2.0), seq=2))) == {"of the device": 2.0}
    assert parts(heard(DATA, payload((1, None, 3.0), seq=3))) == {"of the node": 3.0}
    assert heard.dropped == {}


def test_an_alias_that_nobody_knows_is_left_out_and_counted(heard: Heard) -> None:
    assert parts(heard(DATA, payload((7, None, 1.0), ("named", None, 2.0), seq=5))) == {"named": 2.0}
    heard(BIRTH, birth(0, ("a", 1, "Double", 0.0)), upstream="other")
    assert parts(heard(DATA, payload((1, None, 1.0), seq=6))) == {}
    assert heard.dropped == {"sparkplug_unknown_alias": 2}


def test_births_and_deaths_say_who_is_there(heard: Heard) -> None:
    assert heard(BIRTH, birth(3)).here == (BIRTH,)
    assert heard(DEVICE_BIRTH, birth(None, seq=1)).here == (DEVICE_BIRTH,)
    told = heard(DEVICE_DEATH, payload(seq=2))
    assert (told.here, told.gone) == ((), (DEVICE_BIRTH,))
    heard(DEVICE_BIRTH, birth(None, seq=3))
    assert set(heard(DEATH, birth(3)).gone) == {BIRTH, DEVICE_BIRTH}


def test_the_death_of_a_session_before_this_one_is_no_news(heard: Heard) -> None:
    heard(BIRTH, birth(4))
    assert heard.nothing(DEATH, birth(3))
    assert heard.dropped == {"sparkplug_stale_death": 1}
    assert heard(DEATH, birth(4)).gone == (BIRTH,)


def test_a_death_may_speak_of_metrics_by_their_aliases(heard: Heard) -> None:
    heard(BIRTH, birth(4, ("t", 1, "Double", 0.0)))
    assert parts(heard(DEATH, payload((1, None, 2.0)))) == {"t": 2.0}


def test_a_death_without_a_birth_is_believed(heard: Heard) -> None:
    assert heard(DEATH, birth(9)).gone == (BIRTH,)


def test_a_node_that_comes_back_has_no_devices_until_they_are_born(heard: Heard) -> None:
    heard(BIRTH, birth(1))
    heard(DEVICE_BIRTH, birth(None, ("a", 1, "Double", 0.0), seq=1))
    assert heard(BIRTH, birth(1)).gone == ()  # it was asked to say it again
    assert heard(BIRTH, birth(2)).gone == (DEVICE_BIRTH,)
    assert parts(heard(DEVICE_DATA, payload((1, None, 1.0), seq=1))) == {}


def test_gaps_in_the_sequence_of_a_node_and_its_devices_are_counted(heard: Heard) -> None:
    heard(BIRTH, birth(0, seq=0))
    heard(DEVICE_BIRTH, birth(None, seq=1))
    heard(DATA, payload(seq=2))
    assert heard.dropped == {}
    heard(DATA, payload(seq=5))
    heard(DEVICE_DATA, payload(seq=6))
    assert heard.dropped == {"sparkplug_gap": 1}
    heard(BIRTH, birth(1, seq=0))  # begins anew
    assert heard.dropped == {"sparkplug_gap": 1}


def test_the_sequence_starts_again_after_255(heard: Heard) -> None:
    heard(DATA, payload(seq=255))
    heard(DATA, payload(seq=0))
    assert heard.dropped == {}


def test_commands_and_other_topics_say_nothing(heard: Heard) -> None:
    assert heard.nothing("spBv1.0/g/NCMD/n", b"")
    assert heard.nothing("spBv1.0/g/DCMD/n/d", b"")
    assert heard.nothing("spBv1.0/STATE/host", b"{}")
    assert heard.nothing("sensors/g/NDATA/n", b"\xff")
    assert heard.dropped == {"sparkplug_command": 2}


@pytest.mark.parametrize("topic", ["spBv1.0/g/NOTHING/n", "spBv1.0/g/DDATA/n", "spBv1.0/g/NDATA/n/d"])
def test_a_type_that_isnt_one_is_told(heard: Heard, topic: str) -> None:
    with pytest.raises(PayloadError, match="NBIRTH, NDATA, NDEATH, NCMD, or with /DEVICE DBIRTH"):
        heard(topic, b"")


@pytest.mark.parametrize(
    ("datatype", "value", "said"),
    [
        ("Int8", 0xFF, -1),
        ("Int8", 0xFFFFFFFF, -1),
        ("Int8", 127, 127),
        ("Int32", 2**32 - 1, -1),
        ("Int64", 2**63, -(2**63)),
        ("Int64", 2**64 - 1, -1),
        ("UInt64", 2**64 - 1, 2**64 - 1),
        ("Float", 0.5, 0.5),
        ("Float", float("nan"), None),
        ("Double", float("inf"), None),
        ("Boolean", True, True),
        ("String", "ON\n", "ON\n"),
        ("DateTime", 1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        ("Bytes", b"\x01\x02", "AQI="),
        ("Double", None, None),
    ],
)
def test_values_are_of_their_datatypes(heard: Heard, datatype: str, value: Any, said: Any) -> None:
    assert parts(heard(DATA, payload(("m", datatype, value)))) == {"m": said}


@pytest.mark.parametrize(
    ("number", "raw", "said"),
    [
        (22, b"\xff\x01", [-1, 1]),
        (25, struct.pack("<2q", -(2**63), 5), [-(2**63), 5]),
        (29, struct.pack("<Q", 2**64 - 1), [2**64 - 1]),
        (31, struct.pack("<2d", 0.5, float("nan")), [0.5, None]),
        (32, b"\x0a\0\0\0\x80\x40", [True, *[False] * 8, True]),
        (33, b"a\0\xc3\xa9\0", ["a", "é"]),
        (34, struct.pack("<q", 0), ["1970-01-01T00:00:00.000Z"]),
    ],
)
def test_arrays_are_lists(heard: Heard, number: int, raw: bytes, said: Any) -> None:
    made = make_payload_class()()
    made.metrics.add(name="m", datatype=number, bytes_value=raw)
    assert parts(heard(DATA, made)) == {"m": said}


@pytest.mark.parametrize(
    ("number", "raw"),
    [(25, b"\0"), (32, b"\xff\xff\xff\xff"), (33, b"a"), (33, b"\xff\0"), (34, b"\xff" * 7 + b"\x7f")],
)
def test_an_array_that_is_none_is_refused_but_a_birth_is_one_all_the_same(
    heard: Heard, number: int, raw: bytes
) -> None:
    made = make_payload_class()()
    made.metrics.add(name="m", datatype=number, bytes_value=raw)
    told = heard(BIRTH, made)
    assert told.error is not None
    assert told.here == (BIRTH,)
    assert (told.whole, told.parts) == (None, ())


def test_names_that_are_no_utf8_are_refused_but_a_birth_is_one_all_the_same(heard: Heard) -> None:
    told = heard(BIRTH, b"\x12\x04\x0a\x02\xff\xfe")
    assert "UTF-8" in str(told.error)
    assert told.here == (BIRTH,)


def test_data_sets_templates_and_properties_are_objects(heard: Heard) -> None:
    made = make_payload_class()()
    table = made.metrics.add(name="table", datatype=16).dataset_value
    table.columns.extend(["a", "b"])
    table.types.extend([1, 12])
    row = table.rows.add()
    row.elements.add(int_value=255)
    row.elements.add(string_value="x")
    template = made.metrics.add(name="pump", datatype=19).template_value
    template.template_ref = "Pump"
    template.metrics.add(name="rpm", datatype=3, int_value=2**32 - 5)
    template.parameters.add(name="size", type=10, double_value=1.5)
    metric = made.metrics.add(name="t", datatype=10, double_value=1.0, timestamp=5, is_historical=True)
    metric.properties.keys.append("unit")
    metric.properties.values.add(type=12, string_value="C")
    told = heard(DATA, made)
    assert parts(told) == {
        "table": {"columns": ["a", "b"], "types": ["Int8", "String"], "rows": [[-1, "x"]]},
        "pump": {"template": "Pump", "metrics": {"rpm": -5}, "parameters": {"size": 1.5}},
        "t": 1.0,
    }
    assert told.parts[2].past
    said = {"value": 1.0, "datatype": "Double", "timestamp": 5, "historical": True, "properties": {"unit": "C"}}
    assert orjson.loads(told.parts[2].data) == said


ANY = SparkplugListener(Counters())
"""Whatever it has heard before."""


@given(st.sampled_from([BIRTH, DATA, DEATH, DEVICE_BIRTH, DEVICE_DATA, DEVICE_DEATH]), st.binary(max_size=200))
def test_whatever_bytes_come_they_are_json_or_an_error(topic: str, raw: bytes) -> None:
    try:
        told = ANY.hear("plant", topic, raw)
    except PayloadError:
        return
    if told is None:
        return
    for text in (told.whole, *(part.data for part in told.parts)):
        if text is not None:
            orjson.loads(text)


def templates(depth: int) -> Any:
    made = make_payload_class()()
    metric = made.metrics.add(name="m", datatype=19)
    for _ in range(depth):
        metric = metric.template_value.metrics.add(name="m", datatype=19)
    return made


def test_what_takes_too_long_to_say_is_refused(heard: Heard) -> None:
    assert heard(DATA, templates(10)).error is None
    assert "levels" in str(heard(DATA, templates(30)).error)
    many = make_payload_class()()
    for _ in range(5001):
        many.metrics.add()
    with pytest.raises(PayloadError, match="at most 5000 metrics"):
        heard(DATA, many)
    wide = make_payload_class()()
    wide.metrics.add(name="m", datatype=22, bytes_value=b"\0" * 20_001)
    assert "fewer values" in str(heard(DATA, wide).error)
    with pytest.raises(PayloadError, match="at most 262144 bytes"):
        heard(DATA, b"\0" * 300_000)


def test_so_many_nodes_are_remembered_and_whoever_is_forgotten_is_gone(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_sparkplug, "MAXIMUM_NODES", 2)
    for name in "abc":
        told = heard(f"spBv1.0/g/NBIRTH/{name}", birth(0))
    assert told.gone == ("spBv1.0/g/NBIRTH/a",)
    heard("spBv1.0/g/NDATA/b", payload(seq=1))  # has spoken since
    assert heard("spBv1.0/g/NBIRTH/d", birth(0)).gone == ("spBv1.0/g/NBIRTH/c",)
    assert heard.dropped == {"sparkplug_forgotten": 2}


def test_so_much_is_remembered_of_metrics(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_sparkplug, "MAXIMUM_KNOWN_BYTES", 2500)
    for name in "abcd":
        heard(f"spBv1.0/g/NBIRTH/{name}", birth(0, ("x" * 300, 1, "Double", 0.0)))
    assert heard.dropped == {"sparkplug_forgotten": 2}
    for name in "abcd":
        heard(f"spBv1.0/g/NDEATH/{name}", birth(0))
    assert heard._listener._known_bytes == 0
    monkeypatch.setattr(codec_sparkplug, "MAXIMUM_NODE_BYTES", 1000)
    assert heard("spBv1.0/g/NBIRTH/e", birth(0, *((f"m{n}", n, "Double", 0.0) for n in range(9)))).here == ()
    assert heard._listener._known_bytes == 0


@pytest.mark.parametrize("topic", ["spBv1.0/{g}/{type}/{n}", "spBv1.0/plant/{type}/{n}/{d}", "spBv1.0/{g}/{t}/n/d"])
def test_topics_of_nodes_and_devices_are_fit(topic: str) -> None:
    assert SPARKPLUG.misfit(Pattern.parse(topic)) is None


@pytest.mark.parametrize(
    "topic", ["spBv1.0/{g}/DDATA/{n}/{d}", "spAv1.0/{g}/{t}/{n}", "spBv1.0/{rest...}", "spBv1.0/{g}/{t}/{n...}", "a/b"]
)
def test_topics_that_leave_births_out_are_not(topic: str) -> None:
    assert "expected as the topic of sparkplug" in (SPARKPLUG.misfit(Pattern.parse(topic)) or "")


def test_who_hears_devices_hears_their_nodes_too() -> None:
    assert SPARKPLUG.also(Pattern.parse("spBv1.0/plant/{type}/{n}/{d}")) == ("spBv1.0/plant/+/+",)
    assert SPARKPLUG.also(Pattern.parse("spBv1.0/plant/{type}/{n}")) == ()


def test_an_array_is_taken_apart_no_further_than_it_may_be_long(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    dates: list[int] = []
    monkeypatch.setattr(codec_sparkplug_values, "_date", lambda milliseconds: dates.append(milliseconds))
    made = make_payload_class()()
    made.metrics.add(name="d", datatype=34, bytes_value=bytes(8 * 30_000))
    told = heard(DATA, made)
    assert "fewer values" in str(told.error)
    assert len(dates) <= codec_sparkplug.MAXIMUM_VALUES + 1
