"""Settings that all tests share, and which of them may run side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.interruption import pytest_configure, pytest_unconfigure
from tests.leaks import (
    no_leaks,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)

__all__ = [
    "no_leaks",
    "pytest_configure",
    "pytest_runtest_logreport",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_unconfigure",
]

# How long an example takes says something about the machine's load, and nothing about the code. Where CI is set, as CI
# systems do, the examples are the same every time: what a change is judged by must not depend on luck. All other runs
# look for new ones.
settings.register_profile(
    "bulkhead", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("bulkhead")

HERE = Path(__file__).parent

# What takes longest begins first, so that the short ones can fill what is left of the time.
ORDER = (
    "cluster",
    "apiserver/admission",
    "apiserver",
    "devcluster",
    "issuers/vault",
    "issuers/postgres",
    "signals",
    "packaging",
    "gate",
    "unit",
)

TOGETHER = frozenset({"cluster", "apiserver/admission", "apiserver", "issuers/vault", "issuers/postgres", "signals"})
"""Folders whose modules share a cluster or a server: they stay in one worker. Of others each module may go anywhere."""

GIVE_WAY = 5
"""How much nicer than the first of these the others are, see nice(2): they get a third of its share."""


def folder(path: Path) -> str:
    """The folder of `ORDER` that a file is in."""
    parts = path.relative_to(HERE).parts
    return next((name for name in ("/".join(parts[:2]), parts[0]) if name in ORDER), ORDER[-1])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first, and leave all else in its place."""
    items.sort(key=lambda item: ORDER.index(folder(item.path)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Say which tests go to one worker. Most of the time a test waits, so several take little more than the longest.

    Not by `--dist=loadgroup`: pytest-xdist 3.8 appends the group to a name that pytest 9.2 does not read any more, and
    so spreads the tests over all workers without a word. Two workers then work in one cluster, and the first to end
    takes it down under the other.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            found = folder(config.rootpath / module)
            return found if found in TOGETHER else module

    return ByFolder(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the folder that takes longest go first where several workers want more than the machine has."""
    global _given_way
    if not _given_way and "PYTEST_XDIST_WORKER" in os.environ and folder(item.path) != ORDER[0]:
        os.nice(GIVE_WAY)
        _given_way = True


_given_way = False
