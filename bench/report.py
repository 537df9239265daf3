"""The figures as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.figures import Figure

WIDTH = 120
"""Columns of the table, on a terminal and in a file alike."""


def machine() -> str:
    """Says what it was measured on."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def number(value: float, unit: str) -> str:
    """Writes a value with the digits that mean something."""
    digits = {"x": 2, "s": 2, "ms": 1, "MB": 1, "%": 2}[unit]
    return f"{value:.{digits}f}"


def show(figures: Sequence[Figure], console: Console) -> None:
    """Prints the table."""
    table = Table(caption=machine(), caption_justify="left")
    for title in ("figure", "median", "rounds", "goal", ""):
        table.add_column(title, justify="left" if title == "figure" else "right", no_wrap=title != "figure")
    group = ""
    for one in figures:
        if one.group != group:
            group = one.group
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        spread = one.spread
        verdict = {None: "", True: "[green]met[/green]", False: "[red]missed[/red]"}[one.met]
        table.add_row(
            f"  {one.name}",
            f"{number(spread.median, one.unit)} {one.unit}",
            f"{number(spread.least, one.unit)} … {number(spread.most, one.unit)}",
            "" if one.goal is None else f"≤ {number(one.goal, one.unit)}",
            verdict,
        )
    console.print(table)


def write(figures: Sequence[Figure], path: Path) -> None:
    """Writes everything that was measured, and on what."""
    content = {"machine": machine(), "figures": [asdict(one) for one in figures]}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
