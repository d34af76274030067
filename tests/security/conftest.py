from collections.abc import Iterator

import pytest

from tests.integration.conftest import broker, device, start_gateway
from tests.security.target import Target, target

__all__ = ["broker", "device", "start_gateway"]


@pytest.fixture(scope="session", params=["direct", "plain"])
def victim(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Target]:
    """The gateway on its own server, and on one that only has ASGI, for all attacks."""
    with target(tmp_path_factory.mktemp("victim"), plain=request.param == "plain") as found:
        yield found


@pytest.fixture(scope="module")
def with_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The gateway with the embedded broker."""
    with target(tmp_path_factory.mktemp("embedded"), embedded=True) as found:
        yield found
