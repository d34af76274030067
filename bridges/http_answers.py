"""What the endpoints of plain HTTP have in common: bodies within bounds, JSON, and errors as problem details."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.core.errors import MessageTooLarge, MethodNotAllowed, TidegateError
from gateway.core.problem import problem

__all__ = ["check_post", "json_answer", "read_body", "refusal"]


def check_post(request: Request) -> None:
    """Check that it is a POST.

    Raises:
        MethodNotAllowed: it isn't.
    """
    if request.method != "POST":
        raise MethodNotAllowed(f"{request.method} is not served here: expected POST", allowed=["POST"])


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """All of a request's body.

    Raises:
        MessageTooLarge: it is larger.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit_bytes:
            raise MessageTooLarge(f"the body is too large: expected at most {limit_bytes} bytes")
    return bytes(body)


def json_answer(body: bytes) -> Response:
    """An answer that nobody keeps."""
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


def refusal(error: TidegateError, **more: object) -> Response:
    """The answer to a request that met an error."""
    status, headers, body = problem(error, **more)
    response = Response(body, status)
    response.raw_headers = headers
    return response
