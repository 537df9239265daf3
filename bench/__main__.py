"""Entry point: `python -m bench`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from bench import report
from bench.run import PARTS, Plan, run


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the table, and says by the exit code whether every goal was met."""
    parser = argparse.ArgumentParser(prog="bench", description="Speed and size of the operator on a real API server.")
    parser.add_argument("--agents", type=int, default=500, help="how many are present (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement; medians are shown (%(default)s)")
    parser.add_argument("--tries", type=int, default=200, help="of each round of apply and suspend (%(default)s)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds for the CPU at idle (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    parser.add_argument("--json", type=Path, help="write all figures here, too")
    parser.add_argument("--log", type=Path, help="folder for the operator's log; a temporary one by default")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a goal is missed")
    args = parser.parse_args(argv)
    plan = Plan(agents=args.agents, rounds=args.rounds, tries=args.tries, idle=args.idle, parts=frozenset(args.only))
    with tempfile.TemporaryDirectory() as scratch:
        figures = asyncio.run(run(plan, folder=args.log or Path(scratch)))
    report.show(figures, Console(width=report.WIDTH))
    if args.json is not None:
        report.write(figures, args.json)
    return 1 if args.check and any(one.met is False for one in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
