"""How many topics a second the routing table translates, with 10, 1,000 and 10,000 routes.

Every topic is looked up in the trie anew (`match`), then asked again as the hot path asks (`rooms_for`), which
remembers. The last column is the cost of a topic against that with 10 routes.
"""

import time
from collections.abc import Callable
from random import Random

from gateway.core.routing import RouteSpec, RoutingTable

TOPICS = 20_000
ROUNDS = 7


def main() -> None:
    print(f"{'routes':>8} {'matched/s':>12} {'remembered/s':>14} {'load':>9} {'cost':>6}")
    base = 0.0
    for count in (10, 1_000, 10_000):
        specs = [
            RouteSpec(f"plant-{i}/{{site}}/{{device}}/m{i % 7}", f"r/{i}/{{site}}/{{device}}") for i in range(count)
        ]
        started = time.perf_counter()
        table = RoutingTable(specs, ["embedded"])
        load_seconds = time.perf_counter() - started
        random = Random(1)
        chosen = [random.randrange(count) for _ in range(TOPICS)]
        topics = [f"plant-{i}/site-{n % 13}/device-{n}/m{i % 7}" for n, i in enumerate(chosen)]
        matched = _seconds(lambda topic, table=table: table.match("embedded", topic), topics)  # type: ignore[misc]
        remembered = _seconds(lambda topic, table=table: table.rooms_for("embedded", topic), topics)  # type: ignore[misc]
        base = base or matched
        print(
            f"{count:>8,} {TOPICS / matched:>12,.0f} {TOPICS / remembered:>14,.0f} "
            f"{load_seconds:>7.3f} s {matched / base:>5.2f}×"
        )


def _seconds(ask: Callable[[str], object], topics: list[str]) -> float:
    """The best of several rounds: what the machine can do when nobody disturbs it."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        found = [ask(topic) for topic in topics]
        rounds.append(time.perf_counter() - started)
        assert all(found)
    return min(rounds)


if __name__ == "__main__":
    main()
