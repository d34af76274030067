"""Sets of MQTT filters: the fewest that cover others, and ones that no topic matches twice."""

from collections.abc import Iterable, Mapping

from gateway.core.trie import FilterTrie

__all__ = ["disjoint_cover", "minimal_cover", "overlap"]


def minimal_cover(filters: Mapping[str, int]) -> dict[str, int]:
    """The fewest of these filters that match all that they match together, each with its quality of service.

    A filter that another one covers is left out; the other then has the higher quality of service of the two. Filters
    that overlap without covering each other both stay.
    """
    trie = _trie_of(filters)
    cover: dict[str, int] = {}
    for topic_filter, qos in filters.items():
        for name in trie.covering(topic_filter):
            if len(trie.covering(name)) == 1:  # none but itself
                cover[name] = max(cover.get(name, 0), qos)
    return cover


def disjoint_cover(filters: Mapping[str, int]) -> dict[str, int]:
    """As `minimal_cover`, but overlapping filters are widened into one that covers both.

    For brokers that may deliver a message once for each filter that it matches (MQTT 5 §3.3.4) and can't say for which.
    """
    cover = minimal_cover(filters)
    trie = _trie_of(cover)
    waiting = sorted(cover)
    while waiting:
        topic_filter = waiting.pop()
        other = next((name for name in trie.intersecting(topic_filter) if name != topic_filter), None)
        if topic_filter not in cover or other is None:
            continue
        wider = _widen(topic_filter, other)
        widened = _trie_of((wider,))
        absorbed = [name for name in trie.intersecting(wider) if widened.covering(name)]
        qos = max(cover.pop(name) for name in absorbed)
        for name in absorbed:
            trie.remove(name, name)
        trie.add(wider, wider)
        cover[wider] = qos
        waiting.append(wider)
    return cover


def overlap(one: str, other: str) -> bool:
    """Whether some name matches both filters."""
    return bool(_trie_of((one,)).intersecting(other))


def _widen(one: str, other: str) -> str:
    """The narrowest filter that covers two that overlap."""
    levels: list[str] = []
    for a, b in zip(one.split("/"), other.split("/"), strict=False):
        if "#" in (a, b):
            return "/".join([*levels, "#"])
        levels.append(a if a == b else "+")
    same_length = one.count("/") == other.count("/")
    return "/".join(levels if same_length else [*levels, "#"])


def _trie_of(filters: Iterable[str]) -> FilterTrie[str]:
    trie: FilterTrie[str] = FilterTrie()
    for topic_filter in filters:
        trie.add(topic_filter, topic_filter)
    return trie
