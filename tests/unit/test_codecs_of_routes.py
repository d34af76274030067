"""Routes with codecs, dialects and transforms: into rooms, presence and devices, and what becomes of bad payloads."""

from base64 import b64encode
from typing import Any

import cbor2
import orjson
import pytest

from bridges.codec_cbor import CBOR
from bridges.codec_jmespath import compile_transform
from bridges.codec_msgpack import MSGPACK
from bridges.codec_sparkplug import SPARKPLUG
from gateway.core.bad_payloads import KEPT, BadPayload
from gateway.core.codec import Codec, Payload
from gateway.core.device_status import DeviceStatus
from gateway.core.errors import BadMessage, BadReply
from gateway.core.presence import Attendees
from gateway.core.publishing import Sending
from gateway.core.routing import Direction, PayloadKind, RouteSpec, RoutingError, RoutingTable
from gateway.core.sample import Keep, Sample
from tests.sparkplug import birth, payload
from tests.unit.conftest import World, make_world

METRICS = RouteSpec("spBv1.0/{g}/{type}/{n}/{d}", "plants/{g}/{n}/{d}/{metric...}", payload=SPARKPLUG)
WHOLE = RouteSpec("spBv1.0/{g}/{type}/{n}/{d}", "plants/{g}", payload=SPARKPLUG, presence=DeviceStatus("{n}/{d}"))
NODES = RouteSpec("spBv1.0/{g}/{type}/{n}", "plants/{g}", payload=SPARKPLUG, presence=DeviceStatus("{n}"))
BIRTH = birth(0, ("Motor/Rpm", 1, "Int32", 2**32 - 1), seq=1)


def data(world: World, room: str) -> list[Any]:
    return [orjson.loads(message.data) for message in world.last(room)]


def members(world: World, room: str) -> set[str]:
    found: list[Attendees] = []
    world.namespace.attendance.members(room, found.append, world.namespace.access.of(None))
    return {member.who.name for member in found[0].members or ()}


def ignore(outcome: object) -> None:
    pass


def test_each_room_gets_what_its_route_says_of_one_payload() -> None:
    world = make_world(
        routes=[
            RouteSpec("t/{d}", "cbor/{d}", payload=CBOR),
            RouteSpec("t/{d}", "bytes/{d}", payload=PayloadKind.BYTES),
            RouteSpec("t/{d}", "t/{d}", payload=CBOR, transform=compile_transform("t")),
        ]
    )
    raw = cbor2.dumps({"t": 21.5})
    world.device("t/a", raw)
    assert data(world, "cbor/a") == [{"t": 21.5}]
    assert data(world, "bytes/a") == [b64encode(raw).decode()]
    assert data(world, "t/a") == [21.5]


def test_a_codec_decodes_once_for_all_routes_that_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def decode(raw: bytes) -> Payload:
        decoded.append(raw)
        return Payload(b"1")

    codecs = [Codec("x", decode, cbor2.dumps) for _ in range(2)]
    world = make_world(routes=[RouteSpec("t/{d}", f"r{n}/{{d}}", payload=codec) for n, codec in enumerate(codecs)])
    world.device("t/a", b"raw")
    assert (data(world, "r0/a"), data(world, "r1/a"), decoded) == ([1], [1], [b"raw"])


def test_what_doesnt_decode_is_remembered_and_harms_no_other_route() -> None:
    world = make_world(
        routes=[RouteSpec("t/{d}", "cbor/{d}", payload=CBOR), RouteSpec("t/{d}", "any/{d}")],
    )
    world.device("t/a", b"\xff" * 100)
    assert world.last("cbor/a") == []
    assert data(world, "any/a") == [b64encode(b"\xff" * 100).decode()]
    (bad,) = world.namespace.bad_payloads.newest()
    assert bad == BadPayload(world.clock.time(), 0, "t/a", "cbor", bad.error, 100, "ff" * 32)
    assert bad.error.startswith("expected CBOR: ")
    assert (world.counters.drops["bad_payload"], dict(world.counters.bad_payloads)) == (1, {"cbor": 1})


def test_so_many_bad_payloads_are_remembered_the_newest_first() -> None:
    world = make_world(routes=[RouteSpec("t/{d}", "r/{d}", payload=MSGPACK)])
    for number in range(KEPT + 5):
        world.device(f"t/{number}", b"\xc1")
    topics = [bad.topic for bad in world.namespace.bad_payloads.newest()]
    assert topics == [f"t/{number}" for number in range(KEPT + 4, 4, -1)]
    assert world.counters.bad_payloads["msgpack"] == KEPT + 5


def test_a_transform_that_fails_is_a_bad_payload() -> None:
    world = make_world(
        routes=[RouteSpec("t/{d}", "r/{d}", payload=PayloadKind.JSON, transform=compile_transform("abs(t)"))]
    )
    world.device("t/a", b'{"t": "x"}')
    world.device("t/a", b'{"t": -1}')
    assert data(world, "r/a") == [1]
    assert world.counters.bad_payloads == {"json": 1}


def test_no_bytes_take_the_last_value_back() -> None:
    world = make_world(routes=[RouteSpec("t/{d}", "r/{d}", payload=CBOR)])
    world.device("t/a", b"\x01")
    world.device("t/a", b"")
    assert world.last("r/a") == []


def to_device(**options: Any) -> World:
    return make_world(routes=[RouteSpec("c/{d}", "d/{d}", Direction.TO_DEVICE, reply="c/{d}/reply", **options)])


def test_devices_get_browsers_data_in_their_own_format() -> None:
    world = to_device(payload=CBOR, transform_to_device=compile_transform("{v: on}"))
    world.namespace.publish(Sending("d/a", {"on": True}), ignore)
    ((topic, raw, _, _),) = world.upstream.published
    assert (topic, cbor2.loads(raw)) == ("c/a", {"v": True})


def test_base64_is_no_way_around_a_transform() -> None:
    world = to_device(payload=CBOR, transform_to_device=compile_transform("{v: on}"))
    with pytest.raises(BadMessage, match=r"^binary: "):
        world.namespace.publish(Sending("d/a", "MQ==", binary=True), ignore)
    with pytest.raises(BadMessage, match=r"^data: transform: "):
        to_device(transform_to_device=compile_transform("abs(@)")).namespace.publish(Sending("d/a", "x"), ignore)
    assert world.upstream.published == []


def test_answers_are_decoded_and_transformed() -> None:
    world = to_device(payload=MSGPACK, transform=compile_transform("state"))
    answers: list[Any] = []
    for raw in (MSGPACK.encode({"state": "on"}), b"\xc1"):
        world.namespace.requests.send("me", "d/a", 1, answers.append)
        world.namespace.requests.receive("embedded", "c/a/reply", raw, None)
    assert answers[0] == Payload(b'"on"')
    assert isinstance(answers[1], BadReply)


def test_each_metric_has_a_room_of_its_own() -> None:
    world = make_world(routes=[METRICS])
    world.device("spBv1.0/g/DBIRTH/n/d", BIRTH)
    assert data(world, "plants/g/n/d/Motor/Rpm") == [{"value": -1, "datatype": "Int32"}]
    made = payload((1, None, None), seq=2)
    made.metrics[0].ClearField("is_null")
    made.metrics[0].int_value = 7
    world.device("spBv1.0/g/DDATA/n/d", made.SerializeToString())
    assert data(world, "plants/g/n/d/Motor/Rpm") == [{"value": 7, "datatype": "Int32"}]  # one last value, not two
    assert world.counters.drops == {}


def test_rooms_of_metrics_can_be_picked_from_and_sampled() -> None:
    spec = RouteSpec(
        METRICS.topic,
        METRICS.room,
        payload=SPARKPLUG,
        transform=compile_transform("value"),
        sample=Sample(10, Keep.MAX),
    )
    world = make_world(routes=[spec])
    for seq, value in enumerate((1.0, 5.0, 3.0)):
        world.device("spBv1.0/g/DDATA/n/d", payload(("t", "Double", value), seq=seq).SerializeToString())
    assert data(world, "plants/g/n/d/t") == [1]
    world.clock.advance(10)
    assert data(world, "plants/g/n/d/t") == [5]


def test_a_metric_that_cant_be_transformed_is_dropped_alone() -> None:
    spec = RouteSpec(METRICS.topic, METRICS.room, payload=SPARKPLUG, transform=compile_transform("abs(value)"))
    world = make_world(routes=[spec])
    raw = payload(("name", "String", "x"), ("t", "Double", -1.0)).SerializeToString()
    world.device("spBv1.0/g/DDATA/n/d", raw)
    assert data(world, "plants/#") == [1]
    assert world.counters.bad_payloads == {"sparkplug": 1}


def test_what_was_earlier_is_no_last_value() -> None:
    world = make_world(routes=[METRICS])
    made = payload(("t", "Double", 1.0), ("t", "Double", 2.0))
    made.metrics[1].is_historical = True
    world.device("spBv1.0/g/DDATA/n/d", made.SerializeToString())
    assert [each["value"] for each in data(world, "plants/g/n/d/t")] == [1]


@pytest.mark.parametrize("name", ["+", "a/#", "a//b", "/a", "$SYS", "a\0", "x" * 70_000, "/".join("a" * 130)])
def test_a_metric_whose_name_makes_no_room_is_dropped_alone(name: str) -> None:
    world = make_world(routes=[METRICS])
    raw = payload((name, "Double", 1.0), ("t", "Double", 2.0)).SerializeToString()
    world.device("spBv1.0/g/DDATA/n/d", raw)
    assert len(data(world, "plants/#")) == 1
    assert world.counters.drops == {"bad_metric_name": 1}


def test_births_and_deaths_are_presence() -> None:
    world = make_world(routes=[WHOLE, NODES])
    world.device("spBv1.0/g/NBIRTH/n", birth(1))
    world.device("spBv1.0/g/DBIRTH/n/d", BIRTH)
    world.device("spBv1.0/g/DBIRTH/n/e", birth(None, seq=2))
    assert members(world, "plants/g") == {"n", "n/d", "n/e"}
    world.device("spBv1.0/g/DDEATH/n/e", payload(seq=3).SerializeToString())
    assert members(world, "plants/g") == {"n", "n/d"}
    world.device("spBv1.0/g/NDEATH/n", birth(1))
    assert members(world, "plants/g") == set()


def test_a_route_of_devices_alone_hears_of_their_nodes_death() -> None:
    spec = RouteSpec(METRICS.topic, METRICS.room, payload=SPARKPLUG, presence=DeviceStatus("{d}"))
    world = make_world(routes=[spec])
    assert world.namespace.routing.room_filters("embedded") == {"spBv1.0/+/+/+/+": 0, "spBv1.0/+/+/+": 0}
    world.device("spBv1.0/g/NBIRTH/n", birth(1))
    world.device("spBv1.0/g/DBIRTH/n/d", BIRTH)
    assert members(world, "plants/g/n/d") == {"d"}
    world.device("spBv1.0/g/NDEATH/n", birth(1))
    assert members(world, "plants/g/n/d") == set()


def test_a_whole_message_is_one_object_and_a_bad_one_is_told_of() -> None:
    world = make_world(routes=[WHOLE])
    world.device("spBv1.0/g/DBIRTH/n/d", BIRTH)
    (said,) = data(world, "plants/g")
    assert (said["type"], said["metrics"]["Motor/Rpm"]["value"]) == ("DBIRTH", -1)
    world.device("spBv1.0/g/DDATA/n/d", b"\xff")
    assert world.counters.bad_payloads == {"sparkplug": 1}


def test_namespaces_remember_each_their_own() -> None:
    one, other = make_world(routes=[WHOLE]), make_world(routes=[WHOLE])
    one.device("spBv1.0/g/DBIRTH/n/d", BIRTH)
    other.device("spBv1.0/g/DDATA/n/d", payload((1, None, 1.0)).SerializeToString())
    assert other.counters.drops == {"sparkplug_unknown_alias": 1}


@pytest.mark.parametrize(
    ("spec", "key", "told"),
    [
        (RouteSpec(WHOLE.topic, "r/{g}/{type}/{n}/{d}", Direction.BOTH, SPARKPLUG), "direction",
         "nothing goes to devices as sparkplug: expected `direction: to_browser`"),
        (RouteSpec("spBv1.0/{g}/DDATA/{n}", "r", payload=SPARKPLUG), "topic", "expected as the topic of sparkplug"),
        (RouteSpec(WHOLE.topic, "{metric...}", payload=SPARKPLUG), "room", "expected levels before {metric...}"),
        (RouteSpec("a/{b}", "r/{metric...}", payload=CBOR), "room", "{metric} is not in the topic"),
    ],
)  # fmt: skip
def test_a_route_that_makes_no_sense_is_refused(spec: RouteSpec, key: str, told: str) -> None:
    with pytest.raises(RoutingError) as caught:
        RoutingTable([spec], ["embedded"])
    (problem,) = caught.value.problems
    assert problem.key == key
    assert told in problem.message


def test_rooms_of_metrics_cant_loop_back_to_devices() -> None:
    back = RouteSpec("spBv1.0/{g}/{type}/{n}/{d}", "plants/{g}/{type}/{n}/{d}", Direction.TO_DEVICE)
    with pytest.raises(RoutingError, match="a loop"):
        RoutingTable([back, METRICS], ["embedded"])


def test_it_is_explained_where_metrics_go() -> None:
    (explained,) = RoutingTable([METRICS], ["embedded"]).explain("spBv1.0/g/DDATA/n/d")
    assert explained.output == "plants/g/n/d/{metric...}"
