"""When a change of files counts: once it is over, and once."""

import asyncio
import os
from pathlib import Path

import pytest

from gateway.file_watch import FileWatch
from tests.certificates import replace


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("first")
    return path


def test_a_change_counts_once_and_only_when_the_files_look_the_same_twice(file: Path) -> None:
    watch = FileWatch(lambda: [file])
    assert [watch.settled() for _ in range(3)] == [False, False, False]
    file.write_text("")
    assert not watch.settled()
    file.write_text("second, half")
    assert not watch.settled()
    file.write_text("second, whole")
    assert [watch.settled() for _ in range(4)] == [False, True, False, False]


def test_another_file_in_the_place_of_one_is_a_change_though_it_has_the_same_size_and_so_is_none(file: Path) -> None:
    watch = FileWatch(lambda: [file])
    found = file.stat()
    replace(file, b"other")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert [watch.settled() for _ in range(3)] == [False, True, False]
    file.unlink()
    assert [watch.settled() for _ in range(3)] == [False, True, False]


def test_what_was_changed_and_changed_back_is_no_change(file: Path) -> None:
    watch = FileWatch(lambda: [file])
    hidden = file.rename(file.with_suffix(".away"))
    watch.settled()
    hidden.rename(file)
    assert [watch.settled() for _ in range(3)] == [False, False, False]


def test_which_files_are_watched_may_change(file: Path) -> None:
    files = [file]
    watch = FileWatch(lambda: files)
    files.append(file.with_name("more"))
    assert [watch.settled() for _ in range(3)] == [False, True, False]
    files[1].write_text("x")
    assert [watch.settled() for _ in range(3)] == [False, True, False]


async def test_who_waits_is_told_of_a_change_or_that_somebody_asked(file: Path) -> None:
    watch = FileWatch(lambda: [file], check_seconds=0.01)
    watch.ask()
    assert await watch.changed() is True
    replace(file, b"second")
    assert not watch.is_unchanged()
    assert await watch.changed() is False
    assert watch.is_unchanged()
    replace(file, b"third")
    watch.ask()  # the change is told of with it
    assert await watch.changed() is True
    assert watch.is_unchanged()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch.changed(), 0.1)
