"""The parts of the upstream that do no I/O: what is owed to the broker, and how long to wait."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.mqtt_acknowledgements import Acknowledgements, TooManyUnacknowledged
from bridges.mqtt_backoff import Backoff


class Account:
    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.confirmed: list[int] = []
        self.owed = Acknowledgements(lambda *packet: self.sent.append(packet), self.confirmed.append)


@given(st.permutations(range(8)), st.lists(st.sampled_from([1, 2]), min_size=8, max_size=8))
def test_acknowledgements_leave_in_the_order_of_receipt_whenever_they_are_stored(
    order: list[int], qos: list[int]
) -> None:
    account = Account()
    stored = [account.owed.owe(number + 1, qos[number]) for number in range(8)]
    done: set[int] = set()
    for number in order:
        stored[number]()
        stored[number]()
        done.add(number)
        ready = next((n for n in range(8) if n not in done), 8)
        assert account.sent == [(n + 1, qos[n]) for n in range(ready)]
    assert len(account.owed) == 0


def test_a_puback_is_confirmed_by_the_answer_to_a_ping_that_was_sent_after_it() -> None:
    account = Account()
    account.owed.owe(1, 1)()
    assert account.owed.unconfirmed
    account.owed.asked()
    account.owed.owe(2, 1)()
    account.owed.answered()
    assert account.confirmed == [1]
    account.owed.answered()
    assert account.confirmed == [1]
    account.owed.asked()
    account.owed.answered()
    assert account.confirmed == [1, 2]
    assert not account.owed.unconfirmed


def test_an_identifier_that_has_come_again_meanwhile_is_not_confirmed_for_its_new_packet() -> None:
    account = Account()
    account.owed.owe(1, 1)()
    account.owed.owe(2, 1)()
    account.owed.asked()
    account.owed.owe(1, 1)
    account.owed.answered()
    assert account.confirmed == [2]


def test_a_pubrec_is_confirmed_by_its_pubrel_alone() -> None:
    account = Account()
    account.owed.owe(1, 2)()
    assert not account.owed.unconfirmed
    account.owed.released(1)
    assert account.confirmed == [1]


def test_what_is_stored_after_the_connection_ended_is_not_acknowledged_on_it() -> None:
    account = Account()
    stored = account.owed.owe(1, 1)
    account.owed.close()
    stored()
    assert account.sent == []


def test_more_packets_than_identifiers_are_against_the_protocol() -> None:
    account = Account()
    for number in range(65_535):
        account.owed.owe(number + 1, 1)
    with pytest.raises(TooManyUnacknowledged):
        account.owed.owe(1, 1)


class Highest(Random):
    def uniform(self, a: float, b: float) -> float:
        return b


def test_pauses_grow_to_the_longest_and_begin_anew_after_a_connection_that_lasted() -> None:
    backoff = Backoff(1, 8, Highest())
    assert [backoff.failed(None) for _ in range(5)] == [1, 2, 4, 8, 8]
    assert backoff.failed(8) == 1


def test_a_connection_that_did_not_last_makes_no_pause_shorter() -> None:
    backoff = Backoff(1, 8, Highest())
    assert [backoff.failed(7.9) for _ in range(4)] == [1, 2, 4, 8]
    assert backoff.quick_losses == 4
    backoff.failed(8)
    assert backoff.quick_losses == 0


@given(st.integers(0, 2**32))
def test_after_a_takeover_the_pause_is_longer_than_any_other(seed: int) -> None:
    backoff = Backoff(1, 8, Random(seed))
    assert 8 <= backoff.failed(100, taken_over=True) <= 16
    assert 1 <= backoff.failed(None) <= 8
