"""What subscriptions lack, read for very many of them."""

from time import process_time

from gateway.core.message import Message
from gateway.core.reading import Wanted, read


class Source:
    """Each room has one message."""

    def last(self, room_filter: str, /) -> list[Message]:
        """None."""
        return []

    def after(self, room_filter: str, position: int, /, *, latest: bool = False) -> tuple[list[Message], bool]:
        """That of a room."""
        return [Message(room_filter, b"1", "epoch", int(room_filter), 0.0)], True


def test_a_node_that_comes_back_with_very_many_rooms_reads_in_a_time_that_grows_as_they_do() -> None:
    wanted = {str(number): Wanted(0, 0) for number in range(1, 5001)}
    began = process_time()
    found = read(Source(), 5000, wanted, 5000)
    assert [message.sequence for message in found.messages] == [*range(1, 5001)]
    assert process_time() - began < 0.5  # with a look at all rooms for each message it takes some seconds
