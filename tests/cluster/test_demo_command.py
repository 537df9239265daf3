"""`python -m demo` as a newcomer runs it. These need the machine for themselves, so they go before all others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import images
from demo.__main__ import NAME
from devcluster import lifecycle, network, processes
from devcluster.api import RunningCluster
from devcluster.paths import Cluster
from tests.cluster.conftest import NAME as SESSION
from tests.cluster.pods import wait_for

PLACES = Cluster.named(NAME, tier="cluster")


@pytest.fixture(scope="module", autouse=True)
def the_machine_is_free() -> None:
    other = Cluster.named(SESSION, tier="cluster")
    RunningCluster(name=SESSION, tier="cluster", state_dir=other.state_dir).stop()


@pytest.fixture
def played(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The demo, begun; what it shows is in the file `shown`."""
    environment = {name: value for name, value in os.environ.items() if name != "KEEP"}
    environment["PYTHONPATH"] = os.pathsep.join(["operator", "."])
    with (tmp_path / "shown").open("wb") as shown:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=images.ROOT,
            env=environment,
            stdout=shown,
            stderr=subprocess.STDOUT,
            # As from a terminal: a shell's background job, which a test may run in, has SIGINT ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(timeout=300)


def assert_nothing_is_left() -> None:
    assert lifecycle.status(PLACES).state == "down"
    assert processes.find_marked(PLACES.state_dir) == []
    assert not Path("/run/netns", network.NODE).exists()
    assert not Path("/sys/class/net", network.HOST_LINK).exists()


def test_it_shows_everything_and_leaves_nothing(played: subprocess.Popen[bytes], tmp_path: Path) -> None:
    code = played.wait(timeout=1800)
    shown = (tmp_path / "shown").read_text()
    assert code == 0, shown
    for words in (
        "helm upgrade --install",
        "STATE",
        "Suspended",
        "it went on where it stopped",
        "orders are gone",
        "42 results",
        "its breaker is open",
        "three are stopped",
    ):
        assert words in shown
    assert_nothing_is_left()


@pytest.mark.parametrize(
    ("moment", "number"),
    [("starting Cilium", signal.SIGINT), ("helm upgrade", signal.SIGTERM)],
    ids=["while the cluster comes up", "in an act"],
)
def test_interrupted_it_cleans_up(
    played: subprocess.Popen[bytes], tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    wait_for(lambda: moment in (tmp_path / "shown").read_text(), seconds=900, what=f"it says: {moment}")
    played.send_signal(number)
    assert played.wait(timeout=300) == 130
    assert "interrupted" in (tmp_path / "shown").read_text()
    assert_nothing_is_left()
