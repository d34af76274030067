"""Batches of messages over HTTP, as far as they are read without a network."""

import pytest

from bridges.http_batch import EMPTY_LINES, lines_of
from gateway.core.errors import MessageTooLarge


def test_lines_keep_their_numbers_among_empty_ones() -> None:
    assert lines_of(b"\n1\r\n \n2", 2) == [(2, b"1"), (4, b"2")]
    assert lines_of(b"\n" * EMPTY_LINES + b"1\n2\n", 2)[-1] == (EMPTY_LINES + 2, b"2")


def test_a_batch_of_very_many_empty_lines_is_refused_before_it_is_taken_apart() -> None:
    class Body(bytes):
        def split(self, *_: object) -> list[bytes]:
            raise AssertionError("this takes long")

    with pytest.raises(MessageTooLarge, match="lines: expected at most 2 with messages"):
        lines_of(Body(b"\n" * (EMPTY_LINES + 3)), 2)
