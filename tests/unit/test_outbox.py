"""What is joined in a burst is what would have been written one by one."""

import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import outbox as outboxes
from gateway.core.outbox import Outbox, Writes


class Client:
    """One session's way out."""

    def __init__(self, fails: bool = False) -> None:
        self.written: list[bytes] = []
        self._fails = fails

    def write(self, data: bytes) -> None:
        if self._fails:
            raise OSError("the connection is gone")
        self.written.append(data)


def ways(clients: list[Client], *numbers: int) -> Writes:
    return tuple(clients[number].write for number in numbers)


AUDIENCES = [(0, 1, 2), (0, 1, 2), (1, 3), (3,), ()]
EVENTS = st.lists(
    st.one_of(
        st.sampled_from(["begin", "end", "flush"]), st.tuples(st.integers(0, 4), st.binary(min_size=1, max_size=9))
    )
)


@given(EVENTS, st.sampled_from([1, 10, 1000]))
def test_each_session_gets_the_same_bytes_in_the_same_order_as_without_a_burst(
    events: list[str | tuple[int, bytes]], most_bytes: int
) -> None:
    clients, expected = [Client() for _ in range(4)], [b"" for _ in range(4)]
    audiences = [ways(clients, *numbers) for numbers in AUDIENCES]
    outbox, bursts = Outbox(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outboxes, "MAXIMUM_HELD_BYTES", most_bytes)
        for event in events:
            match event:
                case "begin":
                    outbox.begin()
                    bursts += 1
                case "end" if bursts:
                    outbox.end()
                    bursts -= 1
                case "flush":
                    outbox.flush()
                case (number, frame):
                    outbox.write(audiences[number], frame)
                    for each in AUDIENCES[number]:
                        expected[each] += frame
            if not bursts:
                assert [b"".join(client.written) for client in clients] == expected
        outbox.flush()
    assert [b"".join(client.written) for client in clients] == expected


def test_a_burst_is_one_write_for_each_session() -> None:
    clients = [Client() for _ in range(3)]
    every, some = ways(clients, 0, 1, 2), ways(clients, 0, 2)
    outbox = Outbox()
    outbox.begin()
    for writes, frame in ((every, b"a"), (every, b"b"), (some, b"c"), (every, b"d")):
        outbox.write(writes, frame)
    assert [client.written for client in clients] == [[], [], []]
    outbox.end()
    assert [client.written for client in clients] == [[b"abcd"], [b"abd"], [b"abcd"]]


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outboxes, "MAXIMUM_HELD_BYTES", 3)
    client, outbox = Client(), Outbox()
    outbox.begin()
    for _ in range(9):
        outbox.write((client.write,), b"x")
    assert client.written == [b"xxxx", b"xxxx"]


@pytest.mark.parametrize("burst", [False, True])
def test_a_session_that_cannot_be_written_to_costs_the_others_nothing(
    burst: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clients = [Client(), Client(fails=True), Client()]
    outbox = Outbox()
    if burst:
        outbox.begin()
    outbox.write(ways(clients, 0, 1, 2), b"a")
    outbox.write(ways(clients, 1, 2), b"b")
    outbox.flush()
    assert [b"".join(client.written) for client in clients] == [b"a", b"", b"ab"]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_what_is_written_meanwhile_comes_behind_what_was_held() -> None:
    """As when a client that doesn't take it leaves the fan-out, which looks whether something is held."""
    outbox, order = Outbox(), list[str]()

    def first(data: bytes) -> None:
        order.append(f"first {data.decode()}")
        outbox.flush()

    def second(data: bytes) -> None:
        order.append(f"second {data.decode()}")

    both: tuple[Callable[[bytes], None], ...] = (first, second)
    outbox.begin()
    outbox.write(both, b"a")
    outbox.write((first,), b"b")
    outbox.end()
    assert order == ["first ab", "second a"]
