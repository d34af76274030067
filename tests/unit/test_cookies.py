"""The session cookie: how it stands in headers, and what seals it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.cookies import SignedCookies
from gateway.core.cookies import CLEARED, read_cookie, set_cookie

PLAIN, SECURE = b"tidegate_session", b"__Host-tidegate_session"


@pytest.mark.parametrize(
    ("cookies", "encrypted", "expected"),
    [
        ([], False, None),
        ([b"theme=dark"], False, None),
        ([b"x=1; tidegate_session=a; y=2"], False, ("a", False)),
        ([b"x=1", b"tidegate_session=a"], False, ("a", False)),
        ([b'tidegate_session="a"'], False, ("a", False)),
        ([b"__Host-tidegate_session=a"], True, ("a", True)),
        ([b"__Host-tidegate_session=a; tidegate_session=b"], False, ("a", True)),
        ([b"tidegate_session=a"], True, None),  # anybody on the way can have set it
        ([b"tidegate_session=a; tidegate_session=a"], False, ("a", False)),
        ([b"tidegate_session=a; tidegate_session=b"], False, ("", False)),
        ([b"tidegate_session="], False, ("", False)),
        ([b"x=1;\ttidegate_session=a"], False, ("a", False)),
        ([b"\xa0__Host-tidegate_session=a"], True, None),  # another name, which any host of the site can set
        ([b"__Host-tidegate_session=a; \x85__Host-tidegate_session=b"], True, ("a", True)),
        ([b"xtidegate_session=a; Tidegate_session=b"], False, None),
    ],
)
def test_the_cookie_is_found_by_its_name(cookies: list[bytes], encrypted: bool, expected: object) -> None:
    assert read_cookie([(b"cookie", each) for each in cookies], encrypted=encrypted) == expected


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites() -> None:
    assert set_cookie("v", 60, secure=True) == (
        b"set-cookie",
        SECURE + b"=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure",
    )
    assert set_cookie("v", 60, secure=False) == (
        b"set-cookie",
        PLAIN + b"=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax",
    )
    assert [value.partition(b";")[0] for _, value in CLEARED] == [SECURE + b"=", PLAIN + b"="]
    assert all(b"Max-Age=0" in value for _, value in CLEARED)


FIELDS = {"user": "ann", "expires_at": 1.5}


def test_what_was_sealed_is_opened_and_nothing_else() -> None:
    seals = SignedCookies(["k" * 32])
    sealed = seals.seal(FIELDS)
    assert seals.open(sealed) == FIELDS
    assert set(sealed) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    for wrong in (
        sealed[:-1],
        sealed[1:],
        "",
        ".",
        "a.b",
        "é.ß",
        seals.mark("ann"),
        SignedCookies(["l" * 32]).seal({}),
    ):
        with pytest.raises(ValueError, match="not sealed here"):
            seals.open(wrong)


@given(st.text(max_size=200))
def test_no_text_of_a_client_is_opened(text: str) -> None:
    with pytest.raises(ValueError, match="not sealed here"):
        SignedCookies(["k" * 32]).open(text)


def test_the_newest_key_seals_and_older_ones_still_open() -> None:
    old, both, new = SignedCookies(["a" * 32]), SignedCookies(["a" * 32, "b" * 32]), SignedCookies(["b" * 32])
    assert both.open(old.seal(FIELDS)) == FIELDS
    assert new.open(both.seal(FIELDS)) == FIELDS
    assert both.is_mark(old.mark("ann"), "ann")
    with pytest.raises(ValueError, match="not sealed here"):
        new.open(old.seal(FIELDS))


def test_a_mark_is_of_one_text_and_one_key() -> None:
    seals = SignedCookies(["k" * 32])
    assert seals.is_mark(seals.mark("ann"), "ann")
    for mark, text in (
        (seals.mark("ann"), "bob"),
        ("", "ann"),
        ("é", "ann"),
        (SignedCookies(["l"]).mark("ann"), "ann"),
    ):
        assert not seals.is_mark(mark, text)
