"""Passwords and their hashes, and how many are checked at a time."""

import asyncio

import pytest
from argon2 import PasswordHasher

from bridges import passwords
from bridges.passwords import PasswordChecker, UnfitHash, check_hash, hash_password, verify_password
from gateway.core.login_errors import LoginsBusy

HERE = "192.0.2.1"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def test_a_hash_is_of_one_password_and_is_another_each_time() -> None:
    first, second = hash_password("correct horse"), hash_password("correct horse")
    assert first != second
    assert first.startswith("$argon2id$")
    assert verify_password(first, "correct horse")
    assert not verify_password(first, "correct horse ")
    assert not verify_password("nonsense", "correct horse")


def test_a_password_is_the_same_however_its_characters_are_composed() -> None:
    assert verify_password(hash_password("zo\u00eb geheim"), "zoe\u0308 geheim")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected an argon2 hash"),
        ("$2b$12$abc", "expected an argon2 hash"),
        ("$argon2id$v=19$m=x,t=3,p=4$abc$def", "expected an argon2 hash"),
        (
            "$argon2i$v=19$m=8,t=1,p=1$itKC9duLs6PM6lDoFuveJw$KWlVVZyJIaz5D6oiDSDbR8NlWc8QRD/mpULEpO50bPs",
            "expected an argon2id hash",
        ),
        ("$argon2id$v=19$m=2000000,t=3,p=4$c29tZXNhbHQ$c29tZWhhc2g", "at most 1 GiB"),
        ("$argon2id$v=19$m=65536,t=1000,p=4$c29tZXNhbHQ$c29tZWhhc2g", "100 rounds"),
    ],
)
def test_what_is_no_fit_hash_is_refused(text: str, expected: str) -> None:
    with pytest.raises(UnfitHash, match=expected):
        check_hash(text)


async def test_somebody_unknown_is_checked_as_users_are_and_never_right(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = PasswordChecker([CHEAP.hash("a"), CHEAP.hash("b"), hash_password("c")])
    checked: list[str] = []

    def verify(password_hash: str, password: str) -> bool:
        checked.append(password_hash)
        return verify_password(password_hash, password)

    monkeypatch.setattr(passwords, "verify_password", verify)
    assert not await checker.check(None, "nobody's", HERE)
    assert await checker.check(CHEAP.hash("a"), "a", HERE)
    assert check_hash(checked[0]) == check_hash(checked[1])  # as most of them are


async def test_no_more_wait_than_may_and_those_are_told_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAXIMUM_WAITING", 3)
    checker, right = PasswordChecker([]), CHEAP.hash("a")
    tries = await asyncio.gather(*(checker.check(right, "a", f"10.0.0.{n}") for n in range(5)), return_exceptions=True)
    assert tries[:3] == [True] * 3
    assert [type(each) for each in tries[3:]] == [LoginsBusy] * 2
    assert isinstance(tries[3], LoginsBusy)
    assert tries[3].retry_after_seconds == 2
    assert await checker.check(right, "a", HERE)


async def test_one_address_keeps_no_other_out() -> None:
    checker, right = PasswordChecker([]), CHEAP.hash("a")
    tries = await asyncio.gather(*(checker.check(right, "a", HERE) for _ in range(6)), return_exceptions=True)
    assert tries[:4] == [True] * 4
    assert [type(each) for each in tries[4:]] == [LoginsBusy] * 2
    tries = await asyncio.gather(
        *(checker.check(right, "a", network) for network in (*[HERE] * 5, "192.0.2.2")), return_exceptions=True
    )
    assert (type(tries[4]), tries[5]) == (LoginsBusy, True)


async def test_the_event_loop_goes_on_meanwhile() -> None:
    checker, turns = PasswordChecker([]), 0
    checking = asyncio.ensure_future(checker.check(hash_password("a"), "a", HERE))
    while not checking.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 3
