"""What the one who brings a cluster up may choose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """Choices at `up`. They hold as long as the cluster is up; another choice needs `down` first.

    Attributes:
        audit: whether the API server writes an audit log (JSON lines, level Metadata).
        apiserver_args: more arguments for kube-apiserver, after ours.
        nodes: number of simulated nodes (tier `scale`).
        images: archives of images that are loaded while it comes up (tier `cluster`). They are no part of what it is:
            one that is up already does not get them; see `images.load`.
    """

    audit: bool = False
    apiserver_args: tuple[str, ...] = ()
    nodes: int = 50
    images: tuple[Path, ...] = ()

    def as_facts(self) -> dict[str, Any]:
        """The options as JSON knows them."""
        return {"audit": self.audit, "apiserver_args": list(self.apiserver_args), "nodes": self.nodes}
