"""Programs that the packaging tests run."""

from __future__ import annotations

from pathlib import Path

import pytest

from devcluster.build import Binaries
from devcluster.progress import Progress
from manifests.render import ROOT, find_helm
from tests.packaging.rendering import Manifest, render, the


@pytest.fixture(scope="session")
def helm() -> Path:
    """Helm in the version that devcluster pins."""
    return find_helm()


@pytest.fixture(scope="session")
def kube_score() -> Path:
    """kube-score in the version that devcluster pins."""
    return Binaries(progress=Progress()).program("kube-score")


@pytest.fixture(scope="session")
def scan_programs() -> Path:
    """The folder with checkov and trivy, in an environment of their own because checkov pins old libraries."""
    folder = ROOT / ".venv-scan" / "bin"
    if not (folder / "checkov").exists() or not (folder / "trivy").exists():
        pytest.fail(
            "checkov and trivy are missing: `python3 -m venv .venv-scan && "
            ".venv-scan/bin/pip install --require-hashes -r requirements-scan.lock` installs them",
            pytrace=False,
        )
    return folder


@pytest.fixture(scope="session")
def default_objects(helm: Path) -> list[Manifest]:
    """What the chart installs when nothing is chosen."""
    return render(helm)


@pytest.fixture(scope="session")
def pod(default_objects: list[Manifest]) -> Manifest:
    """The template of the operator's pods."""
    template: Manifest = the(default_objects, "Deployment")["spec"]["template"]
    return template


@pytest.fixture(scope="module")
def pod_spec(objects: list[Manifest]) -> Manifest:
    """The spec of the operator's pod in the chart's `objects`, as the module renders them."""
    spec: Manifest = the(objects, "Deployment")["spec"]["template"]["spec"]
    return spec
