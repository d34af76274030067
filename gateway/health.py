"""`/healthz`: the process answers. `/readyz`: it can do its work, by upstreams, logs and keys, and isn't leaving."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse

from bridges.jwks import Jwks
from bridges.redis_nodes import RedisNodes
from gateway.core.engine import Engine
from gateway.upstreams import AnyUpstream

__all__ = ["Health"]


class Health:
    """What load balancers and operators ask."""

    def __init__(
        self,
        upstreams: Mapping[str, AnyUpstream],
        engines: Mapping[str, Engine],
        keys: Jwks | None = None,
        nodes: RedisNodes | None = None,
    ) -> None:
        self._upstreams = upstreams
        self._engines = engines
        self._keys = keys
        self._nodes = nodes
        self.draining = False

    async def healthz(self, request: Request) -> JSONResponse:  # noqa: ARG002 - an endpoint
        """Answer `GET /healthz`: 200 for as long as the event loop turns."""
        return _answer(200, {"status": "ok"})

    async def readyz(self, request: Request) -> JSONResponse:  # noqa: ARG002 - an endpoint
        """Answer `GET /readyz`: 200, or 503 while an upstream is away, a log can't be written or the gateway ends.

        So it is while no key of an identity provider is known; those that may be old will do. A node of a cluster that
        can reach the broker is ready, though another one owns the upstream. With Redis the names of all nodes are told,
        and one that isn't in the list isn't ready.
        """
        upstreams = {name: _told_of(upstream) for name, upstream in self._upstreams.items()}
        problems = {name: engine.problem for name, engine in self._engines.items() if engine.problem is not None}
        all_up = all(upstream.state.is_well for upstream in self._upstreams.values()) and not problems
        all_up = all_up and (self._keys is None or self._keys.has_keys)
        all_up = all_up and (self._nodes is None or self._nodes.is_listed)
        status = "draining" if self.draining else "ready" if all_up else "not_ready"
        content: dict[str, object] = {"status": status, "upstreams": upstreams}
        if problems:
            content["engines"] = problems
        if self._keys is not None:
            problem = {} if self._keys.problem is None else {"problem": self._keys.problem}
            content["keys"] = {"state": "known" if self._keys.has_keys else "none", **problem}
        if self._nodes is not None:
            content |= {"node": self._nodes.name, "nodes": self._nodes.names}
            if self._nodes.problem is not None:
                content["problem"] = self._nodes.problem
        return _answer(200 if status == "ready" else 503, content)


def _told_of(upstream: AnyUpstream) -> dict[str, str]:
    told = {"state": upstream.state.value, "owner": upstream.owner, "problem": upstream.problem}
    return {key: value for key, value in told.items() if value}


def _answer(status_code: int, content: dict[str, object]) -> JSONResponse:
    return JSONResponse(content, status_code, headers={"cache-control": "no-store"})
