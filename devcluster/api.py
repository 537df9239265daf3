"""The door for tests, benchmarks and the demo.

with running("apiserver") as cluster:
    cluster.kubectl("get", "namespaces")
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster import lifecycle, pki
from devcluster.build import Binaries
from devcluster.errors import DevclusterError
from devcluster.options import Options
from devcluster.paths import Cluster
from devcluster.progress import Progress


@dataclass(frozen=True)
class RunningCluster(Cluster):
    """A cluster that is up, and what one does with it."""

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self.read_facts()["server"])

    @property
    def ca_file(self) -> Path:
        """Certificate of the authority that signed the API server's certificate."""
        return self.pki / "ca.crt"

    def binary(self, program: str) -> Path:
        """Give a program: that which the cluster was made with, or another that devcluster knows, built if need be."""
        if path := self.read_facts().get("programs", {}).get(program):
            return Path(path)
        return Binaries(progress=Progress()).program(program)

    def kubectl(
        self, *arguments: str, input: str | None = None, kubeconfig: Path | None = None, check: bool = True
    ) -> str:
        """Run kubectl.

        Args:
            arguments: its arguments.
            input: its standard input.
            kubeconfig: whom to be; the administrator by default.
            check: whether failure raises.

        Returns:
            Its standard output; with `check` off, its standard error after that.

        Raises:
            DevclusterError: it failed; its standard error is in the text.
        """
        # kubectl remembers for hours what a server at an address serves; another cluster may have had the port before.
        known = [f"--kubeconfig={kubeconfig or self.kubeconfig}", f"--cache-dir={self.state_dir / 'kubectl-cache'}"]
        command = [str(self.binary("kubectl")), *known, *arguments]
        finished = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
        if not check:
            return finished.stdout + finished.stderr
        if finished.returncode != 0:
            raise DevclusterError(f"kubectl {' '.join(arguments)}: {finished.stderr.strip()}")
        return finished.stdout

    def stop(self) -> None:
        """Take the cluster down; see `lifecycle.down`."""
        lifecycle.down(self, progress=Progress())


def up(
    tier: str,
    name: str | None = None,
    *,
    audit: bool = False,
    extra_apiserver_args: Iterable[str] = (),
    nodes: int = 50,
    images: Iterable[Path] = (),
    progress: Progress | None = None,
) -> RunningCluster:
    """Bring a cluster up, or find it up.

    Args:
        tier: `apiserver`, `cluster` or `scale`.
        name: its name; the tier's by default.
        audit: whether the API server writes an audit log (`cluster.audit_log`).
        extra_apiserver_args: more arguments for kube-apiserver.
        nodes: number of simulated nodes (tier `scale`).
        images: archives of images for it to have when it comes up (tier `cluster`); one found up does not get them.
        progress: told about it; standard error by default.

    Raises:
        DevclusterError: see `lifecycle.up`.
    """
    cluster = Cluster.named(name or tier, tier=tier)
    told = progress or Progress()
    options = Options(audit=audit, apiserver_args=tuple(extra_apiserver_args), nodes=nodes, images=tuple(images))
    lifecycle.up(cluster, options, binaries=Binaries(progress=told), progress=told)
    return RunningCluster(name=cluster.name, tier=cluster.tier, state_dir=cluster.state_dir)


@contextmanager
def running(
    tier: str,
    name: str | None = None,
    *,
    audit: bool = False,
    extra_apiserver_args: Iterable[str] = (),
    nodes: int = 50,
) -> Iterator[RunningCluster]:
    """Bring a cluster up for a `with` block and take it down after it, however the block ends.

    Arguments are those of `up`.

    Raises:
        DevclusterError: see `lifecycle.up`; and where another run uses a cluster of that name, which it would lose.
    """
    with lifecycle.in_use(Cluster.named(name or tier, tier=tier)):
        cluster = up(tier, name, audit=audit, extra_apiserver_args=extra_apiserver_args, nodes=nodes)
        try:
            yield cluster
        finally:
            cluster.stop()


def user_kubeconfig(cluster: Cluster, user: str, groups: Iterable[str] = ()) -> Path:
    """Write a kubeconfig for any user and groups, by client certificate.

    Args:
        cluster: a cluster that is up.
        user: Kubernetes user name, e.g. `alice` or `system:serviceaccount:NAMESPACE:NAME`.
        groups: Kubernetes groups. `system:authenticated` is added by the API server.
    """
    lifecycle.require_up(cluster)
    return pki.client_kubeconfig(cluster, server=str(cluster.read_facts()["server"]), user=user, groups=groups)


def token_kubeconfig(cluster: RunningCluster, namespace: str, service_account: str, *, seconds: int = 3600) -> Path:
    """Write a kubeconfig with a fresh token of a service account (TokenRequest), as a pod of that account would hold.

    Args:
        cluster: a cluster that is up.
        namespace: of the service account.
        service_account: its name; it must exist.
        seconds: lifetime of the token; the API server wants at least 600.
    """
    token = cluster.kubectl("create", "token", service_account, f"--namespace={namespace}", f"--duration={seconds}s")
    return pki.token_kubeconfig(
        cluster,
        server=cluster.server,
        user=f"system:serviceaccount:{namespace}:{service_account}",
        token=token.strip(),
        path=cluster.kubeconfigs / f"{namespace}-{service_account}",
    )


def find(name: str | None = None) -> RunningCluster:
    """Give a cluster that is up: that of a name, or the only one there is.

    Raises:
        DevclusterError: it is not up, or a name is needed.
    """
    cluster = lifecycle.choose(name)
    lifecycle.require_up(cluster)
    return RunningCluster(name=cluster.name, tier=cluster.tier, state_dir=cluster.state_dir)


__all__ = ["DevclusterError", "RunningCluster", "find", "running", "token_kubeconfig", "up", "user_kubeconfig"]
