"""Writes the floor to the file that the chart's admission policies are rendered from.

`python -m bulkhead.api.floorfile [--check]`, in the repository's root. For developers only; the operator never imports
it.
"""

import sys
from pathlib import Path
from typing import Final

import yaml

from bulkhead.api import generated
from bulkhead.api.floor import FLOOR

HEADER: Final = (
    "# Generated from operator/bulkhead/api/floor.py by `python -m bulkhead.api.floorfile`. Do not edit.\n"
    "# What can be opened, a policy may open in part (network.openSharedAddressSpace); the rest stays closed.\n"
)


def text() -> str:
    """Returns the text of the file: the networks that stay closed, and those of which policies may open parts."""
    content = {
        name: [{"cidr": entry.cidr, "what": entry.what} for entry in FLOOR if entry.openable is openable]
        for name, openable in (("closed", False), ("openable", True))
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=120)


def files(root: Path) -> dict[Path, str]:
    """Returns the file's path below the root of the repository, and its text."""
    return {root / "charts" / "bulkhead" / "files" / "floor.yaml": text()}


def main(arguments: list[str] | None = None) -> int:
    """Writes what is generated here, or with `--check` only says what is not current. Returns the exit code."""
    return generated.run("bulkhead.api.floorfile", files, arguments)


if __name__ == "__main__":
    sys.exit(main())
