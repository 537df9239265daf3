"""Renders manifests/install.yaml and manifests/policy.yaml from the chart.

`python -m manifests.render` writes them, `python -m manifests.render --check` fails when one is not current. They are
two files because kubectl can make no SandboxPolicy of a file that also brings the kind. Run from the repository's root.
Helm comes from PATH where its version is right, else it is built once into the cache of devcluster.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from devcluster.build import Binaries
from devcluster.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "bulkhead"
INSTALL = ROOT / "manifests" / "install.yaml"
POLICY = ROOT / "manifests" / "policy.yaml"
RELEASE = "bulkhead"
NAMESPACE = "bulkhead-system"

HEADER = f"""\
# Bulkhead, for `kubectl apply --server-side -f install.yaml`. When its kinds are served, apply policy.yaml:
# `kubectl wait --for=condition=Established crd/sandboxpolicies.bulkhead.dev`. Rendered from charts/bulkhead with its
# default values by `python -m manifests.render`; do not edit. Use the chart for anything but the defaults.
---
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    app.kubernetes.io/name: bulkhead
    app.kubernetes.io/part-of: bulkhead
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/enforce-version: v1.34
    pod-security.kubernetes.io/warn: restricted
    pod-security.kubernetes.io/warn-version: v1.34
"""
"""What stands before the chart's objects: Helm makes a release's namespace itself, kubectl does not."""


POLICY_HEADER = """\
# The SandboxPolicy of every sandbox namespace: `kubectl apply --server-side -f policy.yaml`, after install.yaml. As it
# is, agents may reach Services and pods of their own namespace and nothing else. Name your production here, and what
# else may be asked for.
"""

SERVED = "bulkhead.dev/v1alpha1/SandboxPolicy"
"""What the API server says when it serves the kind: then the chart renders the policy as an ordinary object."""


def find_helm() -> Path:
    """Give the Helm to render with, building it where there is none."""
    return Binaries(progress=Progress()).program("helm")


def template(helm: Path, *arguments: str, release: str = RELEASE, namespace: str = NAMESPACE) -> str:
    """Render the chart without a cluster.

    Args:
        helm: the program.
        *arguments: further arguments of `helm template`, such as `--set` and a value.
        release: name of the release.
        namespace: where it would be installed.

    Returns:
        The objects as a YAML stream.

    Raises:
        subprocess.CalledProcessError: Helm refused; its `stderr` says what.
    """
    command = [str(helm), "template", release, str(CHART), "--namespace", namespace, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout  # noqa: S603 - our own chart, no shell


def install_manifest(helm: Path) -> str:
    """Give the text that manifests/install.yaml must have: all but the SandboxPolicy."""
    return HEADER + _by_kubectl(template(helm, "--set", "policy.create=false"))


def policy_manifest(helm: Path) -> str:
    """Give the text that manifests/policy.yaml must have."""
    return POLICY_HEADER + _by_kubectl(
        template(helm, "--show-only", "templates/sandboxpolicy.yaml", "--api-versions", SERVED)
    )


def _by_kubectl(rendered: str) -> str:
    # Labels say who manages an object; for these it is whoever applies the file.
    changed = rendered.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kubectl")
    return "\n".join(line.rstrip() for line in changed.splitlines()) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the manifests, or check them.

    Args:
        arguments: command line without the program's name; that of the process by default.

    Returns:
        Exit code: 0, or 1 when a file is not current.
    """
    parser = argparse.ArgumentParser(
        prog="python -m manifests.render", description="Render the manifests from the chart."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when a file is not what would be written"
    )
    check = parser.parse_args(arguments).check
    helm = find_helm()
    texts = {INSTALL: install_manifest(helm), POLICY: policy_manifest(helm)}
    stale = {
        path: text for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if check:
            name = path.relative_to(ROOT)
            print(f"{name} is not current: run `python -m manifests.render` and commit it", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
