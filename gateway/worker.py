"""One of several processes of a gateway: its number, and its line to the parent that started it.

By the line the parent says what all workers are to do, and a worker says that it serves, or why it can't. A word may
come twice, as a signal that goes to the whole group of processes does: it means no more then.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Mapping

__all__ = ["Worker"]

logger = logging.getLogger(__name__)


class Worker:
    """The process that it is made in, among the others.

    Args:
        index: Its number, from 0 on.
        restarts: How often one with this number was started again.
        port: The port that all share.
        line: Leads to the parent.
    """

    def __init__(self, index: int, restarts: int, port: int, line: socket.socket) -> None:
        self.index = index
        self.restarts = restarts
        self.port = port
        self._line = line

    def obey(self, *, drain: Callable[[], None], end: Callable[[], None], reload: Callable[[], None]) -> None:
        """From now on do what the parent says; without a parent, drain."""
        words = {b"drain": drain, b"end": end, b"reload": reload}
        self._line.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._line, self._hear, words, loop)

    def _hear(self, words: Mapping[bytes, Callable[[], None]], loop: asyncio.AbstractEventLoop) -> None:
        said = self._line.recv(4096)
        for word in said.split():
            words[word]()
        if not said:
            loop.remove_reader(self._line)
            logger.error("the process that started this one is gone: it ends")
            words[b"drain"]()

    def serves(self, ops_port: int | None) -> None:
        """Say that connections are taken, and where operators ask."""
        self._say({"ops_port": ops_port})

    def fails(self, problem: str) -> None:
        """Say why it can't start; it is to end then."""
        self._say({"problem": problem})

    def _say(self, said: Mapping[str, object]) -> None:
        try:
            self._line.send(json.dumps(said).encode() + b"\n")
        except OSError:
            logger.warning("the process that started this one does not listen")
