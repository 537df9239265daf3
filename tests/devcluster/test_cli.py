"""The command line as people and scripts use it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster import cli, tiers
from devcluster.errors import DevclusterError
from devcluster.paths import Cluster
from tests.devcluster.support import leftovers, python_environment, wait_for


def devcluster(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devcluster", *arguments],
        env=python_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_cluster_goes_through_its_life_by_commands(state_root: Path) -> None:
    up = devcluster("up", "--name", "mine")
    assert (up.returncode, up.stdout) == (0, f"{state_root}/mine/kubeconfig\n")
    assert "✓ starting etcd and kube-apiserver" in up.stderr

    assert devcluster("kubeconfig").stdout == up.stdout, "with one cluster no name is needed"
    assert devcluster("kubectl", "--", "get", "namespace", "default", "-o", "name").stdout == "namespace/default\n"
    failing = devcluster("kubectl", "--name", "mine", "--", "get", "namespace", "nowhere")
    assert (failing.returncode, failing.stderr) == (1, 'Error from server (NotFound): namespaces "nowhere" not found\n')

    status = devcluster("status").stdout
    assert status.startswith("mine  tier apiserver  up  https://127.0.0.1:")
    assert "running: etcd, kube-apiserver, kube-controller-manager" in status

    assert devcluster("down").returncode == 0
    assert leftovers(Cluster.named("mine", tier="apiserver")) == []
    assert devcluster("status").stderr == "no clusters\n"


def test_a_state_folder_that_cannot_be_written_is_refused_with_what_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_STATE", "/proc/nowhere")

    refused = devcluster("up")

    assert refused.returncode == 1
    assert refused.stderr.startswith("devcluster: state cannot be kept in /proc/nowhere")
    assert "by BULKHEAD_STATE" in refused.stderr


def test_an_interrupted_up_takes_away_what_it_made(state_root: Path) -> None:
    command = [sys.executable, "-m", "devcluster", "up"]
    interrupted = subprocess.Popen(
        command,
        env=python_environment(),
        stderr=subprocess.PIPE,
        text=True,
        # Where a shell runs the tests in the background, SIGINT is ignored and every child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    cluster = Cluster.named("apiserver", tier="apiserver")
    wait_for(lambda: (cluster.state_dir / "processes" / "kube-apiserver.json").exists())

    interrupted.send_signal(signal.SIGINT)
    _, error = interrupted.communicate(timeout=180)

    assert (interrupted.returncode, error.splitlines()[-1]) == (130, "devcluster: interrupted")
    assert leftovers(cluster) == []


def test_with_several_clusters_a_name_is_asked_for(state_root: Path) -> None:
    for name in ("one", "two"):
        (state_root / name).mkdir()

    refused = devcluster("kubeconfig")

    assert refused.returncode == 1
    assert refused.stderr == "devcluster: there are several clusters (one, two): choose one by --name\n"


def test_a_cluster_that_is_not_up_is_refused_with_what_brings_it_up(state_root: Path) -> None:
    (state_root / "half").mkdir()

    for name in ("half", "none"):
        refused = devcluster("kubeconfig", "--name", name)
        assert refused.returncode == 1
        assert "there are: half" in refused.stderr
        assert "`python -m devcluster up`" in refused.stderr


def test_down_without_any_cluster_is_fine(state_root: Path) -> None:
    assert devcluster("down").returncode == 0
    assert devcluster("down", "--all").returncode == 0
    assert devcluster("down", "--name", "none").returncode == 0


def test_images_are_refused_by_a_tier_that_runs_no_containers(state_root: Path, tmp_path: Path) -> None:
    cluster = Cluster.named("plain", tier="apiserver")
    cluster.note_facts({"tier": "apiserver", "ready": True})
    cluster.kubeconfig.touch()

    refused = devcluster("load", "--name", "plain", str(tmp_path / "image.tar"))

    assert refused.returncode == 1
    assert "is of tier apiserver, which runs no containers" in refused.stderr


def test_build_prints_the_paths_of_the_programs_only(state_root: Path) -> None:
    built = devcluster("build", "etcd", "kubectl")

    etcd, kubectl = built.stdout.splitlines()
    assert (Path(etcd).name, Path(kubectl).name) == ("etcd", "kubectl")


def test_build_of_an_unknown_component_names_those_there_are(state_root: Path) -> None:
    refused = devcluster("build", "kubernetes")

    assert refused.returncode == 1
    assert refused.stderr.startswith("devcluster: no component 'kubernetes'; there are: etcd, kube-apiserver")


@pytest.mark.parametrize("arguments", [["up", "--tier", "huge"], ["fly"], []], ids=lambda a: " ".join(a) or "nothing")
def test_what_is_not_a_command_is_refused_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments)

    assert exited.value.code == 2
    assert "usage: devcluster" in capsys.readouterr().err


def test_a_tier_is_found_by_its_name_with_its_components() -> None:
    assert tiers.tier("apiserver").components == ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
    assert set(tiers.tier("scale").components) > set(tiers.tier("apiserver").components)
    with pytest.raises(DevclusterError, match="no tier 'huge'; there are: apiserver, cluster, scale"):
        tiers.tier("huge")
