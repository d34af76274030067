import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import Receipt
from gateway.core.receipts import Entry, Receipts
from tests.unit.conftest import World


def entry(upstream: str, receipt: Receipt) -> Entry:
    return upstream, receipt.packet_id, receipt.digest


def receipt(packet_id: int, payload: bytes = b"1", *, again: bool = False) -> Receipt:
    return Receipt.of(packet_id, again, "t", payload)


def test_a_redelivery_of_what_is_stored_repeats_it() -> None:
    receipts = Receipts()
    assert not receipts.repeats("plant", receipt(5, again=True))
    receipts.take(entry("plant", receipt(5)))
    assert receipts.repeats("plant", receipt(5, again=True))


@pytest.mark.parametrize(
    ("upstream", "other"),
    [
        ("plant", receipt(5)),
        ("plant", receipt(5, b"2", again=True)),
        ("plant", receipt(6, again=True)),
        ("other", receipt(5, again=True)),
    ],
    ids=["without DUP", "other content", "other identifier", "other broker"],
)
def test_anything_else_is_a_new_message(upstream: str, other: Receipt) -> None:
    receipts = Receipts()
    receipts.take(entry("plant", receipt(5)))
    assert not receipts.repeats(upstream, other)


def test_a_new_packet_takes_the_place_of_the_old_one_with_its_identifier() -> None:
    receipts = Receipts()
    receipts.take(entry("plant", receipt(5, b"1")))
    receipts.take(entry("plant", receipt(5, b"2")))
    assert not receipts.repeats("plant", receipt(5, b"1", again=True))
    assert receipts.repeats("plant", receipt(5, b"2", again=True))
    assert len(receipts) == 1


def test_what_is_acknowledged_is_forgotten_and_so_is_all_of_an_old_session() -> None:
    receipts = Receipts()
    for packet_id in (5, 6):
        receipts.take(entry("plant", receipt(packet_id)))
    receipts.acknowledged("plant", 5)
    receipts.acknowledged("plant", 5)
    receipts.acknowledged("nobody", 5)
    assert not receipts.repeats("plant", receipt(5, again=True))
    assert receipts.repeats("plant", receipt(6, again=True))
    receipts.forget("plant")
    assert not receipts.repeats("plant", receipt(6, again=True))
    assert list(receipts.entries()) == []


def test_topic_and_payload_cant_run_into_each_other() -> None:
    assert Receipt.of(1, False, "ab", b"c").digest != Receipt.of(1, False, "a", b"bc").digest


@pytest.mark.parametrize("packet_id", [0, -1, 65_536])
def test_identifiers_that_none_can_have_are_refused(packet_id: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 65535"):
        Receipts([("plant", packet_id, b"")])


def test_there_are_at_most_as_many_as_identifiers() -> None:
    receipts = Receipts()
    for _ in range(2):
        for packet_id in range(1, 65_536):
            receipts.take(entry("plant", Receipt(packet_id, False, b"")))
    assert len(receipts) == 65_535


STEP = st.tuples(
    st.sampled_from(["take", "acknowledged", "forget"]),
    st.sampled_from(["a", "b"]),
    st.integers(1, 3),
    st.binary(max_size=1),
)


@given(st.lists(STEP, max_size=30), st.integers(0, 30))
def test_one_that_goes_on_with_the_entries_of_another_answers_as_it(
    steps: list[tuple[str, str, int, bytes]], restart: int
) -> None:
    receipts, reference = Receipts(), dict[tuple[str, int], bytes]()
    for number, (what, upstream, packet_id, payload) in enumerate(steps):
        if number == restart:
            receipts = Receipts(receipts.entries())
        if what == "take":
            receipts.take(entry(upstream, receipt(packet_id, payload)))
            reference[upstream, packet_id] = payload
        elif what == "acknowledged":
            receipts.acknowledged(upstream, packet_id)
            reference.pop((upstream, packet_id), None)
        else:
            receipts.forget(upstream)
            reference = {key: value for key, value in reference.items() if key[0] != upstream}
        for name in "ab":
            for identifier in (1, 2, 3):
                for content in (b"", b"1"):
                    expected = reference.get((name, identifier)) == content
                    assert receipts.repeats(name, receipt(identifier, content, again=True)) is expected


def test_the_namespace_delivers_a_redelivery_once_and_says_so_each_time(world: World) -> None:
    session, sink, _ = world.join()
    world.subscribe(session, "#")
    sink.take()
    topic = "sensors/s/d/m"
    for again in (False, True, True):
        assert world.device(topic, b"1", receipt=Receipt.of(5, again, topic, b"1")) == 1
    assert [sent["data"] for sent in sink.take()] == [1]
    assert world.counters.drops["redelivered"] == 2
    assert world.device(topic, b"1", receipt=Receipt.of(5, False, topic, b"1")) == 1
    assert len(sink.take()) == 1


@pytest.mark.parametrize(
    ("topic", "payload", "retained"),
    [("sensors/s/d/m", b"{", False), ("nobody/wants/it", b"1", False), ("sensors/s/d/m", b"1", True)],
    ids=["bad payload", "no route", "retained and known"],
)
def test_the_namespace_says_once_that_a_message_is_handled_also_if_it_is_dropped(
    world: World, topic: str, payload: bytes, retained: bool
) -> None:
    world.device("sensors/s/d/m", b"1")
    assert world.device(topic, payload, retained=retained) == 1
    assert world.device(topic, payload, retained=retained, receipt=Receipt.of(1, False, topic, payload)) == 1
