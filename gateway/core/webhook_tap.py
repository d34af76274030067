"""What happens in a namespace, as far as a webhook wants to know it: messages, who is in rooms, and sessions.

Messages come by a `Feed`, which the log stands behind. Who comes and goes isn't kept in any log: that waits in the
webhook's queue alone, in a half of it that messages don't take, and is dropped, and counted, if that is full.
"""

from random import Random
from typing import Any

import orjson

from gateway.core.clock import Clock
from gateway.core.errors import TidegateError
from gateway.core.identity import ANONYMOUS
from gateway.core.namespace import Namespace
from gateway.core.presence import Change, Joined, Left
from gateway.core.presence_wire import encode_change
from gateway.core.session import Session
from gateway.core.topics import filter_matches
from gateway.core.webhook_feed import Feed
from gateway.core.webhooks import Webhook

__all__ = ["Tap"]


class Tap:
    """Tells one webhook."""

    def __init__(self, namespace: Namespace, webhook: Webhook, clock: Clock, random: Random) -> None:
        self.feed = Feed(namespace, webhook, clock, random)
        self._namespace = namespace
        self._webhook = webhook
        self._events = webhook.options.events
        self._clock = clock
        self._open = False
        self._began: dict[Session, float] = {}
        webhook.settled = self._settled

    def open(self) -> None:
        """Tell what happens from now on."""
        self._open = True
        if self._events & {"joined", "left"}:
            self._namespace.attendance.watchers.append(self._changed)
        if self._events & {"connect", "disconnect"}:
            self._namespace.arrivals.watch(self)
        if "message" in self._events:
            self.feed.open()

    def close(self) -> None:
        """Tell nothing any more."""
        if self._open:
            self._open = False
            self._namespace.arrivals.unwatch(self)
            if self._changed in self._namespace.attendance.watchers:
                self._namespace.attendance.watchers.remove(self._changed)
            self.feed.close()

    def _settled(self) -> None:
        """It is known what became of a call: there may be room again, or nothing wanted any more."""
        if self._webhook.gone:
            self.close()
        elif self._open and "message" in self._events and not self._webhook.is_crowded:
            self.feed.go_on()

    def _changed(self, change: Change) -> None:
        """Somebody came, is gone, or has another state; or there are so many that only their number is told."""
        match change:
            case Joined():
                wanted = "joined" in self._events
            case Left():
                wanted = "left" in self._events
            case _:
                wanted = True
        if wanted and any(filter_matches(room, change.room) for room in self._webhook.options.rooms):
            self._webhook.offer(encode_change(change)[1])

    def arrived(self, session: Session) -> None:
        """A session has begun, and it is known who it is."""
        self._began[session] = self._clock.monotonic()
        if "connect" in self._events:
            self._webhook.offer(self._describe("connect", session))

    def left(self, session: Session, error: TidegateError | None) -> None:
        """A session has ended."""
        began = self._began.pop(session, self._clock.monotonic())
        if "disconnect" in self._events:
            seconds = round(self._clock.monotonic() - began, 3)
            code = None if error is None else error.code
            self._webhook.offer(self._describe("disconnect", session, seconds=seconds, code=code))

    def _describe(self, kind: str, session: Session, **more: Any) -> bytes:
        identity = session.identity
        who = None if identity is None or identity == ANONYMOUS else identity.fields()
        known = {"type": kind, "session": session.id, "transport": session.transport, "identity": who}
        return orjson.dumps({**known, "time": round(self._clock.time(), 3), **more})
