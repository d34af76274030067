"""Every attack of the table, by every door that it applies to, under both servers; and that nobody else notices."""

from collections import Counter

import pytest

from tests.security.case import Case
from tests.security.doors import DOORS, OF_THE_SERVER
from tests.security.table import CASES, DOCUMENT, document
from tests.security.target import Target

BY_WIRE = [pytest.param(case, id=f"{case.category}: {case.name}") for case in CASES if DOORS.keys() >= set(case.doors)]


@pytest.mark.parametrize("case", BY_WIRE)
def test_an_attack_comes_to_what_the_table_says(victim: Target, case: Case) -> None:
    doors = [door for door in case.doors if not (victim.plain and door in OF_THE_SERVER)]
    outcomes = {door: DOORS[door](victim, case) for door in doors}
    victim.check(case.reaches)
    expected = case.plain if victim.plain and case.plain is not None else case.outcome
    assert outcomes == dict.fromkeys(doors, expected)


def test_every_attack_has_a_name_of_its_own_and_doors_that_are_there() -> None:
    assert [name for name, count in Counter((case.category, case.name) for case in CASES).items() if count > 1] == []
    assert {door for case in CASES for door in case.doors} <= {*DOORS, "dashboard"}
    assert {door for case in CASES for door in case.doors} >= {*DOORS, "dashboard"}
    assert len(CASES) >= 120


def test_the_document_has_the_table_as_it_is() -> None:
    assert DOCUMENT.read_text() == document(), "run `python -m tests.security.table`"
