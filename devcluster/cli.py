"""The command line: `python -m devcluster up|down|status|build|kubectl|kubeconfig|load`.

Progress goes to standard error; standard output carries results only, so `export KUBECONFIG=$(python -m devcluster
up)` works.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from devcluster import api, lifecycle, packages, tiers
from devcluster.build import Binaries
from devcluster.components import COMPONENTS
from devcluster.errors import DevclusterError
from devcluster.options import Options
from devcluster.paths import Cluster, known_clusters
from devcluster.progress import Progress


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        Exit code: 0, or 1 when it could not be done (the reason is on standard error), or 130 when interrupted.
    """
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments, Progress()))
    except DevclusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("devcluster: interrupted", file=sys.stderr)
        return 130


def _up(arguments: argparse.Namespace, progress: Progress) -> int:
    cluster = Cluster.named(arguments.name or arguments.tier, tier=arguments.tier)
    options = Options(audit=arguments.audit, apiserver_args=tuple(arguments.apiserver_arg), nodes=arguments.nodes)
    lifecycle.up(cluster, options, binaries=_binaries(arguments, progress), progress=progress)
    print(cluster.kubeconfig)
    return 0


def _down(arguments: argparse.Namespace, progress: Progress) -> int:
    if arguments.all:
        lifecycle.down_all(progress=progress)
    elif arguments.name:
        # A name nobody knows is fine: the state folder may be gone while processes are not, and down is idempotent.
        lifecycle.down(Cluster.named(arguments.name, tier=""), progress=progress)
    elif known_clusters():
        lifecycle.down(lifecycle.choose(None), progress=progress)
    return 0


def _status(arguments: argparse.Namespace, progress: Progress) -> int:
    clusters = [lifecycle.choose(arguments.name)] if arguments.name else known_clusters()
    if not clusters:
        progress.say("no clusters")
    for cluster in clusters:
        found = lifecycle.status(cluster)
        print(f"{cluster.name}  tier {cluster.tier or 'unknown'}  {found.state}  {found.server}  {cluster.kubeconfig}")
        print(f"  running: {', '.join(found.running) or 'nothing'}")
        if found.dead:
            print(f"  not running: {', '.join(found.dead)} (logs in {cluster.logs})")
    return 0


def _build(arguments: argparse.Namespace, progress: Progress) -> int:
    names = list(arguments.component)
    chosen = [arguments.tier] if arguments.tier else []
    if not names and not chosen:
        names, chosen = [component.name for component in COMPONENTS], list(tiers.NAMES)
    for tier in map(tiers.tier, chosen):
        packages.ensure(tier.packages, progress=progress)
        names += tier.components
    programs = _binaries(arguments, progress).all(dict.fromkeys(names))
    for path in programs.values():
        print(path)
    return 0


def _kubectl(arguments: argparse.Namespace, _: Progress) -> int:
    cluster = api.find(arguments.name)
    kubectl = cluster.binary("kubectl")
    rest = arguments.arguments[1:] if arguments.arguments[:1] == ["--"] else arguments.arguments
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    # In our place, so that its exit code, signals and terminal are its own.
    os.execve(kubectl, [str(kubectl), *rest], environment)  # noqa: S606 - an argument vector, no shell wanted


def _kubeconfig(arguments: argparse.Namespace, _: Progress) -> int:
    print(api.find(arguments.name).kubeconfig)
    return 0


def _load(arguments: argparse.Namespace, progress: Progress) -> int:
    cluster = api.find(arguments.name)
    if cluster.tier != "cluster":
        raise DevclusterError(
            f"cluster {cluster.name} is of tier {cluster.tier}, which runs no containers: images load into tier cluster"
        )
    from devcluster import images  # only here: the other tiers do without what it imports

    for archive in arguments.archive:
        with progress.step(f"loading {archive}"):
            images.load(cluster, archive)
    return 0


def _binaries(arguments: argparse.Namespace, progress: Progress) -> Binaries:
    binaries = Binaries(progress=progress)
    if arguments.binaries:
        binaries.ready = arguments.binaries.absolute()
    return binaries


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="devcluster", description="A real Kubernetes for development and tests.")
    parser.add_argument(
        "--binaries",
        type=Path,
        metavar="DIR",
        help="folder of ready programs to use instead of building ($BULKHEAD_BINARIES)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str, *, named: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        if named:
            added.add_argument("--name", help="the cluster's name; may be left out where there is only one")
        return added

    up = command("up", _up, "Bring a cluster up and print the path of its kubeconfig.", named=False)
    up.add_argument("--name", help="its name; the tier's by default")
    tier_help = "; ".join(f"{name}: {tiers.describe(name)}" for name in tiers.NAMES)
    up.add_argument("--tier", choices=tiers.NAMES, default="apiserver", help=f"{tier_help} (default: apiserver)")
    up.add_argument("--audit", action="store_true", help="let the API server write an audit log, logs/audit.jsonl")
    up.add_argument(
        "--apiserver-arg", action="append", default=[], metavar="ARG", help="one more argument for kube-apiserver"
    )
    up.add_argument("--nodes", type=int, default=50, help="simulated nodes of tier scale (default: 50)")
    down = command("down", _down, "Take a cluster down and leave nothing of it.")
    down.add_argument("--all", action="store_true", help="every cluster")
    command("status", _status, "Say which clusters there are and how they are.")
    build = command("build", _build, "Build programs into the cache and print their paths.", named=False)
    build.add_argument("component", nargs="*", help=f"one of: {', '.join(c.name for c in COMPONENTS)} (default: all)")
    build.add_argument("--tier", choices=tiers.NAMES, help="all that a tier needs, Debian packages included")
    kubectl = command("kubectl", _kubectl, "Run kubectl as the cluster's administrator.")
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER, metavar="-- ARGS", help="arguments of kubectl")
    command("kubeconfig", _kubeconfig, "Print the path of the administrator's kubeconfig.")
    load = command("load", _load, "Import OCI archives into the cluster's container runtime.")
    load.add_argument("archive", nargs="+", type=Path)
    return parser
