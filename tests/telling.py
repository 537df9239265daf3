"""What a run of all tests tells while it goes on, with workers of pytest-xdist and without.

A failure is told with its text the moment it is known, so that a run that is cut off has said what failed. Load it
before any other plugin, in PYTEST_PLUGINS, as `make test` does: a worker then writes what tests want to be seen (tables
of what they measured) to where the run writes its errors. Its own standard output leads nowhere.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before pytest keeps the descriptors for the time of a test: what it gives back to a test is this one.
    os.dup2(2, 1)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Tell about failures, in the process that hears of all of them."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(config), "failures at once")
    elif reporter := config.pluginmanager.get_plugin("terminalreporter"):
        # A worker reports all that it does on a standard output that nobody reads.
        reporter._tw._file = Path(os.devnull).open("w")


class _Failures:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)  # after the mark that says that it failed
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell what failed, and how."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if not report.failed or reporter is None:
            return
        reporter.write_line("")
        reporter.write_sep(
            "_", report.nodeid if report.when == "call" else f"{report.when} of {report.nodeid}", red=True
        )
        reporter.write_line(report.longreprtext)
        for title, content in report.sections:
            reporter.write_sep("-", title)
            reporter.write_line(content)
