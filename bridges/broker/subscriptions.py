"""Who has subscribed to what: no network, no session, only client ids, filters and the QoS granted."""

from gateway.core.trie import FilterTrie

__all__ = ["Subscriptions"]


class Subscriptions:
    """The filters of all clients, found by topic."""

    def __init__(self) -> None:
        self._by_filter: FilterTrie[tuple[str, int]] = FilterTrie()
        self._by_client: dict[str, dict[str, int]] = {}

    def add(self, client_id: str, topic_filter: str, qos: int) -> None:
        """Subscribe; a subscription of this client to the same filter is replaced (MQTT 3.1.1 §3.8.4)."""
        self.remove(client_id, topic_filter)
        self._by_filter.add(topic_filter, (client_id, qos))
        self._by_client.setdefault(client_id, {})[topic_filter] = qos

    def remove(self, client_id: str, topic_filter: str) -> None:
        """Unsubscribe; nothing happens if there is no such subscription."""
        granted = self._by_client.get(client_id, {})
        if topic_filter in granted:
            self._by_filter.remove(topic_filter, (client_id, granted.pop(topic_filter)))
            if not granted:
                del self._by_client[client_id]

    def forget(self, client_id: str) -> None:
        """Drop all subscriptions of one client."""
        for topic_filter, qos in self._by_client.pop(client_id, {}).items():
            self._by_filter.remove(topic_filter, (client_id, qos))

    def receivers(self, topic: str) -> dict[str, int]:
        """The clients that a message goes to, each with the highest QoS that its matching filters were granted.

        One entry, so one delivery, however many of a client's filters overlap (MQTT 3.1.1 §3.3.5).
        """
        found: dict[str, int] = {}
        for client_id, qos in self._by_filter.match(topic.split("/")):
            found[client_id] = max(qos, found.get(client_id, 0))
        return found
