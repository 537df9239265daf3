"""The table of what is built from Go modules: names, versions, packages and flags.

Most programs of a cluster use the same libraries, and with a go.mod each they used them in as many versions: of Helm's
943 packages 656 are Kubernetes' too, and 92 of them were the same. They have one go.mod now, `modules/cluster`, so that
Go compiles a library once (Helm in 16 s and not in 217). What does not compile with its neighbours' versions has its
own: Cilium and kube-score are too old for them, and etcd too old for CoreDNS'.

To raise a version: change it here and in the go.mod, and complete that with `go mod tidy` (for modules whose go.mod has
no `tool` lines: `GOFLAGS=-mod=mod go build -o /dev/null PACKAGE`). Builds themselves run with `-mod=readonly`: go.mod
and go.sum are the lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.paths import MODULES

KUBERNETES_VERSION = "1.36.3"


@dataclass(frozen=True)
class Program:
    """One executable of a component.

    Attributes:
        name: file name of the executable.
        package: Go package with its main function.
        version_args: arguments that make it print its version and exit; None where it cannot, then a ready one on
            PATH is never used.
    """

    name: str
    package: str
    version_args: tuple[str, ...] | None = ("--version",)


@dataclass(frozen=True)
class Component:
    """What is built, cached and replaced as one.

    Attributes:
        name: how people name it: `devcluster build NAME`.
        version: without a leading v; what its programs must report.
        module: folder below devcluster/modules with go.mod and go.sum (and, for programs of our own, their source).
        programs: the executables.
        tags: Go build tags.
        ldflags: linker flags besides `-s -w`.
        cgo: whether C code is compiled (needs a compiler and headers).
        module_files: folder of a Go module to copy beside the programs, as (module path, folder in it, name here);
            Cilium's BPF sources are such.
    """

    name: str
    version: str
    module: str
    programs: tuple[Program, ...]
    tags: tuple[str, ...] = ()
    ldflags: tuple[str, ...] = ()
    cgo: bool = False
    module_files: tuple[tuple[str, str, str], ...] = ()

    @property
    def module_dir(self) -> Path:
        """The folder that pins what is built."""
        return MODULES / self.module


# Unset, the programs call themselves v0.0.0-master and version parsers of clients trip over it.
_KUBERNETES_LDFLAGS = tuple(
    f"-X {package}.{variable}={value}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for variable, value in (("gitVersion", f"v{KUBERNETES_VERSION}"), ("gitMajor", "1"), ("gitMinor", "36"))
)


def _kubernetes(name: str, version_args: tuple[str, ...] = ("--version",)) -> Component:
    return Component(
        name=name,
        version=KUBERNETES_VERSION,
        module="cluster",
        programs=(Program(name, f"k8s.io/kubernetes/cmd/{name}", version_args),),
        ldflags=_KUBERNETES_LDFLAGS,
    )


COMPONENTS: tuple[Component, ...] = (
    Component(name="etcd", version="3.6.8", module="cluster", programs=(Program("etcd", "go.etcd.io/etcd/server/v3"),)),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kubectl", ("version", "--client")),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Component(
        name="helm",
        version="4.3.1",
        module="cluster",
        programs=(Program("helm", "helm.sh/helm/v4/cmd/helm", ("version", "--short")),),
        ldflags=("-X helm.sh/helm/v4/internal/version.version=v4.3.1",),
    ),
    Component(
        name="kwok",
        version="0.8.0",
        module="cluster",
        programs=(Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),),
        ldflags=("-X sigs.k8s.io/kwok/pkg/consts.Version=v0.8.0",),
    ),
    Component(
        name="containerd",
        version="2.2.7",
        module="cluster",
        programs=(
            Program("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
            Program(
                "containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", ("-v",)
            ),
            Program("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ),
        ldflags=("-X github.com/containerd/containerd/v2/version.Version=2.2.7",),
    ),
    # Debian 12's runc is too old for pods with a user namespace of their own. Seccomp needs libseccomp, hence C.
    Component(
        name="runc",
        version="1.5.2",
        module="runc",
        programs=(Program("runc", "github.com/opencontainers/runc"),),
        tags=("seccomp",),
        cgo=True,
    ),
    # The agent compiles its packet programs when it starts, from the sources in the module's folder bpf.
    Component(
        name="cilium",
        version="1.15.19",
        module="cilium",
        programs=(
            Program("cilium-agent", "github.com/cilium/cilium/daemon"),
            Program("cilium-operator", "github.com/cilium/cilium/operator", None),
            Program("cilium-cni", "github.com/cilium/cilium/plugins/cilium-cni", None),
        ),
        tags=("osusergo", "ipam_provider_operator"),
        ldflags=("-X github.com/cilium/cilium/pkg/version.ciliumVersion=1.15.19",),
        module_files=(("github.com/cilium/cilium", "bpf", "bpf"),),
    ),
    Component(
        name="local-path-provisioner",
        version="0.0.30",
        module="cluster",
        programs=(Program("local-path-provisioner", "github.com/rancher/local-path-provisioner"),),
        ldflags=("-X main.VERSION=v0.0.30",),
    ),
    Component(name="pause", version="1.0.0", module="pause", programs=(Program("pause", ".", None),)),
    # Not part of any tier: `dns.install` builds it. Nothing that `make demo` needs.
    Component(name="coredns", version="1.15.0", module="coredns", programs=(Program("coredns", ".", ("-version",)),)),
    # Not part of any tier: tests of credentials start it, on loopback or in a pod. It takes three minutes.
    Component(name="vault", version="1.21.4", module="vault", programs=(Program("vault", ".", None),)),
    # Not part of any tier: definitions of the network policy kinds that only some clusters serve, for tests that do.
    Component(
        name="policy-kinds",
        version="1.0.0",
        module="policy-kinds",
        programs=(),
        module_files=(
            ("github.com/cilium/cilium", "pkg/k8s/apis/cilium.io/client/crds/v2", "cilium"),
            ("sigs.k8s.io/network-policy-api", "config/crd/standard", "network-policy-api"),
        ),
    ),
    # Not part of any tier: the checks of the rendered manifests build it.
    Component(
        name="kube-score",
        version="1.20.0",
        module="kube-score",
        programs=(Program("kube-score", "github.com/zegl/kube-score/cmd/kube-score", ("version",)),),
        ldflags=("-X main.version=1.20.0",),
    ),
    # Not part of any tier: a second opinion on what the operator's NetworkPolicies let through. Its test builds it.
    Component(
        name="cyclonus",
        version="0.5.6",
        module="cluster",
        programs=(Program("cyclonus", "github.com/mattfenwick/cyclonus/cmd/cyclonus", ("version",)),),
        ldflags=("-X github.com/mattfenwick/cyclonus/pkg/cli.version=v0.5.6",),
    ),
)


def component(name: str) -> Component:
    """Give a component by its name.

    Raises:
        DevclusterError: there is none of that name; the text names those there are.
    """
    for candidate in COMPONENTS:
        if candidate.name == name:
            return candidate
    raise DevclusterError(f"no component {name!r}; there are: {', '.join(c.name for c in COMPONENTS)}")


def owner_of(program: str) -> Component:
    """Give the component that contains a program.

    Raises:
        DevclusterError: no component contains it.
    """
    for candidate in COMPONENTS:
        if any(p.name == program for p in candidate.programs):
            return candidate
    raise DevclusterError(f"no component contains a program {program!r}")
