"""Behind a real nginx: whose word is taken on where a request comes from."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.certificates import Authority
from tests.nginx import nginx
from tests.real import GatewayProcess

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
PROXY, CLIENT, OTHER = "127.0.0.1", "127.0.0.5", "127.0.0.6"

Start = Callable[..., GatewayProcess]


def location(gateway: GatewayProcess) -> str:
    """As documented; from an address of its own, since all clients are on this machine too."""
    found: str
    (found,) = re.findall(r"```nginx\n(.*?)```", DOCUMENT, re.DOTALL)
    return found.replace("proxy_pass http://127.0.0.1:8080;", f"proxy_bind {PROXY}; proxy_pass {gateway.url};")


class Clients:
    """Clients with addresses of their own, whose streams stay open."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def stream(self, url: str, address: str, **headers: str) -> int:
        """Open one more stream; the status of the answer."""
        http = self._stack.enter_context(httpx.Client(transport=httpx.HTTPTransport(local_address=address)))
        return self._stack.enter_context(http.stream("GET", f"{url}/sse?room=a", headers=headers)).status_code


@pytest.fixture
def clients() -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients(stack)


def config(**listen: Any) -> dict[str, Any]:
    return {"broker": {"port": 0}, "limits": {"connections_per_address": 1}, "listen": listen}


def test_limits_count_the_client_behind_a_trusted_proxy_whatever_it_claims(
    tmp_path: Path, start_gateway: Start, clients: Clients
) -> None:
    gateway = start_gateway(config(trusted_proxies=[PROXY]))
    with nginx(tmp_path, location(gateway)) as port:
        url = f"http://127.0.0.1:{port}"
        assert clients.stream(url, CLIENT, **{"X-Forwarded-For": "192.0.2.1"}) == 200
        assert clients.stream(url, CLIENT, **{"X-Forwarded-For": "192.0.2.2"}) == 429
        assert clients.stream(url, CLIENT, Forwarded="for=192.0.2.3") == 429
        assert clients.stream(url, OTHER) == 200


def test_who_is_no_trusted_proxy_is_not_believed(start_gateway: Start, clients: Clients) -> None:
    gateway = start_gateway(config(trusted_proxies=[PROXY]))
    assert clients.stream(gateway.url, CLIENT, **{"X-Forwarded-For": "192.0.2.1"}) == 200
    assert clients.stream(gateway.url, CLIENT, **{"X-Forwarded-For": "192.0.2.2"}) == 429


def test_without_trusted_proxies_nobody_is_believed(start_gateway: Start, clients: Clients) -> None:
    gateway = start_gateway(config())
    assert clients.stream(gateway.url, PROXY, **{"X-Forwarded-For": "192.0.2.1"}) == 200
    assert clients.stream(gateway.url, PROXY, **{"X-Forwarded-For": "192.0.2.2"}) == 429


def test_the_standard_header_is_believed_where_it_is_configured(start_gateway: Start, clients: Clients) -> None:
    gateway = start_gateway(config(trusted_proxies=["127.0.0.0/30"], proxy_header="forwarded"))
    assert clients.stream(gateway.url, PROXY, Forwarded='for="[2001:db8::1]:4711";proto=http') == 200
    assert clients.stream(gateway.url, PROXY, Forwarded='for=192.0.2.7, for="[2001:db8::2]"') == 429
    assert clients.stream(gateway.url, PROXY, Forwarded='for="[2001:db8:0:1::2]"') == 200
    assert clients.stream(gateway.url, PROXY, **{"X-Forwarded-For": "2001:db8::3"}) == 200


def test_a_page_without_tls_is_not_the_gateways_own_where_a_proxy_serves_tls(
    tmp_path: Path, start_gateway: Start
) -> None:
    gateway = start_gateway(config(trusted_proxies=[PROXY]))
    authority = Authority()
    with nginx(tmp_path, location(gateway), authority.issue(tmp_path)) as port:
        for scheme, status in [("https", 200), ("http", 403)]:
            answer = httpx.post(
                f"https://localhost:{port}/publish?room=chat/x",
                json=1,
                headers={"Origin": f"{scheme}://localhost:{port}", "X-Forwarded-Proto": "http"},
                verify=authority.trust,
            )
            assert answer.status_code == status
    own = {"Origin": f"http://localhost:{gateway.port}", "Host": f"localhost:{gateway.port}"}
    assert httpx.post(f"{gateway.url}/publish?room=chat/x", json=1, headers=own).status_code == 200
