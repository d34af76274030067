"""A room's messages on their way to a webhook: to the hub it is a session like any other, a slow one at times.

When as many messages wait for the webhook as may, the session leaves the fan-out and keeps a place in the sequence;
when there is room again, it is told from the log what came since. If that takes too long it ends, and another begins
with the cursor. So an endpoint that is away for hours loses no message of a room with history and costs no memory;
where the log doesn't reach, `subscribed` with `recovered: false` says so.
"""

from collections.abc import Callable
from random import Random

import orjson

from gateway.core.access import Access, AccessRule, Action, Grants
from gateway.core.clock import Clock
from gateway.core.errors import TidegateError
from gateway.core.identity import ANONYMOUS
from gateway.core.limits import Budget
from gateway.core.message import Cursor
from gateway.core.namespace import Namespace
from gateway.core.session import Session
from gateway.core.sink import Framing
from gateway.core.webhooks import Webhook
from gateway.core.wire_requests import Subscribe

__all__ = ["Feed"]


class Feed:
    """Sessions, one after the other, that write into a webhook's queue."""

    def __init__(self, namespace: Namespace, webhook: Webhook, clock: Clock, random: Random) -> None:
        self.cursor = ""
        """The place up to which all messages were told."""
        self._namespace = namespace
        self._webhook = webhook
        self._clock = clock
        self._random = random
        self._session: Session | None = None
        self._sink = _QueueSink(self)
        everything = AccessRule(frozenset({"*"}), {Action.SUBSCRIBE: ("#",)})
        self._grants = Grants(ANONYMOUS, Access([everything]))  # messages only: presence comes another way

    def open(self) -> None:
        """Begin with what comes from now on."""
        self.cursor = self._namespace.cursor(self._namespace.engine.head)
        self._subscribe()

    def close(self) -> None:
        """Take nothing any more."""
        if self._session is not None:
            self._session.end()

    def go_on(self) -> None:
        """There is room again in the queue."""
        if self._session is None:
            self._subscribe()
        elif self._sink.paused:
            self._sink.paused = False
            self._session.resume()

    def _subscribe(self) -> None:
        """Begin a session. It isn't among the namespace's: it isn't a client, has no limits, and is in no room."""
        identifier, budget = f"{self._random.getrandbits(96):024x}", Budget(self._namespace.limits, self._clock)
        self._sink.paused = False
        session = self._session = Session(identifier, "webhook", self._sink, budget, self, self._grants)
        rooms, since = self._webhook.options.rooms, Cursor.parse(self.cursor)
        self._namespace.recovery.subscribe(session, Subscribe(None, rooms, since))

    def frame(self, kind: str, text: bytes, cursor: str | None) -> bytes:
        """An object of the wire protocol as it is, or nothing if it isn't for a webhook."""
        if kind == "message":
            self.cursor = cursor or self.cursor
            return text
        if kind != "subscribed":
            return b""
        said = orjson.loads(text)
        self.cursor = said.get("cursor", self.cursor)
        return b"" if said["recovered"] else text

    def take(self, event: bytes) -> None:
        """Let an event wait; once as many do as may, those that follow are to wait in the log."""
        self._webhook.offer(event, from_log=True)
        if self._webhook.is_crowded and not self._sink.paused and self._session is not None:
            self._sink.paused = True
            self._session.pause()

    def ended(self, session: Session, error: TidegateError | None) -> None:  # noqa: ARG002 - see `Keeper`
        """It was paused for long: another one comes back with the cursor, once there is room."""
        self._session = None
        self._namespace.recovery.leave(session)

    def paused(self, session: Session) -> None:
        """See `Namespace.paused`."""
        self._namespace.paused(session)

    def resumed(self, session: Session) -> None:
        """See `Namespace.resumed`."""
        self._namespace.resumed(session)

    def about_to_send(self) -> None:
        """What was delivered before comes before."""
        self._namespace.about_to_send()

    def throttled(self, session: Session, wait_seconds: float) -> None:
        """Never called: it isn't metered."""


class _QueueSink:
    """The end of a feed's sessions."""

    __slots__ = ("_feed", "fan_out", "framing", "paused", "write")
    joins = False

    def __init__(self, feed: Feed) -> None:
        self.paused = False
        self._feed = feed
        self.framing: Framing = feed.frame
        self.write: Callable[[bytes], None] = self._write
        self.fan_out: Callable[[bytes], None] = self._write

    def _write(self, data: bytes) -> None:
        if data:
            self._feed.take(data)

    def close(self, code: int, reason: str) -> None:
        """There is no connection to be closed."""
