import pytest

from gateway.core.topics import InvalidName, check_name


@pytest.mark.parametrize("sign", ["\n", "\x01", "\x1b", "\x7f", "\x9f", "\ufdd0", "\ufffe", "\U0010ffff"])
def test_what_a_broker_may_end_the_connection_over_is_no_name(sign: str) -> None:
    with pytest.raises(InvalidName, match="no control characters"):
        check_name(f"sites/a{sign}/b")


@pytest.mark.parametrize("sign", ["é", "\u00a0", "\ufffd", "😀", " ", "%"])
def test_other_signs_are(sign: str) -> None:
    check_name(f"sites/a{sign}/b")
