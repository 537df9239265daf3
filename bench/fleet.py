"""The stop of one agent among thousands, and of thousands: `python -m bench.fleet`.

Tier `scale`: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and kwok for the nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from bench import process, report
from bench.figures import Figure
from bench.image import ImageOperator
from bench.site import Site, open_site
from bench.stops import NAMESPACES, FleetBench, spec_of, tenant_of
from devcluster.progress import Progress
from tests.operator_process import OperatorProcess

PARTS = ("idle", "loaded", "tenant", "all", "bare")


@contextmanager
def _operator(site: Site, folder: Path) -> Iterator[OperatorProcess]:
    operator = ImageOperator(site.kubeconfig, folder)
    try:
        yield operator
    finally:
        operator.terminate()


async def run(args: argparse.Namespace, folder: Path, figures: list[Figure]) -> None:
    """Brings everything up, measures, and takes everything down; what goes wrong takes nothing from the figures."""
    progress = Progress()
    with tempfile.TemporaryDirectory() as bytecode:
        process.with_bytecode(Path(bytecode))
        extra: Sequence[str] = tuple(args.apiserver_arg)
        async with open_site(namespaces=NAMESPACES, tier="scale", apiserver_args=extra) as site:
            site.spec = spec_of
            with _operator(site, folder) as operator:
                await process.start(site, operator)
                bench = FleetBench(
                    site,
                    operator,
                    agents=args.agents,
                    tries=args.tries,
                    rate=args.rate,
                    rounds=args.rounds,
                    progress=progress,
                    figures=figures,
                )
                with progress.step(f"{args.agents} agents are made in {NAMESPACES} namespaces"):
                    await bench.build()
                await _parts(bench, args, folder, progress)


async def _parts(bench: FleetBench, args: argparse.Namespace, folder: Path, progress: Progress) -> None:
    if "idle" in args.only:
        with progress.step(f"{args.tries} suspensions, idle"):
            await bench.idle()
    if "loaded" in args.only:
        with progress.step(f"{args.tries} suspensions under {args.rate} pod events a second"):
            await bench.loaded(folder)
    if "tenant" in args.only:
        share = sum(tenant_of(number) == "tenant-0" for number in range(args.agents))
        await bench.switch("a tenant", {"tenants": ["tenant-0"]}, share, goal=2.0, polite=args.give_way)
    if "all" in args.only:
        await bench.switch(
            "all",
            {"all": True},
            args.agents,
            goal=6.0,
            polite=args.give_way,
            profile=args.profile,
            resumed="bare" in args.only,
        )
    if "bare" in args.only:
        with progress.step("the same by a bare client"):
            await bench.bare(polite=args.give_way)


def main(argv: list[str] | None = None) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        prog="bench.fleet", description="The stop of one agent among thousands, and of all."
    )
    parser.add_argument("--agents", type=int, default=5000, help="how many are present (%(default)s)")
    parser.add_argument("--tries", type=int, default=200, help="single suspensions (%(default)s)")
    parser.add_argument("--rate", type=int, default=500, help="pod events a second, under load (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="of each kill switch (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    parser.add_argument(
        "--give-way", action="store_true", help="controllers and simulated kubelets give way to kill switches"
    )
    parser.add_argument("--apiserver-arg", action="append", default=[], help="one more argument for kube-apiserver")
    parser.add_argument("--profile", type=Path, help="write a CPU profile of the API server while all are stopped here")
    parser.add_argument("--json", type=Path, help="write all figures here, too")
    parser.add_argument("--log", type=Path, help="folder for the operator's log; a temporary one by default")
    args = parser.parse_args(argv)
    figures: list[Figure] = []
    try:
        with tempfile.TemporaryDirectory() as scratch:
            asyncio.run(run(args, args.log or Path(scratch), figures))
    finally:
        report.show(figures, Console(width=report.WIDTH))
        if args.json is not None:
            report.write(figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
