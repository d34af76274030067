"""How many bytes a second a session is sent.

Everything written is sent, and what goes over is owed: the session then leaves the fan-out until it may be sent
something again, and is told the newest of each topic. So nothing waits for it here.
"""

from collections.abc import Callable
from typing import Final

from gateway.core.clock import Clock
from gateway.core.limits import TokenBucket
from gateway.core.session import Session
from gateway.core.sink import Sink

__all__ = ["MeteredSink", "bytes_per_second_out", "limit"]

BURST_SECONDS: Final = 1.0
"""What is not used is saved up for so long."""
REST_SECONDS: Final = 0.25
"""How long it takes no more, besides what is owed: reading the log for each single message would cost too much."""


class MeteredSink:
    """A sink, and how much is written to it."""

    __slots__ = ("_session", "bucket", "bytes_per_second", "close", "framing", "joins", "sink")

    def __init__(self, sink: Sink, session: Session, bytes_per_second: float, bucket: TokenBucket) -> None:
        self.sink = sink
        self.bytes_per_second = bytes_per_second
        self.bucket = bucket
        self.framing = sink.framing
        self.joins = sink.joins
        self.close = sink.close
        self._session = session

    @property
    def paused(self) -> bool:
        """Whether as much waits as may."""
        return self.sink.paused

    @property
    def fan_out(self) -> Callable[[bytes], None]:
        """As `write`."""
        return self.write

    def write(self, data: bytes) -> None:
        """Send framed bytes."""
        self.sink.write(data)
        owed_seconds = self.bucket.spend(len(data))
        if owed_seconds:
            self._session.throttle(owed_seconds + REST_SECONDS)


def bytes_per_second_out(session: Session) -> float | None:
    """How many bytes a second a session is sent at most."""
    return session.sink.bytes_per_second if isinstance(session.sink, MeteredSink) else None


def limit(session: Session, bytes_per_second: float | None, clock: Clock) -> float:
    """Send a session, which isn't in the fan-out, at most so many bytes a second; how many seconds it has to wait."""
    metered = session.sink if isinstance(session.sink, MeteredSink) else None
    sink = session.sink if metered is None else metered.sink
    if bytes_per_second is None:
        session.sink = sink
        return 0.0
    burst = bytes_per_second * BURST_SECONDS
    bucket = metered.bucket.at(bytes_per_second, burst) if metered else TokenBucket(bytes_per_second, burst, clock)
    session.sink = MeteredSink(sink, session, bytes_per_second, bucket)
    return bucket.spend(0)
