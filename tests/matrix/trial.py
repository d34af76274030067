"""One client that is being tried, with rooms of its own."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from playwright.sync_api import Browser

from tests.javascript import ClientError
from tests.matrix.bench import TOKENS, Bench
from tests.matrix.cells import CLIENTS
from tests.matrix.programs import Program, messages_of
from tests.proxy import Relay

__all__ = ["Trial"]


class Trial:
    """What a cell needs: the client, the bench, and names that nobody else uses."""

    def __init__(self, bench: Bench, between: Relay, chromium: Browser, name: str) -> None:
        self.bench = bench
        self.between = between
        self.client = CLIENTS[name]
        self.device = bench.name()
        self.measurements = self.client.address(f"sites/{self.device}/t", f"sensors/{self.device}/t")
        self.commands = self.client.address(f"devices/{self.device}/commands", f"commands/{self.device}")
        self.people = f"people/{self.device}"
        self.calls = f"calls/{self.device}"
        self._chromium = chromium
        self._url = f"http://127.0.0.1:{between.port}"

    @contextmanager
    def client_of(self, who: str, **options: Any) -> Iterator[Program]:
        """A client that one of three people has connected."""
        program = self.client.start(self._chromium, self._url)
        try:
            program.do("connect", url=self._url, token=TOKENS[who], **{**self.client.options, **options})
            yield program
        finally:
            with suppress(ClientError):  # it may have left, or been sent away
                program.do("disconnect")
            program.stop()

    def measured(self, program: Program, count: int) -> list[Any]:
        """What has been told of the device, once there is so much."""
        return messages_of(program, self.measurements, count)
