"""With what a subscriber comes back, and what it is told that it missed."""

from typing import Any

from gateway.client import _Place


def told(room: str, cursor: str, *, recovered: bool = False, last: int | None = None) -> dict[str, Any]:
    values = [] if last is None else [message(room, cursor, last)]
    return {"type": "subscribed", "room": room, "cursor": cursor, "recovered": recovered, "last": values}


def message(room: str, cursor: str, data: int) -> dict[str, Any]:
    return {"type": "message", "room": room, "cursor": cursor, "data": data}


def test_it_comes_back_with_the_newest_cursor_to_the_rooms_that_it_was_told_of() -> None:
    place = _Place(["a", "b", "c"], lambda _: None)
    assert place.requests() == [{"room": ["a", "b", "c"]}]
    assert not place.known
    place.take({"type": "welcome"})
    assert place.known
    assert place.take(told("a", "e-4", last=1)) == [message("a", "e-4", 1)]
    place.take(told("b", "e-4"))
    place.take({"type": "subscribed", "room": "c", "more": True, "recovered": False, "last": []})  # and no more came
    assert place.take(message("a", "e-5", 2)) == [message("a", "e-5", 2)]
    assert place.requests() == [{"room": ["a", "b"], "since": "e-5"}, {"room": ["c"]}]


def test_it_says_which_rooms_lack_something() -> None:
    notices: list[str] = []
    place = _Place(["a", "b"], notices.append)
    for room in ("a", "b"):
        place.take(told(room, "e-4"))
    assert notices == []  # it has missed nothing: it has come only now
    place.take(told("a", "f-1", recovered=True))
    assert place.take(told("b", "f-1", last=7)) == [message("b", "f-1", 7)]
    assert len(notices) == 1
    assert notices[0].startswith("b: ")
    assert place.requests() == [{"room": ["a", "b"], "since": "f-1"}]
