"""What YAML's parser complains of, in words for people who don't know YAML's grammar. No text of the file is cited."""

import re
from typing import Final

import yaml

from gateway.config.problems import Place

__all__ = ["NO_CHARACTER", "in_plain_words"]

NO_CHARACTER: Final = "expected an escape that stands for a character"

_WORDS: Final = (
    (r"directive|YAML document", "expected quotes around text that starts with %"),
    (
        r"mapping values are not allowed",
        "expected no `:` here: check the indentation, or quote text that contains `: `",
    ),
    (r"found character '\\t'", "expected spaces, found a tab"),
    (r"found character '(.)' that cannot start", r"expected quotes around text that starts with {0}"),
    (r"could not find expected ':'", "expected `key: value` before this line"),
    (r"expected <block end>, but found '-'", "expected no list item here: check the indentation"),
    (r"expected <block end>", "expected a new line with the indentation of the lines above"),
    (r"expected ',' or '(.)', but got '<stream end>'", "expected `{0}` before the end of the file"),
    (r"expected ',' or '(.)'", "expected `,` or `{0}`: between brackets, quote text that contains one"),
    (r"expected the node content", "expected a value"),
    (r"found unexpected (end of stream|document separator)", "expected the closing quotation mark"),
    (r"found unknown escape character|expected escape sequence", "expected an escape such as \\n, or single quotes"),
    (r"sequence entries are not allowed", "expected a list item on a line of its own"),
    (r"special characters are not allowed", "expected text without control characters"),
    (r"expected alphabetic or numeric", "expected quotes around text that starts with & or *"),
    (r"expected '<document start>'", "expected one document"),
    (r"tag|URI", "expected quotes around text that starts with !"),
)


def in_plain_words(error: Exception, text: str, place: Place) -> tuple[Place, str]:
    """Where a file goes wrong, and what was expected; `place` is where reading stopped."""
    match error:
        case yaml.MarkedYAMLError():
            opened, mark = error.context_mark, error.problem_mark or error.context_mark
            message = _translated(f"{error.context}: {error.problem}")
            if mark is not None:
                place = Place(place.source, mark.line + 1, mark.column + 1)
            if opened is not None and mark is not None and opened.line < mark.line and _encloses(error):
                message += f" (opened in line {opened.line + 1})"
            return place, message
        case yaml.reader.ReaderError():
            before = text[: error.position]
            line, column = before.count("\n") + 1, error.position - before.rfind("\n")
            return Place(place.source, line, column), _translated(error.reason)
        case _:
            return place, NO_CHARACTER


def _encloses(error: yaml.MarkedYAMLError) -> bool:
    return any(word in (error.context or "") for word in ("quoted", "flow"))


def _translated(problem: str) -> str:
    for pattern, words in _WORDS:
        found = re.search(pattern, problem)
        if found:
            return words.format(*found.groups())
    return "expected YAML"
