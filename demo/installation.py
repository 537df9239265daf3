"""First act: the operator comes into the cluster by Helm."""

from __future__ import annotations

from pathlib import Path

from demo import images
from demo.stage import Stage
from devcluster import warehouse
from devcluster.progress import Progress

CHART = images.ROOT / "charts" / "bulkhead"
VALUES = images.ROOT / "demo" / "values.yaml"
"""What the platform team decides: above all, what production is."""

RELEASE = "bulkhead"
NAMESPACE = "bulkhead-system"
ISSUER_SECRET = "warehouse-issuer"  # noqa: S105 - a name
ISSUER_CONFIG = "warehouse-authority"
RESTRICTED = (
    "pod-security.kubernetes.io/enforce=restricted",
    "pod-security.kubernetes.io/enforce-version=v1.34",
)
"""Labels of a namespace that admits restricted pods only, by the standard of one Kubernetes version."""


def archives(*, progress: Progress) -> list[Path]:
    """Give the archives of the images of the operator and of the demo's agent; there is no registry to pull from."""
    return [images.operator(progress=progress), images.agent(progress=progress)]


def _let_it_issue(stage: Stage) -> None:
    """Give the operator what it needs to make roles in the warehouse; where it has that already, nothing happens."""
    warehouse.start(stage.cluster)
    if stage.ask("get", "secret", ISSUER_SECRET, f"--namespace={NAMESPACE}", "--ignore-not-found") != "":
        return
    in_it = ("--namespace", NAMESPACE)
    password = warehouse.password_file(stage.cluster)
    stage.kubectl("create", "secret", "generic", ISSUER_SECRET, *in_it, f"--from-file=password={password}")
    stage.kubectl("create", "configmap", ISSUER_CONFIG, *in_it, f"--from-file=ca.crt={stage.cluster.ca_file}")


def act(stage: Stage, *, settings: tuple[str, ...] = (), values: Path = VALUES) -> None:
    """Install the operator with its chart, or upgrade it, into a namespace that admits restricted pods only.

    Args:
        stage: where.
        settings: further values of the chart, as `name=value`.
        values: file with values of the chart.

    Raises:
        DemoError: it does not get ready.
    """
    stage.title("The operator, installed by Helm")
    if stage.ask("get", "namespace", NAMESPACE, "--ignore-not-found") == "":
        stage.kubectl("create", "namespace", NAMESPACE)
    stage.kubectl("label", "--overwrite", "namespace", NAMESPACE, *RESTRICTED)
    _let_it_issue(stage)
    stage.run(
        *("helm", "upgrade", "--install", RELEASE, str(CHART.relative_to(images.ROOT)), "--namespace", NAMESPACE),
        *("--values", str(values.relative_to(images.ROOT))),
        *(part for setting in settings for part in ("--set", setting)),
        *("--wait", "--timeout", "2m"),
        quiet=True,
    )
    shown = stage.kubectl("get", "pods", "--namespace", NAMESPACE)
    stage.expect(" 1/1 " in shown and "Running" in shown, "the operator runs, itself as a restricted pod")
