"""etcd, kube-apiserver and kube-controller-manager: started, and known to be ready."""

from __future__ import annotations

import http.client
import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from devcluster import pki, processes
from devcluster.paths import Cluster, write_atomically
from devcluster.ports import PortReservation
from devcluster.progress import Progress

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")

ADMIN = "kubernetes-admin"
"""User of the administrator's kubeconfig."""

FAST_CLIENT = ("--kube-api-qps=1000", "--kube-api-burst=1000")
"""Arguments for controllers. With the default of 20 requests a second, kube-controller-manager spends 4 s on
the tokens of its controllers before the first works; and clients, not the API server, limit what is measured."""

READY_SECONDS = 180.0
"""How long a component may take: ten times what it needs on two busy cores. One that ends is told of at once."""


@dataclass(frozen=True)
class ControlPlaneOptions:
    """How a control plane is set up.

    Attributes:
        address: where the API server listens, and what it is reached at from the host.
        port: the API server's port; None for a free one.
        netns: network namespace (below /run/netns) that everything of the control plane runs in; None for the host's.
        service_cidr: range of the ClusterIPs; with a comma, one of each family.
        pod_cidr: range that nodes get their pod ranges from, likewise; None allocates none.
        audit: whether the API server writes an audit log (JSON lines, level Metadata).
        apiserver_args: more arguments for kube-apiserver, after ours.
        controller_manager_args: more arguments for kube-controller-manager, after ours.
        extra_sans: more names and addresses for the API server's certificate.
    """

    address: str = "127.0.0.1"
    port: int | None = None
    netns: str | None = None
    service_cidr: str = "10.96.0.0/16"
    pod_cidr: str | None = None
    audit: bool = False
    apiserver_args: tuple[str, ...] = ()
    controller_manager_args: tuple[str, ...] = ()
    extra_sans: tuple[str, ...] = ()


def start(cluster: Cluster, binaries: Mapping[str, Path], options: ControlPlaneOptions, progress: Progress) -> str:
    """Start a control plane and wait until its API serves and the namespace `default` has its service account.

    Certificates and keys are made below `cluster.pki`; `cluster.kubeconfig` is written, and `server` noted in the
    cluster's facts.

    Args:
        cluster: where to.
        binaries: program name to path.
        options: see there.
        progress: told about it.

    Returns:
        The API server's URL.

    Raises:
        DevclusterError: a program ended or was not ready in time; the text ends with the tail of its log.
    """
    with PortReservation() as ports:
        # In a namespace of its own nothing else listens, so the usual ports are free there.
        etcd_ports = (2379, 2380) if options.netns else (ports.take(), ports.take())
        server = f"https://{options.address}:{options.port or ports.take()}"
        cluster.note_facts({"server": server})
        pki.client_kubeconfig(cluster, server=server, user=ADMIN, groups=["system:masters"], path=cluster.kubeconfig)
        with progress.step("starting etcd and kube-apiserver"):
            processes.start(cluster, "etcd", _etcd(cluster, binaries, etcd_ports), netns=options.netns)
            apiserver = processes.start(
                cluster,
                "kube-apiserver",
                _apiserver(cluster, binaries, options, server, etcd_ports[0]),
                netns=options.netns,
            )
            api = ApiClient(cluster)
            processes.wait_until(
                lambda: api.status("/readyz") == 200,
                cluster=cluster,
                record=apiserver,
                seconds=READY_SECONDS,
                what="become ready",
            )
    with progress.step("starting kube-controller-manager"):
        manager = processes.start(
            cluster,
            "kube-controller-manager",
            _controller_manager(cluster, binaries, options, server),
            netns=options.netns,
        )
        processes.wait_until(
            lambda: api.status("/api/v1/namespaces/default/serviceaccounts/default") == 200,
            cluster=cluster,
            record=manager,
            seconds=READY_SECONDS,
            what="make the service account of namespace default",
        )
    return server


class ApiClient:
    """Asks a cluster's API server as its administrator, for waiting only; everything else goes through kubectl."""

    def __init__(self, cluster: Cluster) -> None:
        """Prepare to ask; nothing is connected yet."""
        server = str(cluster.read_facts()["server"]).removeprefix("https://")
        self._host, _, self._port = server.rpartition(":")
        self._tls = ssl.create_default_context(cafile=str(cluster.pki / "ca.crt"))
        self._tls.load_cert_chain(cluster.pki / f"client-{ADMIN}.crt", cluster.pki / f"client-{ADMIN}.key")

    def status(self, path: str, *, seconds: float = 2.0) -> int | None:
        """GET a path; give the HTTP status, or None where no answer came within so many seconds."""
        connection = http.client.HTTPSConnection(self._host, int(self._port), context=self._tls, timeout=seconds)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def _etcd(cluster: Cluster, binaries: Mapping[str, Path], ports: tuple[int, int]) -> list[str | Path]:
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    return [
        binaries["etcd"],
        f"--name={cluster.name}",
        f"--data-dir={cluster.state_dir / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={cluster.name}={peer}",
        "--quota-backend-bytes=8589934592",
        # The data dies with the cluster, so nothing is gained by waiting for the disk.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver(
    cluster: Cluster, binaries: Mapping[str, Path], options: ControlPlaneOptions, server: str, etcd_port: int
) -> list[str | Path]:
    authority, front_proxy = pki.cluster_authority(cluster), pki.front_proxy_authority(cluster)
    tokens = pki.service_account_keys(cluster)
    service_ips = [str(next(ipaddress.ip_network(cidr).hosts())) for cidr in options.service_cidr.split(",")]
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    sans = [*names, "localhost", "127.0.0.1", options.address, *service_ips, *options.extra_sans]
    serving = authority.server("kube-apiserver", dict.fromkeys(sans))
    # system:masters, because a kubelet asks the API server whether its own client may, before RBAC for it could exist.
    kubelet = authority.client("apiserver-kubelet-client", user="kube-apiserver", groups=["system:masters"])
    proxy = front_proxy.client("front-proxy-client", user="front-proxy-client")
    arguments: list[str | Path] = [
        binaries["kube-apiserver"],
        f"--bind-address={options.address}",
        f"--advertise-address={options.address}",
        f"--secure-port={server.rpartition(':')[2]}",
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority.files.certificate}",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={tokens.certificate}",
        f"--service-account-signing-key-file={tokens.key}",
        f"--service-cluster-ip-range={options.service_cidr}",
        f"--kubelet-certificate-authority={authority.files.certificate}",
        f"--kubelet-client-certificate={kubelet.certificate}",
        f"--kubelet-client-key={kubelet.key}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={front_proxy.files.certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={proxy.certificate}",
        f"--proxy-client-key-file={proxy.key}",
    ]
    if ipaddress.ip_address(options.address).is_loopback:
        # Endpoints must not be loopback addresses; the API server would log a failed attempt every ten seconds.
        arguments.append("--endpoint-reconciler-type=none")
    if options.audit:
        arguments += _audit(cluster)
    return [*arguments, *options.apiserver_args]


def _audit(cluster: Cluster) -> list[str]:
    policy = cluster.state_dir / "audit-policy.yaml"
    content = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],  # the later stages say the same and how it ended
        "rules": [{"level": "Metadata"}],
    }
    write_atomically(policy, yaml.safe_dump(content))
    return [
        f"--audit-policy-file={policy}",
        f"--audit-log-path={cluster.audit_log}",
        "--audit-log-format=json",
        # By default a file is put aside at 100 MB, and whoever reads on from a place in it finds another file.
        "--audit-log-maxsize=4096",
    ]


def _controller_manager(
    cluster: Cluster, binaries: Mapping[str, Path], options: ControlPlaneOptions, server: str
) -> list[str | Path]:
    authority, tokens = pki.cluster_authority(cluster), pki.service_account_keys(cluster)
    kubeconfig = pki.client_kubeconfig(cluster, server=server, user="system:kube-controller-manager")
    arguments: list[str | Path] = [
        binaries["kube-controller-manager"],
        f"--kubeconfig={kubeconfig}",
        "--use-service-account-credentials",
        f"--root-ca-file={authority.files.certificate}",
        f"--service-account-private-key-file={tokens.key}",
        f"--cluster-signing-cert-file={authority.files.certificate}",
        f"--cluster-signing-key-file={authority.files.key}",
        f"--service-cluster-ip-range={options.service_cidr}",
        "--leader-elect=false",
        "--secure-port=0",
        *FAST_CLIENT,
    ]
    if options.pod_cidr:
        arguments += ["--allocate-node-cidrs", f"--cluster-cidr={options.pod_cidr}"]
    return [*arguments, *options.controller_manager_args]
