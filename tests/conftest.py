import pytest
from hypothesis import settings

from tests.matrix.outcomes import Outcomes

# Machines are noisy: how long an example takes says nothing about the rule it tests.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Outcomes(config))
