"""MQTT over WebSocket as plain pass-through: `GET /mqtt` leads to the broker's port, whatever is said there.

Who may do what is the broker's business then, by the credentials that a client shows it. The gateway sees to where a
page comes from, to numbers of connections, and to sizes and rates; and each side is read no faster than the other takes
it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, Final, TypeAlias

from bridges.carrier_serving import deny
from bridges.mqtt_websocket_handshake import choose_subprotocol
from gateway.core.admission import Admission, Caller
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.errors import MessageTooLarge, ShuttingDown, SlowConsumer, TidegateError, UpstreamUnavailable
from gateway.core.limits import Limits, TokenBucket
from gateway.core.role_limits import RoleLimits
from gateway.core.sink import WebSocketTransport

__all__ = ["Dial", "MqttTunnelBridge"]

logger = logging.getLogger(__name__)

CHUNK_BYTES: Final = 16 * 1024
"""How much of what a broker sends is one frame at most."""
FRAME_COST_BYTES: Final = 64
"""What a frame counts for besides its size: many small ones cost, too."""
LINGER_SECONDS: Final = 2.0
"""How long a broker may take to take what a client sent last."""
UNSUPPORTED_DATA: Final = 1003
TRY_AGAIN_LATER: Final = 1013

Dial: TypeAlias = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Connects to the broker; raises `OSError` or `TimeoutError` if that can't be done."""

Ending: TypeAlias = tuple[int, str] | None
"""With what a WebSocket is to be closed; None if the client has closed it."""


class Tunnel:
    """One connection to the broker, as far as it can be ended from here."""

    busy = False
    """What it waits for is the broker's to know."""

    def __init__(self) -> None:
        self._left = asyncio.Event()

    def leave(self) -> None:
        """End it: the gateway leaves."""
        self._left.set()

    async def left(self) -> None:
        """Wait until it is to end."""
        await self._left.wait()


class MqttTunnelBridge:
    """The ASGI application behind `/mqtt` where that is pass-through."""

    def __init__(self, limits: RoleLimits, admission: Admission, counters: Counters, clock: Clock, dial: Dial) -> None:
        self._limits = limits
        self._admission = admission
        self._counters = counters
        self._clock = clock
        self._dial = dial
        self.tunnels: set[Tunnel] = set()
        """Those that are open."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        await receive()  # websocket.connect
        with ExitStack() as held:
            try:
                with self._admission.counted():
                    caller = Caller.of(scope)
                    seat = held.enter_context(self._admission.connection(caller))
                    identity = await self._admission.identify(caller)
                    if identity is not None:
                        seat.identify(identity)
                    subprotocol = choose_subprotocol(scope["subprotocols"])
            except TidegateError as error:
                await deny(scope, send, error)
                return
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
            tunnel = Tunnel()
            self.tunnels.add(tunnel)
            held.callback(self.tunnels.discard, tunnel)
            ending = await self._serve(receive, send, self._limits.of(identity), tunnel)
            if ending is not None:
                await _close(scope, send, *ending)

    async def _serve(self, receive: Any, send: Any, limits: Limits, tunnel: Tunnel) -> Ending:
        try:
            reader, writer = await self._dial()
        except (OSError, TimeoutError) as error:
            logger.warning("an MQTT client could not be connected to the broker: %s", error)
            self._counters.refuse(UpstreamUnavailable("the broker can't be reached"))
            return TRY_AGAIN_LATER, "upstream_unavailable: the broker can't be reached"
        try:
            return await self._copy(receive, send, reader, writer, limits, tunnel)
        finally:
            await _hang_up(writer)

    async def _copy(
        self,
        receive: Any,
        send: Any,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: Limits,
        tunnel: Tunnel,
    ) -> Ending:
        """Copy in both directions until one of them ends, or the gateway leaves; it says how."""
        ways = [
            asyncio.ensure_future(self._up(receive, writer, limits)),
            asyncio.ensure_future(self._down(reader, send, limits)),
            asyncio.ensure_future(self._leave(tunnel)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            ended = await asyncio.gather(*ways, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome
        return next((outcome for outcome in ended if not isinstance(outcome, BaseException)), None)

    async def _up(self, receive: Any, writer: asyncio.StreamWriter, limits: Limits) -> Ending:
        rate = TokenBucket(limits.bytes_per_second, limits.bytes_burst, self._clock)
        while (event := await receive())["type"] != "websocket.disconnect":
            frame = event.get("bytes")
            if frame is None:
                return UNSUPPORTED_DATA, "a text frame: expected binary ones"
            if len(frame) > limits.message_bytes:
                error = MessageTooLarge(f"{len(frame)} bytes in a frame: expected at most {limits.message_bytes}")
                return self._ending(error)
            self._counters.received_bytes["mqtt"] += len(frame)
            await self._pause(rate.spend(len(frame) + FRAME_COST_BYTES))
            try:
                writer.write(frame)
                async with asyncio.timeout(limits.lag_seconds):
                    await writer.drain()
            except (OSError, TimeoutError):
                writer.transport.abort()
                return TRY_AGAIN_LATER, "upstream_unavailable: the broker takes nothing any more"
        return None

    async def _down(self, reader: asyncio.StreamReader, send: Any, limits: Limits) -> Ending:
        most = limits.bytes_per_second_out
        rate = None if most is None else TokenBucket(most, most, self._clock)
        while True:
            try:
                data = await reader.read(CHUNK_BYTES)
            except OSError:
                data = b""
            if not data:
                return 1000, "the broker has closed the connection"
            self._counters.delivered_bytes["mqtt"] += len(data)
            try:
                async with asyncio.timeout(limits.lag_seconds):
                    await send({"type": "websocket.send", "bytes": data})
            except TimeoutError:
                return self._ending(SlowConsumer(f"the client took nothing for {limits.lag_seconds:g} s"))
            except OSError:  # the client is gone
                return None
            if rate is not None:
                await self._pause(rate.spend(len(data)))

    async def _leave(self, tunnel: Tunnel) -> Ending:
        await tunnel.left()
        return self._ending(ShuttingDown("the gateway is shutting down"))

    def _ending(self, error: TidegateError) -> Ending:
        self._counters.close(error)
        assert error.close_code is not None
        return error.close_code, f"{error.code}: {error.message}"

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            passed = asyncio.Event()
            self._clock.call_later(seconds, passed.set)
            await passed.wait()


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection once what was written is taken, or after a while."""
    writer.close()
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


async def _close(scope: Any, send: Any, code: int, reason: str) -> None:
    reason = reason[:120]
    transport: WebSocketTransport | None = (scope.get("extensions") or {}).get("tidegate")
    if transport is not None:
        transport.close(code, reason)  # which reads on, so that a client that sends on can be told
        return
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            await send({"type": "websocket.close", "code": code, "reason": reason})
    except (OSError, TimeoutError):
        pass  # the client is gone, or takes nothing
