"""All attacks, and the table of them in docs/security.md; `python -m tests.security.table` prints it there."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from tests.security import (
    cases_access,
    cases_broker,
    cases_devices,
    cases_files,
    cases_frames,
    cases_http,
    cases_identity,
    cases_json,
    cases_log,
    cases_origins,
    cases_pages,
    cases_queries,
    cases_rooms,
)
from tests.security.case import ACTIONS, HTTP, PATTERNS, WRITES, Case

MODULES: Final = (
    cases_rooms,
    cases_queries,
    cases_json,
    cases_frames,
    cases_http,
    cases_files,
    cases_identity,
    cases_access,
    cases_origins,
    cases_log,
    cases_devices,
    cases_broker,
    cases_pages,
)
CASES: Final[tuple[Case, ...]] = tuple(case for module in MODULES for case in module.CASES)
DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "security.md"
START: Final = "<!-- attacks: made by `python -m tests.security.table` -->\n"
END: Final = "<!-- /attacks -->\n"
GROUPS: Final = (
    ("every door of rooms", (*ACTIONS, *PATTERNS)),
    ("doors of one room", ACTIONS),
    ("doors of patterns", PATTERNS),
    ("doors to publish by", WRITES),
    ("every HTTP endpoint", HTTP),
    ("every page and endpoint", (*cases_origins.ASKING, *cases_origins.PAGES)),
    ("every endpoint", cases_origins.ASKING),
)
"""Names for doors that often come together, the largest first."""


def told(doors: tuple[str, ...]) -> str:
    """Which doors these are, in few words."""
    found, left = [], list(doors)
    for name, group in GROUPS:
        if set(group) <= set(left):
            found.append(name)
            left = [door for door in left if door not in group]
    return ", ".join([*found, *left])


def markdown() -> str:
    """The table, a part for each category."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    pairs = sum(len(case.doors) for case in CASES)
    yield f"{len(CASES)} attacks, {pairs} ways of making them.\n"
    for category, cases in groupby(CASES, key=lambda case: case.category):
        yield f"### {category[0].upper()}{category[1:]}\n"
        yield "| attack | what is sent | by | outcome |\n|---|---|---|---|"
        for case in cases:
            yield f"| {case.name} | {case.sent} | {told(case.doors)} | {_outcome(case)} |"
        yield ""


def _outcome(case: Case) -> str:
    return "; ".join([case.outcome, *(f"{door}: {outcome}" for door, outcome in case.elsewhere)])


def document() -> str:
    """The document with the table as it should be."""
    text = DOCUMENT.read_text()
    before, found, rest = text.partition(START)
    after, also = rest.partition(END)[2], END in rest
    assert found, START
    assert also, END
    return f"{before}{START}\n{markdown()}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
