"""An HTTP server that takes webhooks, and fails as it is told to: a real one, in a thread."""

import hmac
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import orjson

from tests.real import wait_until


@dataclass(frozen=True)
class Taken:
    """One call, and what was answered."""

    headers: dict[str, str]
    body: bytes
    status: int
    at: float = field(default_factory=time.monotonic)

    @property
    def data(self) -> dict[str, Any]:
        """What it tells."""
        told: dict[str, Any] = orjson.loads(self.body)["data"]
        return told

    @property
    def id(self) -> str:
        """Its stable id."""
        return self.headers["webhook-id"]

    def is_signed_by(self, secret: bytes) -> bool:
        """Whether one of its signatures is right (Standard Webhooks)."""
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        right = f"v1,{b64encode(hmac.digest(secret, signed, 'sha256')).decode()}"
        return right in self.headers.get("webhook-signature", "").split(" ")


class Receiver:
    """What has come, and what is to be answered."""

    def __init__(self, tls: dict[str, str] | None = None) -> None:
        self.calls: list[Taken] = []
        self.answers: deque[int | str | tuple[int, dict[str, str]]] = deque()
        """For the calls to come: a status, with headers perhaps, or `hang` or `close`; then 204.

        Of a longer body than 3 bytes the rest never comes.
        """
        self.always: int | str | None = None
        """What is answered when there are no `answers`, in place of 204."""
        self.released = threading.Event()
        """Ends what hangs."""
        self.connections = 0
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if tls is not None:
            context = SSLContext(PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls["tls_certificate_file"], tls["tls_key_file"])
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/hooks/s3cret-path"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def events(self) -> list[dict[str, Any]]:
        """All that was accepted, in order; of a call that came again, once."""
        accepted = {call.id: call for call in tuple(self.calls) if call.status in (200, 204)}
        return [event for call in accepted.values() for event in call.data["events"]]

    def heard(self, count: int) -> list[dict[str, Any]]:
        """The first so many events, once they are there."""
        wait_until(lambda: len(self.events) >= count, f"{count} events are told")
        return self.events

    def wait(self, condition: Callable[[list[Taken]], Any], what: str) -> Any:
        """Until the calls so far are such."""
        return wait_until(lambda: condition(list(self.calls)), what)

    def close(self) -> None:
        """End it; it can't be reached any more."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who is gone is gone."""


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            receiver.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = receiver.answers.popleft() if receiver.answers else receiver.always or 204
            status, more = answer if isinstance(answer, tuple) else (answer, {})
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.calls.append(Taken(headers, body, status if isinstance(status, int) else 0))
            if status == "hang":
                receiver.released.wait(60)
            if not isinstance(status, int):
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            answer_bytes = int(more.get("content-length", 0 if status == 204 else 3))
            if answer_bytes and "content-length" not in more:
                self.send_header("content-length", "3")
            self.end_headers()
            self.wfile.write(b"no\n"[:answer_bytes])
            if answer_bytes > 3:  # the rest never comes
                receiver.released.wait(60)

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    return Handler


@contextmanager
def receiver(tls: dict[str, str] | None = None) -> Iterator[Receiver]:
    """A running one."""
    running = Receiver(tls)
    try:
        yield running
    finally:
        running.close()


def secret_file(folder: Path, *lines: str) -> Path:
    """A file with secrets."""
    path = folder / "webhook.key"
    path.write_text("\n".join(lines) + "\n")
    return path
