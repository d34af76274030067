"""What a run of the tests has found, printed into docs/clients.md at its end."""

from typing import Any

import pytest

from tests.matrix.cells import BEHAVIOURS, CLIENTS, NOT_APPLICABLE, write

__all__ = ["Outcomes"]


class Outcomes:
    """A plugin that gathers the cells' outcomes, whichever process found them."""

    def __init__(self, config: pytest.Config) -> None:
        self._found: dict[tuple[str, str], bool] = {}
        self._gathers = not hasattr(config, "workerinput")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Any:
        """Say in the report which cell it is about."""
        report: pytest.TestReport = yield
        parameters = getattr(item, "callspec", None)
        if parameters is not None and {"client", "behaviour"} <= parameters.params.keys():
            report.user_properties.append(("cell", [parameters.params["client"], parameters.params["behaviour"]]))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's outcome."""
        for name, cell in report.user_properties:
            if name == "cell" and isinstance(cell, list):
                client, behaviour = cell
                self._found[client, behaviour] = self._found.get((client, behaviour), True) and not report.failed

    def pytest_sessionfinish(self) -> None:
        """Print, if all cells were tried."""
        cells = {(client, behaviour) for client in CLIENTS for behaviour in BEHAVIOURS} - NOT_APPLICABLE.keys()
        if self._gathers and cells <= self._found.keys():
            write(frozenset(cell for cell, passed in self._found.items() if not passed))
