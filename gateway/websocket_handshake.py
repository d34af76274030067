"""The handshake of a WebSocket connection, and the application that answers it (RFC 6455 §4.2).

uvicorn's protocol would have the library read the request once more that the HTTP connection has read, and send the
answer before anybody can add to it.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from uvicorn.protocols.utils import ClientDisconnected
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.protocol import Protocol as FrameParser

from bridges.carrier_frames import WINDOW_BITS
from gateway.handed import Handed
from gateway.portions import PortionedWebSocketProtocol

__all__ = ["COMPRESSION", "HandshakeProtocol"]

COMPRESSION: Final = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True, client_max_window_bits=WINDOW_BITS
)
"""Each message by itself, so that one is compressed once for all clients, and nothing of it kept (RFC 7692 §7.1.1)."""


class HandshakeProtocol(PortionedWebSocketProtocol):
    """A WebSocket connection from its request until its application has answered, or has handed it over."""

    receiver: Handed | None = None
    """Who takes what comes, once the application has handed the connection over."""
    _head = b""
    """The answer to the handshake, until it is sent."""

    def begin(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Take a handshake that has been read; to read it once more would take longer than all else of it."""
        self.conn.parser.close()
        self.conn.parser = FrameParser.parse(self.conn)  # what follows the request
        next(self.conn.parser)
        self.handshake_initiated = True
        fields = Headers()
        for name, value in headers:
            fields[name.decode("latin-1")] = value.decode("latin-1")
        self.response = self.conn.accept(Request(target.decode("latin-1"), fields))
        if self.response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self.handshake_complete = self.close_sent = True
            self.conn.send_response(self.response)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
            return
        self.scope = self._scope_of(target, headers, fields)
        self.queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self.run_asgi())
        task.add_done_callback(self.on_task_complete)
        self.tasks.add(task)

    @property
    def inflates(self) -> bool:
        """Whether the client takes what is compressed with a window of `WINDOW_BITS`."""
        return any(
            isinstance(extension, PerMessageDeflate) and extension.local_max_window_bits >= WINDOW_BITS
            for extension in self.conn.extensions
        )

    def _scope_of(self, target: bytes, headers: list[tuple[bytes, bytes]], fields: Headers) -> Any:
        raw_path, _, query = target.partition(b"?")
        offered = ",".join(fields.get_all("Sec-WebSocket-Protocol"))
        return {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": self.scheme,
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + unquote(raw_path.decode("latin-1")),
            "raw_path": self.root_path.encode() + raw_path,
            "query_string": query,
            "headers": headers,
            "subprotocols": [name.strip() for name in offered.split(",")] if offered else [],
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}, "tidegate": self},
        }

    async def run_asgi(self) -> None:
        """As uvicorn does it, but that the connection may go on without the application."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        else:
            if not self.handshake_complete:
                self.logger.error("ASGI callable returned without completing handshake.")
                self.send_500_response()
            elif self.receiver is not None:
                return
        if self.close_timer is None:
            self.transport.close()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        # The scope leads back to this connection, and circles wait for a search for garbage.
        del self.scope, self.response

    async def send(self, message: Any) -> None:
        self._flush()
        if message["type"] == "websocket.accept" and not self.handshake_complete:
            self._accept(message)
            return
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # by a refusal; uvicorn would log each as an error of the application

    async def receive(self) -> Any:
        self._flush()
        return await super().receive()

    def _accept(self, message: Any) -> None:
        if self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            self.response.headers["Sec-WebSocket-Protocol"] = subprotocol
        for name, value in message.get("headers", ()):
            self.response.headers[name.decode("latin-1")] = value.decode("latin-1")
        self.handshake_complete = True
        self.conn.send_response(self.response)
        self._head = b"".join(self.conn.data_to_send())
        self.start_keepalive()

    def _flush(self) -> None:
        """Send the answer to the handshake, if nothing has come that it can be sent together with."""
        head, self._head = self._head, b""
        if head:
            self.transport.write(head)
