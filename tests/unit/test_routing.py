from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routing import Direction, RouteProblem, RouteSpec, RoutingError, RoutingTable
from tests.unit import naive

LITERALS = st.sampled_from(["a", "b", "c"])
NAMES = st.lists(st.sampled_from(["a", "b", "c", "", "$d", "+", "#", "x y"]), min_size=1, max_size=5).map("/".join)


@st.composite
def specs(draw: st.DrawFn) -> RouteSpec:
    levels = draw(st.lists(st.one_of(LITERALS, st.just("{}")), min_size=1, max_size=4))
    topic = [level if level != "{}" else f"{{c{i}}}" for i, level in enumerate(levels)]
    if draw(st.booleans()):
        topic.append("{rest...}")
    captures = [level for level in topic if level.startswith("{")]
    kept = draw(st.lists(st.sampled_from(captures), unique=True)) if captures else []
    kept.sort(key=lambda capture: capture == "{rest...}")
    return RouteSpec("/".join(topic), "/".join([draw(LITERALS), *kept]))


@given(st.lists(specs(), max_size=8, unique_by=lambda spec: naive_shape(spec)), st.lists(NAMES, max_size=10))
def test_topics_reach_the_rooms_that_a_naive_matcher_finds(routes: list[RouteSpec], topics: list[str]) -> None:
    table = RoutingTable(routes, ["embedded"])
    for topic in topics:
        found = [room for _, room in table.rooms_for("embedded", topic)]
        assert sorted(found) == sorted(naive.rooms_for(routes, topic))
        assert [room for _, room in table.match("embedded", topic)] == found


def naive_shape(spec: RouteSpec) -> tuple[str, str]:
    return spec.topic, spec.room


@given(specs(), st.data())
def test_both_directions_are_each_others_inverse(spec: RouteSpec, data: st.DataObject) -> None:
    captures = [level for level in spec.topic.split("/") if level.startswith("{")]
    both = RouteSpec(spec.topic, "/".join(["room", *captures]), Direction.BOTH)
    table = RoutingTable([both], ["embedded"])
    levels = [data.draw(LITERALS) if level.startswith("{") else level for level in spec.topic.split("/")]
    topic = "/".join(levels)
    ((_, room),) = table.rooms_for("embedded", topic)
    assert [back for _, back in table.topics_for(room)] == [topic]


def test_several_routes_may_match_one_topic_and_each_room_is_named_once() -> None:
    table = RoutingTable(
        [
            RouteSpec("sensors/{site}/{device}/{metric}", "sites/{site}/{device}/{metric}"),
            RouteSpec("sensors/{site}/{device}/alarm", "alarms/{site}"),
            RouteSpec("sensors/{all...}", "everything"),
            RouteSpec("sensors/{site}/{rest...}", "everything"),
        ],
        ["embedded"],
    )
    rooms = [room for _, room in table.rooms_for("embedded", "sensors/oslo/fan-4/alarm")]
    assert rooms == ["sites/oslo/fan-4/alarm", "alarms/oslo", "everything"]


def test_a_remembered_topic_gives_the_same_rooms_again() -> None:
    table = RoutingTable([RouteSpec("a/{x}", "b/{x}")], ["embedded"])
    assert table.rooms_for("embedded", "a/1") is table.rooms_for("embedded", "a/1")


@pytest.mark.parametrize("room", ["devices/$SYS/x", "devices//x", "devices/+/x", "devices/#/x", "devices/a\0/x"])
def test_a_browser_cant_widen_a_filter_or_reach_dollar_topics(room: str) -> None:
    table = RoutingTable([RouteSpec("{a}/{b}", "devices/{a}/{b}", Direction.TO_DEVICE)], ["embedded"])
    assert table.topics_for(room) == ()
    assert table.topics_for("devices/a/x") != ()


def test_upstreams_are_kept_apart() -> None:
    table = RoutingTable(
        [
            RouteSpec("t/{x}", "every/{x}"),
            RouteSpec("t/{x}", "north/{x}", upstream="north"),
            RouteSpec("c/{x}", "to/{x}", Direction.TO_DEVICE, upstream="south"),
        ],
        ["north", "south"],
    )
    assert [room for _, room in table.rooms_for("north", "t/1")] == ["every/1", "north/1"]
    assert [room for _, room in table.rooms_for("south", "t/1")] == ["every/1"]
    ((route, topic),) = table.topics_for("to/1")
    assert (route.upstreams, topic) == (("south",), "c/1")


def test_subscriptions_name_each_filter_with_its_highest_quality_of_service() -> None:
    table = RoutingTable(
        [
            RouteSpec("s/{a}/{b}", "r/{a}/{b}", qos=0),
            RouteSpec("s/{x}/{y}", "q/{x}/{y}", qos=1),
            RouteSpec("c/{x}", "to/{x}", Direction.TO_DEVICE, qos=2),
            RouteSpec("z/{rest...}", "z/{rest...}", Direction.BOTH, qos=2),
        ],
        ["embedded"],
    )
    assert table.room_filters("embedded") == {"s/+/+": 1, "z/#": 2}
    assert table.reply_filters("embedded") == {}


def test_subscriptions_name_where_devices_answer() -> None:
    spec = RouteSpec("c/{x}", "to/{x}", Direction.TO_DEVICE, qos=1, reply="c/{x}/reply", upstream="north")
    table = RoutingTable([spec], ["north", "south"])
    assert table.room_filters("north") == {}
    assert table.reply_filters("north") == {"c/+/reply": 1}
    assert table.reply_filters("south") == {}
    assert table.is_reply_topic("north", "c/1/reply")
    assert not table.is_reply_topic("south", "c/1/reply")
    assert not table.is_reply_topic("north", "c/1")


def test_a_gateways_response_topics_cant_be_reached_whatever_matches() -> None:
    table = RoutingTable([RouteSpec("{all...}", "all/{all...}", Direction.BOTH)], ["embedded"])
    assert table.rooms_for("embedded", "tidegate/replies/1") == ()
    assert table.topics_for("all/tidegate/replies/1") == ()
    assert table.rooms_for("embedded", "tidegate/status") != ()
    assert table.topics_for("all/tidegate/repliesx") != ()


def test_a_response_topic_is_needed_for_routes_to_devices_that_name_none() -> None:
    out = RouteSpec("c/{x}", "d/{x}", Direction.TO_DEVICE, upstream="north")
    named = RouteSpec("e/{x}", "f/{x}", Direction.TO_DEVICE, upstream="south", reply="g/{x}")
    table = RoutingTable([out, named, RouteSpec("s/{x}", "s/{x}")], ["north", "south"])
    assert table.needs_response_topic("north")
    assert not table.needs_response_topic("south")


def problems_of(*routes: RouteSpec, upstreams: tuple[str, ...] = ("embedded",)) -> tuple[RouteProblem, ...]:
    with pytest.raises(RoutingError) as refused:
        RoutingTable(routes, upstreams)
    return refused.value.problems


@pytest.mark.parametrize(
    ("spec", "key", "expected"),
    [
        (
            RouteSpec("a/{x}", "b/{y}"),
            "room",
            "{y} is not in the topic 'a/{x}': expected only captures that it has ({x})",
        ),
        (RouteSpec("a/{x}", "b", Direction.TO_DEVICE), "topic", "{x} is not in the room"),
        (RouteSpec("a/{x}", "b", Direction.BOTH), "topic", "{x} is not in the room"),
        (RouteSpec("a/{x}/{x}", "b/{x}"), "topic", "{x} stands twice"),
        (RouteSpec("a/+", "b"), "topic", "expected a capture"),
        (RouteSpec("a/{x}", "b/#"), "room", "expected a capture"),
        (RouteSpec("a//{x}", "b/{x}"), "topic", "empty level"),
        (RouteSpec("a/{x...}", "b/{x}"), "room", "on both"),
        (RouteSpec("a/{x}", "$b/{x}"), "room", "starts with $"),
        (RouteSpec("$share/g/{x}", "b/{x}"), "topic", "shared subscription"),
        (RouteSpec("a/{x}", "b/{x}", upstream="plant"), "upstream", "expected embedded"),
        (RouteSpec("tidegate/replies/{x}", "b/{x}"), "topic", "the gateway's own"),
        (RouteSpec("a/{x}", "b/{x}", reply="c/{x}"), "reply", "expected it beside `direction: to_device`"),
        (RouteSpec("a", "b/{x}", Direction.TO_DEVICE, reply="c/{y}"), "reply", "only captures that it has ({x})"),
        (RouteSpec("a", "b/{x...}", Direction.TO_DEVICE, reply="c/{x}"), "reply", "on both"),
        (RouteSpec("a", "b", Direction.TO_DEVICE, reply="c/+"), "reply", "expected a capture"),
        (RouteSpec("a", "b", Direction.TO_DEVICE, reply="$share/g/x"), "reply", "shared subscription"),
        (RouteSpec("a", "b", Direction.TO_DEVICE, reply="tidegate/replies/1"), "reply", "the gateway's own"),
        (RouteSpec("a/{x}", "b/{x}", Direction.BOTH, reply="a/{x}"), "reply", "this route's own topic"),
    ],
)
def test_a_route_is_refused_with_key_and_what_was_expected(spec: RouteSpec, key: str, expected: str) -> None:
    (problem,) = problems_of(spec)
    assert (problem.index, problem.key) == (0, key)
    assert expected in problem.message


def test_a_route_to_devices_must_name_one_of_several_upstreams() -> None:
    (problem,) = problems_of(RouteSpec("a/{x}", "b/{x}", Direction.TO_DEVICE), upstreams=("north", "south"))
    assert problem.key == "upstream"
    assert "north or south" in problem.message


def test_the_same_route_twice_is_refused_whatever_its_captures_are_called() -> None:
    first = RouteSpec("a/{x}/{y}", "b/{y}")
    (problem,) = problems_of(first, RouteSpec("a/{p}/{q}", "b/{q}"))
    assert (problem.index, problem.other_index) == (1, 0)
    RoutingTable([first, RouteSpec("a/{p}/{q}", "b/{p}")], ["embedded"])


def test_a_translation_that_another_route_has_in_both_directions_is_refused() -> None:
    (problem,) = problems_of(RouteSpec("a/{x}", "b/{x}", Direction.BOTH), RouteSpec("a/{x}", "b/{x}"))
    assert (problem.index, problem.other_index) == (1, 0)


@pytest.mark.parametrize(
    ("out", "back"),
    [
        (("cmd/{d}", "dev/{d}"), ("cmd/{x}", "dev/{x}")),
        (("cmd/{d}/set", "dev/{d}"), ("cmd/{d}/{verb}", "dev/{d}")),
        (("t/{d}/a", "a/{d}"), ("t/{d}/{k}", "{k}/{d}")),
        (("t/{rest...}", "r/{rest...}"), ("t/x/{rest...}", "r/{rest...}")),
        (("t/{d}", "r/{d}"), ("{k}/{d}", "r/{d}")),
    ],
)
def test_a_loop_by_way_of_another_route_is_refused(out: tuple[str, str], back: tuple[str, str]) -> None:
    (problem,) = problems_of(RouteSpec(*back), RouteSpec(*out, Direction.TO_DEVICE))
    assert (problem.index, problem.key, problem.other_index) == (1, "topic", 0)
    assert "loop" in problem.message


@pytest.mark.parametrize(
    ("out", "back"),
    [
        (("cmd/{d}", "dev/{d}"), ("cmd/{x}", "seen/{x}")),
        (("cmd/{d}", "dev/{d}"), ("state/{x}", "dev/{x}")),
        (("t/{d}/b", "a/{d}"), ("t/{d}/{k}", "{k}/{d}")),
        (("t/{d}/b/c", "a/{d}"), ("t/{d}/b", "a/{d}")),
    ],
)
def test_what_doesnt_come_back_into_the_same_room_is_no_loop(out: tuple[str, str], back: tuple[str, str]) -> None:
    RoutingTable([RouteSpec(*back), RouteSpec(*out, Direction.TO_DEVICE)], ["embedded"])


def test_both_directions_in_one_route_are_no_loop() -> None:
    RoutingTable([RouteSpec("a/{x}", "b/{x}", Direction.BOTH)], ["embedded"])


def test_a_reply_is_no_loop() -> None:
    out = RouteSpec("c/{x}", "d/{x}", Direction.TO_DEVICE, reply="c/{x}/reply")
    RoutingTable([out, RouteSpec("c/{x}/reply", "d/{x}")], ["embedded"])


def test_a_reply_that_browsers_could_write_by_another_route_is_refused() -> None:
    out = RouteSpec("c/{x}", "d/{x}", Direction.TO_DEVICE, reply="c/{x}/reply")
    (problem,) = problems_of(RouteSpec("c/{x}/{verb}", "e/{x}/{verb}", Direction.BOTH), out)
    assert (problem.index, problem.key, problem.other_index) == (1, "reply", 0)
    assert "where browsers publish" in problem.message


def test_a_loop_needs_the_same_upstream() -> None:
    out = RouteSpec("c/{x}", "d/{x}", Direction.TO_DEVICE, upstream="north")
    RoutingTable([out, RouteSpec("c/{x}", "d/{x}", upstream="south")], ["north", "south"])
    problems_of(out, RouteSpec("c/{x}", "d/{x}", upstream="north"), upstreams=("north", "south"))


def test_all_problems_are_found_at_once_in_the_order_of_the_routes() -> None:
    problems = problems_of(RouteSpec("a//b", "#"), RouteSpec("ok/{x}", "ok/{x}"), RouteSpec("a/{x}", "b/{y}"))
    assert [(problem.index, problem.key) for problem in problems] == [(0, "topic"), (0, "room"), (2, "room")]
    assert all(a.index <= b.index for a, b in pairwise(problems))


def test_explain_reads_a_name_both_as_topic_and_as_room() -> None:
    table = RoutingTable([RouteSpec("x/{a}", "y/{a}"), RouteSpec("z/{a}", "x/{a}", Direction.TO_DEVICE)], ["embedded"])
    assert [(found.output, found.to_device) for found in table.explain("x/1")] == [("y/1", False), ("z/1", True)]
