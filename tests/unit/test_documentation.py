"""Tables in the documents that say what the code says."""

import re
from dataclasses import fields
from pathlib import Path

from gateway.core.errors import PROTOCOL_CLOSE_CODES, error_table
from gateway.core.limits import Limits
from gateway.core.wire_requests import _FIELDS

DOCS = Path(__file__).parents[2] / "docs"


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.strip().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]


def test_the_table_of_errors_is_that_of_the_code() -> None:
    text = between((DOCS / "wire-protocol.md").read_text(), "<!-- errors", "<!-- /errors")
    expected = [
        [
            f"`{error.code}`",
            str(error.http_status),
            str(error.close_code or ""),
            "yes" if error.retry else "",
            " ".join((error.__doc__ or "").split()),
        ]
        for error in error_table()
    ]
    assert rows(text) == expected


def test_the_table_of_close_codes_is_that_of_the_code() -> None:
    text = between((DOCS / "wire-protocol.md").read_text(), "<!-- closes", "<!-- /closes")
    assert rows(text) == [[str(code), meaning] for code, meaning in PROTOCOL_CLOSE_CODES.items()]


def test_the_fields_of_requests_are_those_of_the_code() -> None:
    text = between((DOCS / "wire-protocol.md").read_text(), "## From the client", "## From the gateway")
    documented = {
        row[0].strip("`"): {name.strip("` ?") for name in row[1].split(",")} for row in rows(text) if len(row) == 3
    }
    assert documented == {kind: set(fields) for kind, fields in _FIELDS.items()}


def test_every_metric_is_documented() -> None:
    sources = [path.read_text() for path in (DOCS.parent / "gateway").glob("*.py")]
    names = {name for source in sources for name in re.findall(r'"(tidegate_[a-z_]+)",', source)}
    operations = (DOCS / "operations.md").read_text()
    assert names
    assert [name for name in sorted(names) if name not in operations] == []


def test_every_document_is_linked_from_the_readme() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    assert [path.name for path in sorted(DOCS.glob("*.md")) if f"docs/{path.name}" not in readme] == []


def test_no_link_leads_nowhere() -> None:
    for document in (DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_limit_is_told_with_what_lies_beyond_it() -> None:
    text = (DOCS / "limits.md").read_text()
    of_another = ("_burst", "_delay_seconds")  # told beside the rate, or the delay's largest
    names = [field.name for field in fields(Limits) if not field.name.endswith(of_another)]
    assert [name for name in names if f"`limits.{name}`" not in text] == []
