"""Debian's Prometheus and Alertmanager: as programs for whoever starts them, or in pods of the tier `cluster`.

They are not part of any tier: who wants them starts them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster import debs, images, monitoringpods, network
from devcluster.api import RunningCluster
from devcluster.errors import DevclusterError
from devcluster.paths import cache_dir
from devcluster.progress import Progress

PACKAGES = ("prometheus", "prometheus-alertmanager")

_OVERLAID = Path(__file__).with_name("monitoring.sh")
_CONTAINERFILE = Path(__file__).parent / "containerfiles" / "monitoring"
_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Programs:
    """What is in the packages.

    Attributes:
        files: the files of the packages, as they would lie below /.
    """

    files: Path

    @property
    def prometheus(self) -> Path:
        """The server."""
        return self.files / "usr/bin/prometheus"

    @property
    def promtool(self) -> Path:
        """Checks its files."""
        return self.files / "usr/bin/promtool"

    @property
    def alertmanager(self) -> list[str | Path]:
        """How Alertmanager is started, as root: Debian's looks for its templates where the package would put them."""
        private = ("/usr/bin/unshare", "--mount", "--propagation=private")
        return [
            *private,
            "/bin/sh",
            _OVERLAID,
            self.files / "usr/share",
            self.files / "usr/bin/prometheus-alertmanager",
        ]


def programs(*, progress: Progress) -> Programs:
    """Give the programs, fetching them once.

    Raises:
        DevclusterError: Debian does not give them.
    """
    return Programs(debs.unpacked(PACKAGES, progress=progress))


@dataclass(frozen=True)
class Monitoring:
    """Prometheus, and perhaps Alertmanager, in pods of a cluster.

    Attributes:
        cluster: where.
        url: Prometheus as the machine itself reaches it.
    """

    cluster: RunningCluster
    url: str

    def query(self, expression: str, *, at: float | None = None) -> dict[tuple[str, str], float]:
        """Evaluate PromQL; give the values of the series that have the labels `namespace` and `agent`.

        Args:
            expression: PromQL.
            at: the time to evaluate it at, in seconds since 1970; now by default.

        Raises:
            DevclusterError: Prometheus refuses it or cannot be reached.
        """
        parameters = {"query": expression} | ({} if at is None else {"time": str(at)})
        found = self._ask("query?" + urllib.parse.urlencode(parameters))
        return {
            (one["metric"]["namespace"], one["metric"]["agent"]): float(one["value"][1])
            for one in found["result"]
            if {"namespace", "agent"} <= one["metric"].keys()
        }

    def alerts(self) -> list[dict[str, Any]]:
        """Give the alerts of Prometheus' own rules: `labels`, `state`, `activeAt` and so on.

        Raises:
            DevclusterError: it cannot be reached.
        """
        alerts: list[dict[str, Any]] = self._ask("alerts")["alerts"]
        return alerts

    def pause(self) -> None:
        """Take Prometheus away; it forgets what it has seen."""
        self._scale(0)
        self.cluster.kubectl(
            *("wait", "pod", "--for=delete", f"--selector=app={monitoringpods.PROMETHEUS}"),
            *(f"--namespace={monitoringpods.NAMESPACE}", "--timeout=60s"),
        )

    def resume(self) -> None:
        """Bring it back."""
        self._scale(1)
        self.wait()

    def wait(self) -> None:
        """Wait until all of it is ready and Prometheus answers.

        Raises:
            DevclusterError: it does not get so.
        """
        for name in self._deployments():
            rollout = ("rollout", "status", name, f"--namespace={monitoringpods.NAMESPACE}", "--timeout=60s")
            self.cluster.kubectl(*rollout)
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers():  # a Service leads to its pods some time after they are ready
            if time.monotonic() > deadline:
                raise DevclusterError(f"Prometheus does not answer at {self.url}")
            time.sleep(0.1)

    def _deployments(self) -> list[str]:
        listed = self.cluster.kubectl("get", "deployments", f"--namespace={monitoringpods.NAMESPACE}", "--output=name")
        return listed.split()

    def _scale(self, replicas: int) -> None:
        self.cluster.kubectl(
            *("scale", f"deployment/{monitoringpods.PROMETHEUS}", f"--namespace={monitoringpods.NAMESPACE}"),
            f"--replicas={replicas}",
        )

    def _answers(self) -> bool:
        try:
            self._ask("query?query=1")
        except DevclusterError:
            return False
        return True

    def _ask(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:  # noqa: S310 (our own)
                found: dict[str, Any] = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise DevclusterError(f"Prometheus refuses {path}: {error.read().decode(errors='replace')}") from error
        except OSError as error:
            raise DevclusterError(f"Prometheus at {self.url} cannot be asked: {error}") from error
        return found


def image(*, progress: Progress) -> Path:
    """Give the archive of the image of both, making it where it is not in the cache. No cluster is needed.

    Raises:
        DevclusterError: it could not be made.
    """
    found = programs(progress=progress)
    recipe = hashlib.sha256(_CONTAINERFILE.read_bytes())
    for program in sorted((found.files / "usr/bin").iterdir()):
        recipe.update(f"{program.name} {program.stat().st_size} {program.stat().st_mtime_ns}".encode())
    archive = cache_dir() / "images" / f"monitoring-{recipe.hexdigest()[:12]}.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(prefix="bulkhead-monitoring-") as context:
            shutil.copytree(found.files / "usr/bin", Path(context) / "bin")
            # The rest is pages for people, which lead to packages that are not here.
            shutil.copytree(found.files / "usr/share/prometheus/alertmanager", Path(context) / "share")
            os.rename(images.build(_CONTAINERFILE, Path(context), monitoringpods.IMAGE, progress=progress), archive)
    return archive


def install(
    cluster: RunningCluster, *, progress: Progress, token: str = "", webhook: str = "", rules: str = ""
) -> Monitoring:
    """Start Prometheus in a pod, and Alertmanager where it has somebody to tell. Done again, it takes what is new.

    Prometheus asks every agent for its metrics, each second, at the port that the agent calls `metrics`; whether it
    gets there the agent's network decides. Its series carry `namespace` and `agent`, by Kubernetes and not by what the
    agent says.

    Args:
        cluster: of tier `cluster`.
        progress: told about it.
        token: that Alertmanager shows.
        webhook: URL that Alertmanager delivers to, as its pod reaches it; empty: there is no Alertmanager.
        rules: a file of rules for Prometheus.

    Raises:
        DevclusterError: it could not be made or does not get ready.
    """
    archive = image(progress=progress)
    with progress.step("starting Prometheus" + (" and Alertmanager" if webhook else "")):
        images.load(cluster, archive)
        items = monitoringpods.manifests(token=token, webhook=webhook, rules=rules)
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", input=manifest)
        started = Monitoring(cluster, f"http://{network.NODE_ADDRESS}:{monitoringpods.NODE_PORT}")
        started.wait()
    return started
