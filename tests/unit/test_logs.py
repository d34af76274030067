import subprocess
import sys

import pytest

PROGRAM = """
import logging
from gateway.logs import configure_logging
configure_logging("info", {style!r})
logger = logging.getLogger("x")
hostile = "a\\n12:00:00 [error    ] FORGED\\r\\x1b[31m\\x9b\\u2028\\u202eb"
logger.warning("topic %s", hostile)
def fail(password):
    raise ValueError(hostile)
try:
    fail("hunter2")
except ValueError:
    logger.exception("failed")
"""


@pytest.mark.parametrize("style", ["console", "json"])
def test_nothing_in_a_message_forges_lines_or_steers_a_terminal(style: str) -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM.format(style=style)], capture_output=True, timeout=30)
    text = ended.stderr.decode()

    assert ended.returncode == 0
    assert "FORGED" in text
    assert "Traceback" in text
    assert not any(line.startswith("12:00:00") for line in text.splitlines())
    assert [sign for sign in text if sign != "\n" and not sign.isprintable()] == []


@pytest.mark.parametrize("style", ["console", "json"])
def test_no_traceback_shows_variables(style: str) -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM.format(style=style)], capture_output=True, timeout=30)
    assert b"password=" not in ended.stderr.replace(b'fail("hunter2")', b"")
    assert b"'hunter2'" not in ended.stderr
