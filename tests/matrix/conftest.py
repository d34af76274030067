from collections.abc import Iterator

import pytest

from tests.browser.conftest import chromium as chromium
from tests.matrix.bench import Bench, bench
from tests.proxy import Relay, relay


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("bench")) as made:
        yield made


@pytest.fixture
def between(running: Bench) -> Iterator[Relay]:
    """What lies between the client and the gateway, and may break."""
    with relay(running.gateway.port) as made:
        yield made
