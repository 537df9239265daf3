"""The operator as a process of its own, under the rights of its chart: what the end-to-end tests run and kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from devcluster.api import RunningCluster, token_kubeconfig
from devcluster.ports import PortReservation
from manifests.render import ROOT, find_helm
from tests import leaks
from tests.packaging.rendering import render

NAMESPACE = "bulkhead-system"
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def install_rights(cluster: RunningCluster) -> Path:
    """Gives the operator's service account the rights of the chart, and nothing else; returns its kubeconfig."""
    objects = [one for one in render(find_helm()) if one["kind"] in RIGHTS]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    cluster.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all([namespace, *objects]))
    (account,) = [one for one in objects if one["kind"] == "ServiceAccount"]
    return token_kubeconfig(cluster, NAMESPACE, account["metadata"]["name"])


_RESERVED = PortReservation()


def free_port() -> int:
    """A port of the loopback that nobody listens on, and that no other takes before its server does: it is reserved."""
    return _RESERVED.take()


class OperatorProcess:
    """One replica of the operator.

    Args:
        kubeconfig: as whom, and through which address, it reaches the API server.
        folder: where its log goes.
        replica: its identity in the lease. A process with the identity of a dead one takes its lease over at once, as a
            restarted container does.
        extra: further arguments.
        packages: folders with what is installed beside it, as a third party's issuer is.
    """

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        *,
        replica: str = "replica-1",
        extra: Sequence[str] = (),
        packages: Sequence[Path] = (),
    ) -> None:
        self.kubeconfig = kubeconfig
        self.log = folder / f"{replica}.log"
        self.replica = replica
        self.extra = tuple(extra)
        self.packages = tuple(packages)
        # Held as long as this is: between two starts nobody else takes them.
        ports = PortReservation()
        weakref.finalize(self, ports.__exit__, None, None, None)
        self.liveness, self.readiness, self.canary = ports.take(), ports.take(), ports.take()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def launcher(self) -> list[str]:
        """The command up to the operator's arguments, with its credentials."""
        return [sys.executable, "-m", "bulkhead.main", f"--kubeconfig={self.kubeconfig}"]

    def environment(self) -> dict[str, str]:
        """The variables it is started with."""
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "operator", *self.packages))),
            "POD_UID": self.replica,
            "POD_NAME": self.replica,
            "POD_NAMESPACE": NAMESPACE,
        }

    def start(self, *, wait: bool = True) -> None:
        """Starts it, and waits until its caches are filled."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self.launcher(),
                    "--listen=127.0.0.1",
                    f"--liveness-port={self.liveness}",
                    f"--readiness-port={self.readiness}",
                    "--gate-image=bulkhead/operator:test",
                    "--canary-address=127.0.0.1",
                    f"--canary-port={self.canary}",
                    *self.extra,
                ],
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        leaks.follow(f"the log of an operator, {self.log.name}", self.log)
        if wait:
            eventually(lambda: self.get(self.readiness, "/readyz") == 200, f"{self.replica} is ready", within=120)

    def get(self, port: int, path: str) -> int:
        """Asks a probe; 0 when nobody answers. Fails the test when the process has ended."""
        assert self._process is not None
        assert self._process.poll() is None, f"the operator ended:\n{self.tail()}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def read(self, port: int, path: str, *, patience: float = 30.0) -> str:
        """Returns what an endpoint says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=patience) as answer:
            return str(answer.read().decode())

    def is_alive(self) -> bool:
        """Whether it runs."""
        process = self._process
        return process is not None and process.poll() is None

    def kill(self) -> None:
        """Ends it without a chance to do anything."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Ends it as Kubernetes does; returns its exit code."""
        if self.is_alive():
            with contextlib.suppress(OSError):  # some tests end it when it cannot answer any more
                leaks.note("an operator's metrics", self.read(self.readiness, "/metrics", patience=5.0))
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        # It counts as alive until it has ended: a thread that kills it at a request must not have another thread start
        # the next one, on the same ports, while this one still works.
        process = self._process
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(timeout=30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def records(self) -> list[dict[str, Any]]:
        """Its log, every line of which is a JSON object. What is just being written is no line yet."""
        *lines, _ = self.log.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines]

    def errors(self) -> list[dict[str, Any]]:
        """What it logged as errors, but for requests that kopf sends again: it calls each of them an error."""
        return [
            one
            for one in self.records()
            if one["level"] in ("ERROR", "CRITICAL")
            and not (one["logger"].startswith("kopf.") and "; will retry: " in one["message"])
        ]


def eventually(condition: Callable[[], Any], what: str | Callable[[], str], *, within: float = 60.0) -> Any:
    """Waits until a condition gives something true and returns that; fails with what was waited for, asked then."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within:.0f} s: {what() if callable(what) else what}")
        time.sleep(0.02)
