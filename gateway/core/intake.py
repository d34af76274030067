"""What upstreams bring, given to every namespace that wants it.

An upstream is one connection, however many namespaces there are: it subscribes to what all of them want together. A
message counts once as a device's, and as unrouted only if no namespace has a route for it. What becomes of it in one
namespace, a fault included, is nothing to the others.
"""

from collections.abc import Sequence

from gateway.core.counters import Counters
from gateway.core.namespace import Namespace

__all__ = ["Intake"]


class Intake:
    """Where upstreams deliver."""

    def __init__(self, namespaces: Sequence[Namespace], counters: Counters) -> None:
        self.counters = counters
        """What belongs to no namespace: devices' messages, and those of them that nobody wants."""
        self._namespaces = tuple(namespaces)

    def subscriptions(self, upstream: str) -> dict[str, int]:
        """The MQTT filters of all namespaces' routes, each with the highest quality of service that one asks for."""
        wanted: dict[str, int] = {}
        for namespace in self._namespaces:
            for topic_filter, qos in namespace.routing.subscriptions(upstream).items():
                wanted[topic_filter] = max(wanted.get(topic_filter, 0), qos)
        return wanted

    def receive(self, upstream: str, topic: str, raw: bytes, *, retained: bool) -> None:
        """Take a device's message for all namespaces.

        Raises:
            ExceptionGroup: it met faults in some of them; the others have it.
        """
        self.counters.device_messages[upstream] += 1
        self.counters.device_bytes += len(raw)
        wanted = False
        faults: list[Exception] = []
        for namespace in self._namespaces:
            try:
                wanted |= namespace.receive(upstream, topic, raw, retained=retained)
            except Exception as fault:
                faults.append(fault)
        if faults:
            raise ExceptionGroup(f"faults of {len(faults)} namespaces", faults)
        if not wanted:
            self.counters.drops["unrouted"] += 1

    def needs_response_topic(self, upstream: str) -> bool:
        """Whether a namespace has devices that answer on the gateway's own topic."""
        return any(namespace.routing.needs_response_topic(upstream) for namespace in self._namespaces)

    def take_answer(self, upstream: str, topic: str, raw: bytes, correlation: bytes | None) -> bool:
        """Offer what may be a device's answer to every namespace; whether it is one, and no room wants it besides."""
        taken = [each.requests.receive(upstream, topic, raw, correlation) for each in self._namespaces]
        if not any(taken) or any(each.routing.rooms_for(upstream, topic) for each in self._namespaces):
            return False
        self.counters.device_messages[upstream] += 1
        self.counters.device_bytes += len(raw)
        return True

    def lost(self, upstream: str) -> None:
        """Fail the requests under way by an upstream whose connection is gone."""
        for namespace in self._namespaces:
            namespace.requests.lost(upstream)
