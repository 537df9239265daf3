"""Debian packages that each tier needs, and putting them in place."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.progress import Progress

PACKAGES: dict[str, tuple[str, ...]] = {
    # The API server tiers need nothing but Go and the programs built with it.
    "apiserver": (),
    "scale": (),
    "cluster": (
        *("iproute2", "util-linux"),  # namespaces
        *("iptables", "nftables", "ipset", "conntrack"),  # Cilium and kube-proxy
        *("gcc", "libc6-dev", "libseccomp-dev", "pkg-config"),  # building runc
        *("clang-19", "llvm-19", "bpftool"),  # Cilium compiles its packet programs
        *("mmdebstrap", "buildah"),  # images without a registry
        *("postgresql-15", "postgresql-client-15"),  # production
    ),
}
"""Tier to packages."""

CREATECLUSTER = Path("/etc/postgresql-common/createcluster.d")
"""Where postgresql-common looks for what it is to do when a version of PostgreSQL is installed."""


def missing(packages: Iterable[str]) -> list[str]:
    """Those of the packages that dpkg does not have installed, in the order given."""
    wanted = list(dict.fromkeys(packages))
    if not wanted:
        return []
    listing = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,  # exits 1 when it does not know one of them, which is the question asked
    ).stdout
    installed = {line.split()[0] for line in listing.splitlines() if line.endswith(" installed")}
    return [name for name in wanted if name not in installed]


def ensure(packages: Iterable[str], *, progress: Progress) -> None:
    """Install what is missing, as root; otherwise say what is.

    Raises:
        DevclusterError: something is missing and cannot be installed.
    """
    absent = missing(packages)
    if not absent:
        return
    if os.geteuid() != 0:
        raise DevclusterError(
            f"Debian packages are missing and only root can install them: apt-get install {' '.join(absent)}"
        )
    if any(name.startswith("postgresql") for name in absent):
        keep_debian_from_starting_postgresql()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with progress.step(f"installing Debian packages: {' '.join(absent)}"):
        _apt(["update"], environment)
        _apt(["install", "--yes", "--no-install-recommends", *absent], environment)


def keep_debian_from_starting_postgresql() -> None:
    """Tell Debian's packaging not to make and start a database of its own: the devcluster needs the programs alone.

    See pg_createcluster(1) and createcluster.conf in postgresql-common. What somebody has decided there stays.
    """
    decision = CREATECLUSTER / "bulkhead-devcluster.conf"
    if not (CREATECLUSTER.parent / "createcluster.conf").exists() and not decision.exists():
        decision.parent.mkdir(parents=True, exist_ok=True)
        decision.write_text(
            "# Written by the Bulkhead devcluster, which needs the programs alone.\ncreate_main_cluster = false\n"
        )


def _apt(arguments: list[str], environment: dict[str, str]) -> None:
    finished = subprocess.run(
        ["apt-get", "--quiet", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if finished.returncode != 0:
        tail = "\n".join((finished.stdout + finished.stderr).splitlines()[-15:])
        raise DevclusterError(f"apt-get {arguments[0]} failed with exit code {finished.returncode}:\n{tail}")
