"""What of upstreams goes together with one gateway, and what with several."""

from collections.abc import Iterator

from gateway.config.problems import Keys, Problem
from gateway.config.settings import Settings
from gateway.config.tree import Node
from gateway.config.upstreams import UpstreamSettings

__all__ = ["cluster_problems"]


def cluster_problems(settings: Settings, tree: Node) -> Iterator[Problem]:
    """What can't be, since there is one gateway, or since there may be several."""
    if settings.is_cluster and not settings.upstreams:
        yield _problem(
            tree,
            ("engine", "url"),
            "expected `upstreams` beside it: the embedded broker is one gateway's own, out of reach for the others",
        )
    for name, upstream in settings.upstreams.items():
        found = _of_a_cluster(settings, upstream) if settings.is_cluster else _of_one(upstream)
        if found is not None:
            yield _problem(tree, ("upstreams", name, found[0]), found[1])


def _of_one(upstream: UpstreamSettings) -> tuple[str, str] | None:
    if upstream.session == "persistent" and upstream.client_id is None:
        return "session", "expected a `client_id` beside `persistent`, by which the broker knows the session again"
    if upstream.ingest == "shared":
        return "ingest", "expected `shared` only with an `engine.url` of Redis, which joins several gateways"
    return None


def _of_a_cluster(settings: Settings, upstream: UpstreamSettings) -> tuple[str, str] | None:
    if upstream.ingest == "shared" and upstream.session != "clean" and settings.cluster.node is None:
        return "ingest", (
            "expected `cluster.node` beside `shared`, by which the broker knows this gateway's session again, "
            "or `session: clean`"
        )
    return None


def _problem(tree: Node, keys: Keys, message: str) -> Problem:
    return Problem.at(tree.find(*keys).place, keys, message)
