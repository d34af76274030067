"""HTTP connections, laid open for streams and guarded against requests that never begin or never end.

A subclass of uvicorn's protocol: it puts a `gateway.core.sink.Transport` into `scope["extensions"]["tidegate"]`, and
bounds in time and size what comes before a request is understood, where no limit of a namespace holds yet.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.core.errors import HandshakeTimeout, HeadersTooLarge, MessageTooLarge, SlowConsumer, TidegateError
from gateway.core.plain_http import Place
from gateway.core.problem import problem
from gateway.core.sink import CLOSE_GRACE_SECONDS
from gateway.entrance import HeadBounds
from gateway.portions import MAXIMUM_IGNORED_BYTES
from gateway.reading_watch import ReadingWatch
from gateway.response_transport import ResponseTransport

__all__ = ["HttpProtocol", "response"]

HANDSHAKE_FIELDS: Final = 128
HANDSHAKE_LINE_BYTES: Final = 8 * 1024
FRESH_SECONDS: Final = 0.2
"""How long after a connection was made its first request is expected, where that matters."""


def response(error: TidegateError) -> bytes:
    """The whole response to a request that no application has seen; the connection ends with it."""
    status, headers, body = problem(error)
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [name + b": " + value for name, value in [*headers, (b"connection", b"close")]]
    return b"\r\n".join([*lines, b"", body])


def _never_chunk(cycle: RequestResponseCycle) -> None:
    """Answer as HTTP/1.0 can be: what has no length ends with the connection (RFC 9112 §6.1, §6.3)."""
    send, unmeasured = cycle.send, False

    async def send_unchunked(message: Any) -> None:
        nonlocal unmeasured
        if message["type"] == "http.response.start":
            unmeasured = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            if unmeasured:
                cycle.chunked_encoding = False
        elif unmeasured:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_unchunked  # type: ignore[method-assign]


def _announce_end(cycle: RequestResponseCycle) -> None:
    """Say that the connection ends if the answer comes before the whole of a body that nobody will read to its end.

    A proxy would send another request behind it, and take the gateway for gone when it is cut off (RFC 9112 §9.6).
    """
    send = cycle.send

    async def send_announcing(message: Any) -> None:
        if message["type"] == "http.response.start" and cycle.more_body:
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            kept = cycle.keep_alive
            await send(message)
            cycle.keep_alive = kept  # to close it at once might keep the client from reading the answer
            return
        if not message.get("more_body", False):
            vars(cycle).pop("send", None)  # which holds what it is kept by
        await send(message)

    cycle.send = send_announcing  # type: ignore[method-assign]


class HttpProtocol(HttpToolsProtocol):
    """An HTTP connection that offers each response's transport."""

    def __init__(
        self,
        *args: Any,
        head: HeadBounds,
        place: Place,
        refused: Callable[[TidegateError, str | None], None],
        leaving: Callable[[], bool],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.url = b""
        self._head = head
        self._place = place
        self._refused = refused
        self._leaving = leaving
        self._response: ResponseTransport | None = None
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._deaf = False
        self._began = 0.0
        self._ignored_bytes = 0
        self._reading = ReadingWatch(head.lag_seconds, self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._began = self.loop.time()
        self._limit_head()

    def data_received(self, data: bytes) -> None:
        # What is asked behind a stream is never answered. To keep it would stop reading, and hide that the client left.
        if self._deaf or (self._response is not None and self._response.endless):
            self._ignore(len(data))
            return
        if self._response is not None:
            self._response.hurry()
        if self._in_head:
            self._head_bytes += len(data)
            self._limit_head()
        elif not self._answering:
            self._ignore(len(data))  # the body of a request that was refused
        super().data_received(data)
        if self._in_head and (error := self._unfit(self._head_bytes)) is not None:
            self._refuse(error)

    def _unfit(self, size_bytes: int) -> TidegateError | None:
        return self._head.check(len(self.url), size_bytes)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer says nothing of who asks, though it comes by the same way (RFC 9110 §6.5.1)
            super().on_header(name, value)

    def _should_upgrade(self) -> bool:
        # Else it is a request like any other (RFC 6455 §4.1, RFC 9110 §7.8); the library takes none of these.
        handshake = self.scope["method"] == "GET" and self.scope["http_version"] == "1.1"
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        return handshake and not has_body and super()._should_upgrade()

    def _may_be_too_long(self) -> bool:
        """Whether more of the body may be left, once it is refused, than is read and thrown away."""
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and int(value) > MAXIMUM_IGNORED_BYTES)
            for name, value in self.headers
        )

    def _is_clear(self) -> bool:
        """Whether the protocol is spoken here, and the target says no other host than `Host` does (RFC 9112 §3.2.2)."""
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            return False
        target = httptools.parse_url(self.url)
        if target.host is None:
            return True
        authority = target.host + (b":%d" % target.port if target.port else b"")
        return [value for name, value in self.headers if name == b"host"] == [authority]

    def _ignore(self, size_bytes: int) -> None:
        """Account for what nobody wants. Of a client that goes on sending it nothing is read until it is cut off."""
        self._ignored_bytes += size_bytes
        if self._ignored_bytes > MAXIMUM_IGNORED_BYTES and not self.transport.is_closing():
            self._ignored_bytes = 0
            if not self._deaf:
                error = MessageTooLarge(f"expected at most {MAXIMUM_IGNORED_BYTES} bytes that nobody asked for")
                self._refused(error, self.client[0] if self.client else None)
            self._deaf = True
            self.transport.pause_reading()
            self.loop.call_later(CLOSE_GRACE_SECONDS, self.transport.abort)

    def on_headers_complete(self) -> None:
        size_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if self._unfit(size_bytes) is not None:  # it came at once
            self._head_bytes = size_bytes
            raise ValueError("the parser is to stop here")
        if not self._is_clear():
            raise ValueError("expected HTTP/1.1 or 1.0, and one host")
        self._end_head()
        super().on_headers_complete()
        if "path" not in self.scope:
            return  # an upgrade to WebSocket
        if self.scope["http_version"] == "1.1" and not self.pipeline:
            self._response = ResponseTransport(self.cycle, self.loop)
            extensions: dict[str, Any] = {"tidegate": self._response}
            self.scope["extensions"] = extensions
        elif self.scope["http_version"] != "1.1":
            _never_chunk(self.cycle)
        if self._leaving():
            self.cycle.keep_alive = False
        if self._may_be_too_long():
            _announce_end(self.cycle)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True  # of the next request
        self._ignored_bytes = 0

    def send_400_response(self, msg: str) -> None:
        if self._unfit(self._head_bytes) is None:
            super().send_400_response(msg)

    def handle_websocket_upgrade(self) -> None:
        headers = list(self.scope["headers"])
        if len(headers) > HANDSHAKE_FIELDS or any(len(n) + len(v) > HANDSHAKE_LINE_BYTES for n, v in headers):
            self._refuse(HeadersTooLarge("expected a WebSocket handshake with lines of at most 8 KiB, and at most 128"))
            return
        self.connections.discard(self)
        protocol: Any = self.ws_protocol_class(  # type: ignore[call-arg, misc]
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.connection_made(self.transport)
        protocol.begin(self.url, headers)
        self.transport.set_protocol(protocol)
        self._place.free()  # the limits of its namespace hold for it
        self.parser = None  # type: ignore[assignment] # it leads back to here

    def connection_lost(self, exc: Exception | None) -> None:
        self._place.free()
        self._end_head()
        self._reading.stop()
        if self._response is not None:
            self._response.lost()  # uvicorn tells only the newest request
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        if self._response is not None and not self._answering:
            self._response.release()
        super().on_response_complete()
        self._reading.renew()
        if not (self._in_head or self._answering):
            self.loop.call_later(CLOSE_GRACE_SECONDS, self._cut_off, self.cycle)

    def _cut_off(self, cycle: RequestResponseCycle) -> None:
        """End a connection whose client has its answer, and still sends the body that this was about."""
        if not self._in_head and self.cycle is cycle:
            self.transport.abort()

    def retire(self) -> None:
        """End once what is under way is answered, and what comes before the end."""
        if self._answering:
            self.cycle.keep_alive = False

    @property
    def under_way(self) -> bool:
        """Whether a request is, or is about to be; streams and polls that wait are none."""
        if self._answering:
            return self._response is None or not (self._response.endless or self._response.parked)
        fresh = self.cycle is None and self.loop.time() < self._began + FRESH_SECONDS
        return self._head_bytes > 0 or fresh

    @property
    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _limit_head(self) -> None:
        """Let time run for the head of the next request, but not while the client waits for an answer."""
        if self._head_timer is None and not self._answering:
            self._head_timer = self.loop.call_later(self._head.handshake_seconds, self._time_out)

    def _end_head(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _time_out(self) -> None:
        self._refuse(
            HandshakeTimeout(f"expected a whole request within {self._head.handshake_seconds:g} s"),
            begun=self._head_bytes > 0,
        )

    def _refuse(self, error: TidegateError, *, begun: bool = True) -> None:
        """Say why, if a request has begun, and let the client read that: to cut it off would reset the connection."""
        if self._deaf or self.transport.is_closing():
            return
        self._deaf = True
        # Who begins nothing may be a browser that keeps a connection ready: no address is to blame for that.
        self._refused(error, self.client[0] if begun and self.client else None)
        if self._answering or not begun:
            self.transport.close()
            return
        self.transport.write(response(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS closes with a message of its own, behind what was written
            self.transport.close()
        self.loop.call_later(CLOSE_GRACE_SECONDS, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # Closing waits for what is unsent, and who doesn't read takes nothing.
        self.loop.call_later(self._head.lag_seconds, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._response is not None:
            self._response.pressure.pause()
        if self._response is None or not self._response.endless:  # a stream is told later what it doesn't take
            self._reading.start(self._give_up)

    def _give_up(self) -> None:
        text = f"the client took next to nothing of its answer for {self._head.lag_seconds:g} s"
        self._refused(SlowConsumer(text, limit="lag_seconds"), None)
        self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reading.stop()
        if self._response is not None:
            self._response.pressure.resume()
