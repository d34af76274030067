"""Names of rooms as clients give them: what is wrong with one is told to who gave it."""

from gateway.core.errors import BadMessage
from gateway.core.topics import InvalidName, check_filter, check_name

__all__ = ["check_room", "check_room_filter"]


def check_room(name: str) -> None:
    """Check that it is a room's name.

    Raises:
        BadMessage: it isn't.
    """
    try:
        check_name(name)
    except InvalidName as error:
        raise BadMessage(f"room: {error}") from None


def check_room_filter(text: str) -> None:
    """Check that it is a room's name, or a pattern over rooms.

    Raises:
        BadMessage: it isn't.
    """
    try:
        check_filter(text)
    except InvalidName as error:
        raise BadMessage(f"room: {error}") from None
