"""A run that is told to end leaves nothing behind: what its tests started is ended by those who started it.

pytest does so on an interrupt (SIGINT). On SIGTERM, which is what a CI system sends, it dies at once, and so do its
workers; clusters then go on.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

import pytest

from devcluster import lifecycle
from devcluster.progress import Progress

ENDING_SECONDS = 60
"""What a worker has, after an interrupt, to end what it started: ten seconds, as by default, are few for a node."""


def pytest_configure(config: pytest.Config) -> None:
    """Take SIGTERM for an interrupt, and give workers the time that they need."""
    signal.signal(signal.SIGTERM, _interrupt)
    if config.pluginmanager.has_plugin("xdist"):
        from xdist.workermanage import NodeManager

        NodeManager.EXIT_TIMEOUT = ENDING_SECONDS


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Take down the clusters of workers that were killed."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        lifecycle.down_abandoned(progress=Progress())


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut off what the first one began
    raise KeyboardInterrupt
