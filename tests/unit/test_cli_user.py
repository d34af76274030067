"""`tidegate user` as somebody at a terminal uses it."""

import os
import pty
import signal
import stat
import termios
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from bridges import passwords
from bridges.passwords import verify_password
from gateway.cli import app
from gateway.config.users import read_users
from gateway.user_file import UserFile, UserFileError
from tests.real import DEADLINE_SECONDS, TIDEGATE
from tests.unit.test_passwords import CHEAP

PASSWORD = "correct horse"
USERS = Path("users.yaml")


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(passwords, "hash_password", CHEAP.hash)


def tidegate(*arguments: str, password: str | bytes = PASSWORD) -> tuple[int, str]:
    ended = CliRunner().invoke(app, ["user", *arguments], input=password)
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    return ended.exit_code, ended.output


def add(name: str, *arguments: str, password: str | bytes = f"{PASSWORD}\n") -> tuple[int, str]:
    return tidegate("add", name, *arguments, "--password-stdin", password=password)


def test_a_user_is_added_to_a_file_that_only_its_owner_reads() -> None:
    assert add("ann", "--role", "operator", "--role", "guest", "--claim", "site=oslo")[0] == 0

    assert stat.S_IMODE(USERS.stat().st_mode) == 0o600
    ann = read_users(USERS).users["ann"]
    assert (sorted(ann.roles), dict(ann.claims)) == (["guest", "operator"], {"site": "oslo"})
    assert verify_password(ann.password_hash, PASSWORD)
    assert list(Path().iterdir()) == [USERS]


def test_a_password_is_checked_and_the_exit_code_says_so() -> None:
    add("ann", "--role", "operator")
    add("bob")

    assert tidegate("check", "ann", "--password-stdin") == (0, "right; roles: operator\n")
    assert tidegate("check", "bob", "--password-stdin") == (0, "right; roles: none\n")
    assert tidegate("check", "ann", "--password-stdin", password="wrong") == (1, "wrong\n")
    assert tidegate("check", "zoe", "--password-stdin") == (1, "tidegate: no user in users.yaml is called 'zoe'\n")
    assert tidegate("check", "ann", "--password-stdin", password=b"\xff") == (
        1, "tidegate: the password is no UTF-8 text\n",
    )  # fmt: skip


def test_users_are_listed_removed_and_given_other_passwords() -> None:
    add("zoe", "--role", "operator", "--claim", "site=oslo")
    add("ann")
    assert tidegate("list") == (0, "ann  (no roles)\nzoe  operator\n")
    assert tidegate("password", "zoe", "--password-stdin", password="another one")[0] == 0
    zoe = read_users(USERS).users["zoe"]
    assert verify_password(zoe.password_hash, "another one")
    assert (sorted(zoe.roles), dict(zoe.claims)) == (["operator"], {"site": "oslo"})
    assert tidegate("remove", "ann")[0] == 0
    assert tidegate("remove", "ann") == (1, "tidegate: no user in users.yaml is called 'ann'\n")
    assert tidegate("list") == (0, "zoe  operator\n")


@pytest.mark.parametrize(
    ("arguments", "password", "expected"),
    [
        (["add", "ann"], PASSWORD, "expected --password-stdin"),
        (["add", "ann", "--password-stdin"], "", "expected a password of 8 to 1024 characters, found none"),
        (["add", "ann", "--password-stdin"], "1234567", "found 7"),
        (["add", "ann", "--password-stdin"], "x" * 1025, "found 1025"),
        (["add", "ann", "--password-stdin"], "two\nlines\n", "of one line"),
        (["add", "", "--password-stdin"], PASSWORD, "NAME: expected 1 to 256 printable characters"),
        (["add", "a\nb", "--password-stdin"], PASSWORD, "NAME: expected 1 to 256 printable characters"),
        (["add", "ann", "--password-stdin", "--role", "a b"], PASSWORD, "--role a b: expected letters"),
        (["add", "ann", "--password-stdin", "--claim", "site"], PASSWORD, "--claim site: expected such as site=oslo"),
        (["add", "ann", "--password-stdin", "--file", "none/users.yaml"], PASSWORD, "none/users.yaml: No such file"),
        (["list"], "", "users.yaml: expected a file, found none"),
        (["check", "ann"], "", "users.yaml: expected a file, found none"),
        (["remove", "ann"], "", "users.yaml: expected a file, found none"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_one_sentence_and_changes_nothing(
    arguments: list[str], password: str, expected: str
) -> None:
    code, output = tidegate(*arguments, password=password)

    assert code == 1
    assert output.startswith("tidegate: ")
    assert expected in output
    assert output.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_a_user_is_not_overwritten() -> None:
    add("ann")
    before = USERS.read_text()

    code, output = add("ann", "--role", "operator")

    assert code == 1
    assert "`tidegate user password`" in output
    assert USERS.read_text() == before


HASH = CHEAP.hash(PASSWORD)
WRITTEN = f"""# Who may log in.
ann:  # the boss
  password_hash: {HASH}

  # since May
  roles: [operator]

# bob left
"bob": {{password_hash: "{HASH}"}}
# the end
"""


def without(text: str, *lines: int) -> str:
    return "".join(line for number, line in enumerate(text.splitlines(keepends=True), 1) if number not in lines)


def test_all_else_in_the_file_stays_as_it_is() -> None:
    USERS.write_text(WRITTEN)
    file = UserFile(USERS)

    file.put("no: x", HASH, ["a"], {"sites": ("x", "y")})
    assert USERS.read_text().startswith(WRITTEN)
    assert read_users(USERS).users["no: x"].claims == {"sites": ("x", "y")}
    file.remove("no: x")
    assert USERS.read_text() == WRITTEN
    file.remove("bob")
    assert USERS.read_text() == without(WRITTEN, 9)
    file.remove("ann")
    assert USERS.read_text() == without(WRITTEN, 2, 3, 4, 5, 6, 9)


def test_a_last_line_without_its_end_and_an_empty_mapping_are_no_obstacle() -> None:
    USERS.write_text(f"ann: {{password_hash: '{HASH}'}}")
    UserFile(USERS).put("bob", HASH, [], {})
    assert list(read_users(USERS).users) == ["ann", "bob"]
    USERS.write_text("# nobody\n{}\n")
    UserFile(USERS).put("bob", HASH, [], {})
    assert USERS.read_text().startswith("# nobody\nbob:\n")


def test_another_password_leaves_roles_and_claims_what_they_have_become_and_brings_nobody_back() -> None:
    file, other = UserFile(USERS), CHEAP.hash("another one")
    file.put("ann", HASH, ["a"], {})
    UserFile(USERS).put("ann", HASH, ["b"], {"site": "oslo"})
    file.give_password("ann", other)
    ann = read_users(USERS).users["ann"]
    assert (ann.password_hash, set(ann.roles), dict(ann.claims)) == (other, {"b"}, {"site": "oslo"})
    file.remove("ann")
    with pytest.raises(UserFileError, match="'ann' any more: nothing was changed"):
        file.give_password("ann", HASH)
    assert "ann" not in read_users(USERS).users


@pytest.mark.parametrize("name", ["ann", "bob", "eve"])
def test_a_file_that_is_written_otherwise_is_refused_and_not_spoiled(name: str) -> None:
    text = f"{{ann: {{password_hash: '{HASH}'}}, bob: {{password_hash: '{HASH}'}}}}\n"
    USERS.write_text(text)

    with pytest.raises(UserFileError, match="nothing was changed: expected each user to begin in a line of its own"):
        UserFile(USERS).put(name, HASH, [], {})

    assert USERS.read_text() == text
    assert list(Path().iterdir()) == [USERS]


def test_a_file_in_which_something_is_wrong_is_not_changed() -> None:
    USERS.write_text("ann: {password_hash: x}\n")
    code, output = add("bob")
    assert code == 1
    assert "users.yaml:1:7: ann.password_hash: expected an argon2 hash" in output


def test_a_link_stays_one_and_what_it_leads_to_is_changed() -> None:
    Path("real.yaml").write_text("")
    USERS.symlink_to("real.yaml")
    add("ann")
    assert USERS.is_symlink()
    assert list(read_users(Path("real.yaml")).users) == ["ann"]


def test_a_crash_leaves_the_file_that_was(monkeypatch: pytest.MonkeyPatch) -> None:
    add("ann")
    before = USERS.read_text()

    def crash(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    assert "No space left on device" in add("bob")[1]
    assert USERS.read_text() == before
    assert list(Path().iterdir()) == [USERS]


def at_a_terminal(arguments: list[str], *typed: bytes) -> tuple[int, str, bool]:
    """Exit code, what is to be seen, and whether the terminal shows what is typed again, at the end."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(TIDEGATE, ["tidegate", *arguments])
    seen = b""
    for number, text in enumerate(typed, 1):
        until = time.monotonic() + DEADLINE_SECONDS
        while seen.count(b": ") < number or termios.tcgetattr(terminal)[3] & termios.ECHO:
            assert time.monotonic() < until
            if seen.count(b": ") < number:
                seen += os.read(terminal, 1000)
        os.write(terminal, text)
        time.sleep(0.05)
    echoes = False
    try:
        while chunk := os.read(terminal, 1000):
            seen += chunk
            echoes = bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
    except OSError:
        pass  # the other end is closed
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.close(terminal)
    return code, seen.decode(), echoes


TYPED = f"{PASSWORD}\n".encode()


@pytest.mark.parametrize(
    ("arguments", "typed", "code", "expected"),
    [
        (["add", "ann"], [TYPED, TYPED], 0, "ann is in users.yaml now"),
        (["add", "ann"], [TYPED, b"other\n"], 1, "the two passwords differ: nothing was changed"),
        (["add", "ann"], [b"\x04"], 1, "no password was given"),
        (["add", "ann"], [b"\n", b"\n"], 1, "found none"),
        (["add", "ann"], [b"\x03"], 128 + signal.SIGINT, ""),
        (["add", "ann"], [TYPED, b"\x03"], 128 + signal.SIGINT, ""),
    ],
)
def test_a_password_is_asked_for_unseen_and_the_terminal_is_left_as_it_was(
    arguments: list[str], typed: list[bytes], code: int, expected: str
) -> None:
    found, seen, echoes = at_a_terminal(["user", *arguments], *typed)

    assert (found, PASSWORD in seen, "Traceback" in seen) == (code, False, False)
    assert expected in seen
    assert echoes
    assert USERS.exists() == (code == 0)


def test_what_is_written_is_what_a_yaml_reader_finds() -> None:
    names = {"no", "123", "zoë", "a#b", "- x", "{user}", "x" * 256}
    for name in names:
        UserFile(USERS).put(name, HASH, [], {})
    assert set(yaml.safe_load(USERS.read_text())) == names
    assert set(read_users(USERS).users) == names
