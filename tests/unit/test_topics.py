import pytest

from gateway.core.topics import MAXIMUM_LEVELS, InvalidName, Pattern, check_filter, check_name, filter_matches
from tests.unit import naive


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it is empty"),
        ("a//b", "empty level"),
        ("/a", "empty level"),
        ("a/", "empty level"),
        ("a/+/b", "expected a capture, {name} for + or {name...} for #"),
        ("a/#", "expected a capture"),
        ("a/b+", "wildcard in 'b+'"),
        ("a/{x}/{x}", "{x} stands twice"),
        ("{x...}/a", "expected it at the end"),
        ("a/dev-{x}", "expected a whole level"),
        ("a/{}", "expected a whole level"),
        ("a/{x-y}", "expected a whole level"),
        ("a/\0", "NUL"),
        ("a/" + "b" * 65_535, "longer than 65535 bytes"),
    ],
)
def test_pattern_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(InvalidName) as refused:
        Pattern.parse(text)
    assert expected in str(refused.value)


def test_pattern_gives_its_filter_and_captures() -> None:
    pattern = Pattern.parse("sensors/{site}/{device}/raw/{rest...}")
    assert pattern.filter == "sensors/+/+/raw/#"
    assert pattern.captures == ("site", "device", "rest")
    assert pattern.has_rest


@pytest.mark.parametrize("name", ["", "a//b", "/", "a/+", "a/#", "a+b", "$SYS/x", "a/$b", "a\0b", "x" * 65_536])
def test_name_is_refused_where_a_room_must_stand_for_itself(name: str) -> None:
    with pytest.raises(InvalidName):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "a/b/c", "Ünïcode/🌊", "a b/c", "a/b$"])
def test_name_is_taken(name: str) -> None:
    check_name(name)
    check_filter(name)


@pytest.mark.parametrize("pattern", ["+", "#", "a/+/b", "a/#", "+/+/#"])
def test_filter_is_taken(pattern: str) -> None:
    check_filter(pattern)


@pytest.mark.parametrize("pattern", ["", "a/#/b", "#/a", "a+/b", "a/b#", "a//+", "$SYS/#", "+/\0"])
def test_filter_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidName):
        check_filter(pattern)


@pytest.mark.parametrize(
    ("topic_filter", "name", "expected"),
    [
        ("sport/tennis/#", "sport/tennis", True),  # MQTT 5 §4.7.1.2
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("+/+", "/finance", True),  # MQTT 5 §4.7.1.3
        ("#", "$SYS/uptime", False),  # MQTT 5 §4.7.2
        ("+/uptime", "$SYS/uptime", False),
        ("$SYS/#", "$SYS/uptime", True),
    ],
)
def test_filter_matches_as_the_standard_says(topic_filter: str, name: str, expected: bool) -> None:
    assert filter_matches(topic_filter, name) is expected
    assert naive.matches(topic_filter, name) is expected


def test_levels_are_bounded() -> None:
    deepest = "/".join("a" * MAXIMUM_LEVELS)
    for check in (check_name, check_filter, Pattern.parse):
        check(deepest)
        with pytest.raises(InvalidName, match="129 levels: expected at most 128"):
            check(f"{deepest}/a")
    with pytest.raises(InvalidName, match="129 levels"):
        check_filter(f"{deepest}/#")
