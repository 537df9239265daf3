"""Tier `apiserver`: what decides about objects, and nothing that runs them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from devcluster import controlplane
from devcluster.controlplane import ControlPlaneOptions
from devcluster.options import Options
from devcluster.paths import Cluster
from devcluster.progress import Progress

COMPONENTS: tuple[str, ...] = controlplane.COMPONENTS


def start(cluster: Cluster, binaries: Mapping[str, Path], options: Options, progress: Progress) -> None:
    """Start the control plane on loopback, on free ports."""
    chosen = ControlPlaneOptions(audit=options.audit, apiserver_args=options.apiserver_args)
    controlplane.start(cluster, binaries, chosen, progress)
