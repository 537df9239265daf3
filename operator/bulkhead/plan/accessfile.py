"""Writes what no agent may do on the Kubernetes API to the file that the chart's admission policies are rendered from.

`python -m bulkhead.plan.accessfile [--check]`, in the repository's root. For developers only; the operator never
imports it.
"""

import sys
from pathlib import Path
from typing import Final

import yaml

from bulkhead.api import generated
from bulkhead.plan.accessfloor import FLOOR, VERBS
from bulkhead.plan.identityceilings import API_AUDIENCES

HEADER: Final = (
    "# Generated from operator/bulkhead/plan/accessfloor.py and identityceilings.py by\n"
    "# `python -m bulkhead.plan.accessfile`. Do not edit. Verbs that an agent may have; what it never gets, any of\n"
    "# the groups with any of the resources and any of the verbs; audiences of the API server's own tokens.\n"
)


def text() -> str:
    """Returns the text of the file: the verbs that may be asked for, and the products and audiences that may not."""
    closed = [
        {
            "groups": list(entry.groups),
            "resources": list(entry.resources),
            "verbs": list(entry.verbs),
            "why": entry.why,
            "accepted": entry.accepted,
        }
        for entry in FLOOR
    ]
    content = {"verbs": list(VERBS), "closed": closed, "audiences": list(API_AUDIENCES)}
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=120)


def files(root: Path) -> dict[Path, str]:
    """Returns the file's path below the root of the repository, and its text."""
    return {root / "charts" / "bulkhead" / "files" / "access.yaml": text()}


def main(arguments: list[str] | None = None) -> int:
    """Writes what is generated here, or with `--check` only says what is not current. Returns the exit code."""
    return generated.run("bulkhead.plan.accessfile", files, arguments)


if __name__ == "__main__":
    sys.exit(main())
