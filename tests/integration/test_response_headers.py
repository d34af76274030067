"""What all answers tell browsers."""

from collections.abc import Callable

import httpx
import pytest

from gateway.response_headers import CONTENT_SECURITY_POLICY
from tests.real import GatewayProcess

ASSETS = ("/", "/dashboard.js", "/dashboard.css", "/favicon.svg", "/vendor/uplot/uPlot.esm.js", "/tidegate.js")
ANSWERS = ("/readyz", "/healthz", "/metrics", "/last?room=a", "/history?room=a", "/nowhere", "/ws", "/n/nobody/last")


@pytest.mark.parametrize("plain", [False, True], ids=["direct", "plain"])
def test_every_page_file_and_answer_bounds_what_a_page_may_do(
    start_gateway: Callable[..., GatewayProcess], plain: bool
) -> None:
    gateway = start_gateway({"broker": {"port": 0}}, plain=plain)
    with httpx.Client(base_url=gateway.url) as http:
        for path in (*ASSETS, *ANSWERS):
            headers = http.get(path).headers
            assert headers.get_list("content-security-policy") == [CONTENT_SECURITY_POLICY], path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-frame-options"] == "DENY"
            assert "strict-transport-security" not in headers  # browsers would pass over it, RFC 6797 §8.1
            assert headers.get_list("cache-control") == ["no-cache" if path in ASSETS else "no-store"], path
        etag = http.get("/dashboard.js").headers["etag"]
        assert http.get("/dashboard.js", headers={"If-None-Match": etag}).status_code == 304
        with http.stream("GET", "/sse?room=a") as stream:
            assert stream.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
