"""What benchmarks/cluster_faults.py counts as lost, doubled and out of order."""

from collections import defaultdict

import pytest

from benchmarks.faults.ledger import Counts, Ledger, Log, key_of

LOG = Log([key_of(number, 1) for number in range(10)])


def audit(ledger: Ledger, log: Log = LOG) -> Counts:
    total = Counts()
    for counts in ledger.audit(defaultdict(lambda: log), 0).values():
        total.add(counts)
    return total


def heard(*numbers: int | str) -> Ledger:
    """A client that heard these from the beginning; `again`: it was told of a gap; `back`: it came back unaided."""
    ledger = Ledger(["a"])
    ledger.begin("a", None, 0)
    for number in numbers:
        if isinstance(number, int):
            ledger.message("a", key_of(number, 1), 0)
        else:
            ledger.begin("a", None, 0, unaided=number == "back")
    return ledger


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((*range(10),), Counts()),
        ((*range(9),), Counts(lost=1)),
        ((0, 1, 4, *range(5, 10)), Counts(lost=2)),
        ((*range(5), 4, *range(5, 10)), Counts(duplicated=1)),
        ((*range(5), 2, *range(5, 10)), Counts(duplicated=1)),
        ((0, 2, 1, *range(3, 10)), Counts(lost=1, out_of_order=1)),
        ((*range(5), 77, *range(5, 10)), Counts(unknown=1)),
        ((*range(3), "gap", *range(5, 10)), Counts(told=1, lacking=2)),
        ((*range(3), "gap", *range(3, 10)), Counts(told=1)),
        ((*range(3), "gap", *range(2, 10)), Counts(told=1, duplicated=1)),
        ((*range(3), "back", *range(5, 10)), Counts(unaided=2)),
        ((*range(3), "back", *range(2, 10)), Counts()),
        ((*range(3), "back", *range(1, 10)), Counts(duplicated=2)),
    ],
)
def test_what_a_client_heard_is_compared_with_the_log(numbers: tuple[int | str, ...], expected: Counts) -> None:
    found = audit(heard(*numbers))
    assert found == expected
    assert found.is_flawless == (not (found.lost or found.duplicated or found.out_of_order or found.unknown))


def test_who_comes_later_begins_with_the_last_value() -> None:
    ledger = Ledger(["a"])
    ledger.begin("a", key_of(4, 1), 0)
    for number in range(5, 10):
        ledger.message("a", key_of(number, 1), 0)
    assert audit(ledger) == Counts()
    assert not ledger.was_told(1)


def test_a_last_value_in_place_of_what_is_lacking_is_no_message_twice() -> None:
    ledger = heard(0, 1, 2)
    ledger.begin("a", key_of(5, 1), 0)
    for number in range(6, 10):
        ledger.message("a", key_of(number, 1), 0)
    assert audit(ledger) == Counts(told=1, lacking=2)
    assert ledger.was_told(0)


def test_what_a_device_sent_twice_is_two_messages_and_what_the_log_has_twice_is_not() -> None:
    keys = [key_of(0, 1), key_of(1, 1), key_of(1, 2), key_of(2, 1)]
    log = Log(keys)
    assert (log.duplicated, log.numbers) == (0, {0: 0, 1: 1, 2: 3})
    assert Log([*keys, key_of(1, 1)]).duplicated == 1
    ledger = Ledger(["a"])
    ledger.begin("a", None, 0)
    for key in keys:
        ledger.message("a", key, 0)
    assert audit(ledger, log) == Counts()


def test_what_is_judged_is_not_judged_again() -> None:
    ledger = heard(*range(5))
    ledger.begin_anew()
    assert ledger.has({"a": 4})
    assert not ledger.has({"a": 5})
    for number in range(6, 9):
        ledger.message("a", key_of(number, 1), 1)
    assert audit(ledger, Log([key_of(number, 1) for number in range(5, 9)])) == Counts(lost=1)
