"""What each tier consists of and who starts it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from devcluster import packages
from devcluster.errors import DevclusterError
from devcluster.options import Options
from devcluster.paths import Cluster
from devcluster.progress import Progress

Start = Callable[[Cluster, Mapping[str, Path], Options, Progress], None]
"""Brings a tier's cluster up.

(cluster, program name to path, options, progress). It returns when the cluster is ready for use.
"""


class TierModule(Protocol):
    """What a module that starts a tier has."""

    COMPONENTS: tuple[str, ...]
    """Names of the components it needs."""

    start: Start
    """Brings the cluster up."""


@dataclass(frozen=True)
class Tier:
    """One kind of cluster.

    Attributes:
        name: how people name it.
        what: one line about it.
        components: what is built for it.
        packages: Debian packages it needs.
        start: brings it up.
    """

    name: str
    what: str
    components: tuple[str, ...]
    packages: tuple[str, ...]
    start: Start


_MODULES = {
    "apiserver": ("devcluster.apiserver", "etcd, kube-apiserver and kube-controller-manager on loopback"),
    "cluster": ("devcluster.cluster", "all of Kubernetes with Cilium, in network namespaces beside production"),
    "scale": ("devcluster.scale", "a control plane with simulated nodes"),
}

NAMES = tuple(_MODULES)
"""The tiers there are."""


def describe(name: str) -> str:
    """One line about a tier."""
    return _MODULES[name][1]


def tier(name: str) -> Tier:
    """Give a tier by its name. Its module is imported only now: nobody needs to load what another tier needs.

    Raises:
        DevclusterError: there is none of that name.
    """
    if name not in _MODULES:
        raise DevclusterError(f"no tier {name!r}; there are: {', '.join(NAMES)}")
    module_name, what = _MODULES[name]
    module = cast(TierModule, importlib.import_module(module_name))
    return Tier(name, what, module.COMPONENTS, packages.PACKAGES[name], module.start)
