"""What is to be written to many sessions: at once, or joined with what comes in the same burst.

A write to a socket costs as much as all else that a delivery takes. So while a burst of messages is taken, what each
session gets of it is collected, and written as one. Nothing waits longer than the burst, which is what one read from a
broker brought; and nothing else is written to a session, or changed of who gets what, before it is.
"""

import logging
from collections.abc import Callable
from typing import Final, TypeAlias

__all__ = ["Outbox", "Writes", "write_each"]

logger = logging.getLogger(__name__)

MAXIMUM_HELD_BYTES: Final = 32 * 1024
"""After so many bytes of frames what is held is written: it is what one session gets at most as one write."""

FAULT: Final = "a session could not be written to"
"""What is logged; the others are written to all the same."""

Writes: TypeAlias = tuple[Callable[[bytes], None], ...]
"""How to write to each of some sessions."""


class Outbox:
    """The way from the fan-out to the sessions of a namespace."""

    __slots__ = ("_bursts", "_held", "_held_bytes")

    def __init__(self) -> None:
        self._bursts = 0
        self._held: list[tuple[Writes, bytes]] = []
        self._held_bytes = 0

    def begin(self) -> None:
        """From now on hold what is written, until as many calls of `end`."""
        self._bursts += 1

    def end(self) -> None:
        """The burst is over."""
        self._bursts -= 1
        if not self._bursts:
            self.flush()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_: object) -> None:
        self.end()

    def write(self, writes: Writes, frame: bytes) -> None:
        """Write a frame to some sessions, each of which takes what it is sent."""
        if not self._bursts:
            write_each(writes, frame)
            return
        self._held.append((writes, frame))
        self._held_bytes += len(frame)
        if self._held_bytes > MAXIMUM_HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write all that is held, to each session what it gets in one piece and in order."""
        if not self._held:
            return
        held, self._held, self._held_bytes = self._held, [], 0
        runs: list[tuple[Writes, list[bytes]]] = []
        last: Writes | None = None
        for writes, frame in held:
            if writes is last:
                runs[-1][1].append(frame)
            else:
                runs.append((writes, [frame]))
                last = writes
        if len(runs) == 1:
            write_each(runs[0][0], b"".join(runs[0][1]))
            return
        due: dict[Callable[[bytes], None], list[bytes]] = {}
        for writes, frames in runs:
            piece = frames[0] if len(frames) == 1 else b"".join(frames)
            for write in writes:
                pieces = due.get(write)
                if pieces is None:
                    due[write] = [piece]
                else:
                    pieces.append(piece)
        for write, pieces in due.items():
            try:
                write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            except Exception:
                logger.exception(FAULT)


def write_each(writes: Writes, data: bytes) -> None:
    """Write bytes to some sessions, whatever befalls one of them."""
    remaining = iter(writes)
    while True:
        try:
            for write in remaining:
                write(data)
        except Exception:
            logger.exception(FAULT)
        else:
            return
