"""The pages and the JavaScript client, and what answers where nothing is served."""

from functools import partial
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from gateway.core.errors import MethodNotAllowed, NoSuchEndpoint
from gateway.core.problem import problem

__all__ = ["no_such_endpoint", "page_routes"]


def page_routes() -> list[BaseRoute]:
    """What is served to browsers as files; it takes every path, so it comes last."""
    web, client = _assets()
    return [Route("/tidegate.js", partial(_client, client)), Mount("/", StaticFiles(directory=web, html=True))]


def _assets() -> tuple[Path, Path]:
    """Where the pages and the JavaScript client are: in the installed package, or in a checkout."""
    package = Path(__file__).parent
    if (package / "web").is_dir():
        return package / "web", package / "web" / "tidegate.js"
    return package.parent / "web", package.parent / "clients" / "js" / "tidegate.js"


async def _client(path: Path, request: Request) -> Response:  # noqa: ARG001 - an endpoint
    return FileResponse(path, media_type="text/javascript", headers={"cache-control": "no-cache"})


async def no_such_endpoint(request: Request, error: Exception) -> Response:
    """Answer with problem details: an exception handler of Starlette's."""
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path} is not served here: see docs/http.md for what is"
    allowed = (error.headers or {}).get("Allow", "GET, HEAD")  # files are served so, and say nothing
    methods = allowed.split(", ")
    told = MethodNotAllowed(text, allowed=methods) if error.status_code == 405 else NoSuchEndpoint(text)
    status, headers, body = problem(told)
    response = Response(body, status)
    response.raw_headers = headers
    return response
