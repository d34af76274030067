"""Every attack of the table, by every door that it applies to, under both servers; and that nobody else notices."""

from collections import Counter
from typing import Any

import pytest

from tests.security.case import Case
from tests.security.doors import DOORS, OF_THE_SERVER
from tests.security.table import CASES, DOCUMENT, document
from tests.security.target import BAD, LINE, Target

ELSEWHERE = {"dashboard", "MQTT bytes"}
"""Doors that need other surroundings: the embedded broker, and a browser (tests/browser/test_hostile_pages.py)."""


def cases(*, embedded: bool) -> list[Any]:
    return [
        pytest.param(case, id=f"{case.category}: {case.name}")
        for case in CASES
        if (case.doors == ("MQTT bytes",) if embedded else ELSEWHERE.isdisjoint(case.doors))
    ]


@pytest.mark.parametrize("case", cases(embedded=False))
def test_an_attack_comes_to_what_the_table_says(victim: Target, case: Case) -> None:
    doors = [door for door in case.doors if not (victim.plain and door in OF_THE_SERVER)]
    outcomes = {door: DOORS[door](victim, case) for door in doors}
    victim.check(case.reaches)
    expected = {door: case.outcome_at(door) for door in doors}
    if victim.plain and case.plain is not None:
        expected = dict.fromkeys(doors, case.plain)
    assert outcomes == expected


@pytest.mark.parametrize("case", cases(embedded=True))
def test_an_attack_on_the_embedded_broker_comes_to_what_the_table_says(with_broker: Target, case: Case) -> None:
    outcome = DOORS["MQTT bytes"](with_broker, case)
    with_broker.check(case.reaches)
    assert outcome == case.outcome


def test_every_attack_has_a_name_of_its_own_and_doors_that_are_there() -> None:
    assert [name for name, count in Counter((case.category, case.name) for case in CASES).items() if count > 1] == []
    assert {door for case in CASES for door in case.doors} <= {*DOORS, "dashboard"}
    assert {door for case in CASES for door in case.doors} >= {*DOORS, "dashboard"}
    assert [case.name for case in CASES if not {door for door, _ in case.elsewhere} <= set(case.doors)] == []
    assert len(CASES) >= 120


def test_a_forged_line_and_a_fault_would_be_noticed() -> None:
    assert not BAD.search("12:00:00 [info] aFORGED\n")
    assert LINE.match("12:00:00 [info] a")
    for line in ("a\nFORGED b", "Traceback (most recent call last):", "\x1b[2J", "a\0b", "a\rb"):
        assert BAD.search(f"12:00:00 [info] {line}\n")
    assert not LINE.match("another line")


def test_the_document_has_the_table_as_it_is() -> None:
    assert DOCUMENT.read_text() == document(), "run `python -m tests.security.table`"
