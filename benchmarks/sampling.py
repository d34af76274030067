"""Sampling: what a tick costs for 1,000 subscribers with the same sampling, against one message's fan-out.

No network: the core alone, with sinks that count, so that the figures are those of the hub and of the sampling.

    python -m benchmarks.sampling --subscribers 1000 --messages 20
"""

import argparse
import time
from collections.abc import Callable

from bridges.websocket import SPEECHES
from gateway.core.clock import Clock, Timer
from gateway.core.counters import Counters
from gateway.core.hub import Hub
from gateway.core.limits import Budget, Limits
from gateway.core.message import Message
from gateway.core.outbox import Outbox
from gateway.core.sample import Keep, Sample
from gateway.core.sampling import Sampling
from gateway.core.session import Session
from gateway.core.sink import Framing


class Later:
    """A call that is to come when the benchmark says so."""

    def cancel(self) -> None:
        """Nothing is cancelled here."""


class HandClock:
    """A clock whose one timer is fired by hand."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    def __init__(self) -> None:
        self.due: Callable[[], None] = lambda: None

    def call_later(self, delay_seconds: float, callback: Callable[[], None]) -> Timer:  # noqa: ARG002
        """Remember the call."""
        self.due = callback
        return Later()


class CountingSink:
    """Takes bytes, and counts the calls."""

    paused = False
    joins = True
    framing: Framing = staticmethod(SPEECHES[None].framing)

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:  # noqa: ARG002
        """Count."""
        self.written += 1

    @property
    def fan_out(self) -> Callable[[bytes], None]:
        """As `write`."""
        return self.write

    def close(self, code: int, reason: str) -> None:
        """Nothing is open."""


class NoKeeper:
    """Nothing befalls these sessions."""

    def ended(self, session: Session, error: object) -> None:
        """Never."""

    def paused(self, session: Session) -> None:
        """Never."""

    def resumed(self, session: Session) -> None:
        """Never."""

    def throttled(self, session: Session, wait_seconds: float) -> None:
        """Never."""

    def about_to_send(self) -> None:
        """Nothing is held."""


def fan_out(clock: Clock, subscribers: int, sample: Sample | None) -> tuple[Sampling, list[CountingSink]]:
    """Subscribers to everything, all with one sampling or none."""
    counters, keeper = Counters(), NoKeeper()
    sampling = Sampling(Hub(counters, Outbox()), clock, counters)
    sinks = [CountingSink() for _ in range(subscribers)]
    for number, sink in enumerate(sinks):
        session = Session(str(number), "websocket", sink, Budget(Limits(), clock), keeper)
        session.rooms["#"] = 0
        if sample is not None:
            session.samples["#"] = sample
        sampling.subscribe(session, "#")
    return sampling, sinks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--messages", type=int, default=20, help="messages of one topic in a period")
    options = parser.parse_args()
    message = Message("room", b'{"watts":230.5,"on":true}', "epoch", 1, 1.0, "topic")

    clock = HandClock()
    plain, _ = fan_out(clock, options.subscribers, None)
    plain.deliver(message)
    start = time.process_time()
    for _ in range(options.rounds):
        plain.deliver(message)
    one_seconds = (time.process_time() - start) / options.rounds
    print(f"one message to {options.subscribers:,} subscribers: {one_seconds * 1e6:.0f} µs")

    for keep in Keep:
        sampling, sinks = fan_out(clock, options.subscribers, Sample(1.0, keep))
        sampling.deliver(message)
        start = time.process_time()
        for _ in range(options.rounds):
            for _ in range(options.messages):
                sampling.deliver(message)
            clock.due()
        seconds = (time.process_time() - start) / options.rounds
        assert all(sink.written == 1 + options.rounds for sink in sinks)
        print(
            f"{keep:<4} of {options.messages} messages, collected and told in one tick: {seconds * 1e6:.0f} µs, "
            f"{seconds / one_seconds:.2f} times one message's fan-out"
        )


if __name__ == "__main__":
    main()
