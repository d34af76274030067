"""The broker itself: amqtt's, with sessions and delivery of our own.

From amqtt are the start and stop of a broker, the handshake, the packets and the expiry of sessions. Ours is what it
lacks: persistent sessions for all, redelivery, wills of silent clients, one delivery for overlapping subscriptions
at the lower QoS of publisher and subscriber, order, and bounds.
"""

import asyncio
import logging
import socket
from typing import Any, Final

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.broker import Server as Listener
from amqtt.contexts import BrokerConfig, ListenerConfig
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.connack import CONNECTION_ACCEPTED, SERVER_UNAVAILABLE, ConnackPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler

from bridges.broker.client import Client
from bridges.broker.conversation import Conversation
from bridges.broker.exchange import Exchange
from bridges.broker.options import BrokerOptions
from bridges.broker.packets import BrokenPacket, Message, check_topic

__all__ = ["Server"]

CONNECT_SECONDS: Final = 10.0
"""How long a new connection has for its CONNECT."""
KEEP_ALIVE_PERIODS: Final = 1.5
"""How long a client may be silent (MQTT 3.1.1 §3.1.2.10)."""

logger = logging.getLogger(__name__)


class _Incoming(StreamReaderAdapter):  # type: ignore[misc]
    """Knows whether a packet was broken off, which amqtt takes for one without what is missing."""

    broken_off = False

    async def read(self, n: int = -1) -> bytes:
        try:
            data: bytes = await super().read(n)
        except asyncio.IncompleteReadError:
            self.broken_off = True
            raise
        return data


class Server(Broker):  # type: ignore[misc]  # amqtt is untyped
    """Serves the connections of one listening socket."""

    def __init__(self, options: BrokerOptions, listening: socket.socket) -> None:
        super().__init__(
            BrokerConfig(
                listeners={"default": ListenerConfig(bind=f"{options.host}:{options.port}")},
                plugins={},
                session_expiry_interval=options.session_expiry_seconds,
            )
        )
        self._options = options
        self._listening = listening
        self._exchange = Exchange(options)
        self._stopping = False

    async def run(self) -> None:
        """Watch over amqtt's own task, which ends only by a fault."""
        await self._session_monitor_task

    async def shutdown(self) -> None:
        """Close all connections and the listener; no wills are sent."""
        self._stopping = True
        await super().shutdown()

    async def _start_listeners(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listening)
        self._servers["default"] = Listener("default", server)

    async def _cleanup_session(self, client_id: str) -> None:
        """End a session: it has expired, or the broker shuts down."""
        self._sessions.pop(client_id, None)
        client = self._exchange.find(client_id)
        self._exchange.forget(client_id)
        if client is not None:
            client.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener = self._servers["default"]
        if listener.conn_count >= self._options.connections:
            logger.warning("a connection was closed: there are %d already", listener.conn_count)
            writer.close()
            return
        await listener.acquire_connection()
        try:
            session = await self._handshake(reader, writer)
            if session is not None:
                await self._serve(session, reader, writer)
        finally:
            listener.release_connection()
            writer.close()

    async def _handshake(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        """The session that a CONNECT asks for; None if nothing came, or nothing that can be accepted (§3.1)."""
        address = writer.get_extra_info("peername")
        if address is None:  # it has gone already
            return None
        incoming = _Incoming(reader)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, session = await BrokerProtocolHandler.init_from_connect(
                    incoming, StreamWriterAdapter(writer), self.plugins_manager
                )
            if incoming.broken_off:
                return None
            if session.will_flag:
                check_topic(session.will_topic)
        except (TimeoutError, NoDataError, ConnectionError):
            return None
        except (AMQTTError, MQTTError, BrokenPacket, ValueError) as error:
            logger.warning("a connection from %s was refused: %s", address, error)
            return None
        return session

    async def _serve(self, session: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = await self._admit(session, writer)
        if client is None:
            return
        silence_seconds = session.keep_alive * KEEP_ALIVE_PERIODS or None
        conversation = Conversation(client, self._exchange, self._options.packet_bytes, silence_seconds)
        disconnected = False
        try:
            disconnected = await conversation.run(reader)
        except BrokenPacket as error:
            logger.warning("client %r sent %s; its connection was closed", client.id, error)
        except TimeoutError:
            logger.info("client %r was silent for %g s; its connection was closed", client.id, silence_seconds)
        except ConnectionError:
            pass
        finally:
            self._leave(client, session)
        if not disconnected:
            writer.transport.abort()  # there is no use in what it hasn't read
        if session.will_flag and not disconnected and not self._stopping:
            will = Message(session.will_topic, session.will_message, session.will_qos, session.will_retain)
            await self._exchange.publish(will)

    async def _admit(self, session: Any, writer: asyncio.StreamWriter) -> Client | None:
        """Accept the client, in its old session if it has one and wants it; cut an older connection (§3.1.4)."""
        client_id = session.client_id
        while (client := self._exchange.find(client_id)) is not None and client.connected:
            await client.displace()
        if client is None and len(self._exchange) >= self._options.sessions:
            logger.warning("client %r was refused: there are %d sessions already", client_id, len(self._exchange))
            writer.write(ConnackPacket.build(0, SERVER_UNAVAILABLE).to_bytes())
            return None
        resumed = client is not None and not session.clean_session
        if client is None or session.clean_session:
            self._exchange.forget(client_id)
            client = Client(client_id, self._options)
            self._exchange.add(client)
        session.transitions.connect()
        self._sessions[client_id] = (session, None)
        client.attach(writer)
        client.send(ConnackPacket.build(int(resumed), CONNECTION_ACCEPTED).to_bytes())
        client.resume()
        return client

    def _leave(self, client: Client, session: Any) -> None:
        session.transitions.disconnect()
        if session.clean_session:
            self._sessions.pop(client.id, None)
            self._exchange.forget(client.id)
        client.detach()
