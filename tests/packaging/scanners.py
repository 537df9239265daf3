"""The field's scanners, run without a network, and what they find in one form."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.packaging.rendering import Manifest, name_of

KUBERNETES_VERSIONS = ("1.34", "1.36")
"""Versions whose published schemas objects are checked against."""


@dataclass(frozen=True, order=True)
class Finding:
    """One check that one object, or one container file, fails.

    Attributes:
        scanner: who says so.
        check: its identifier there.
        subject: `Kind/name` of the object, or the file's path.
        text: what the scanner says; no part of what the finding is.
    """

    scanner: str
    check: str
    subject: str
    text: str = ""


def write_objects(folder: Path, objects: Iterable[Manifest]) -> dict[Path, str]:
    """Write one file per object, so that a finding's file tells its object. Returns file to `Kind/name`."""
    folder.mkdir(parents=True)
    names = {}
    for item in objects:
        file = folder / f"{item['kind']}_{item['metadata']['name']}.yaml"
        if file.exists():
            raise ValueError(f"two objects called {name_of(item)} in one set")
        file.write_text(yaml.safe_dump(item, sort_keys=False))
        names[file] = name_of(item)
    return names


def run_offline(command: list[str | Path], *, accepted: tuple[int, ...] = (0,)) -> str:
    """Run a program in a network namespace of its own, no interface up: scanners like to fetch checks and to report.

    Args:
        command: program and arguments.
        accepted: exit codes that mean it did its work.

    Returns:
        Its standard output.
    """
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    finished = subprocess.run([*alone, *command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if finished.returncode not in accepted:
        raise RuntimeError(
            f"{command[0]} exited {finished.returncode}:\n{finished.stdout[-2000:]}\n{finished.stderr[-2000:]}"
        )
    return finished.stdout


def trivy(program: Path, folder: Path, cache: Path) -> Iterator[tuple[Path, Finding]]:
    """What the checks embedded in trivy find below a folder: file and finding. It must have looked into each below."""
    options = ["--quiet", "--skip-check-update", "--skip-version-check", "--disable-telemetry", "--format", "json"]
    report = json.loads(run_offline([program, "config", *options, "--cache-dir", cache, folder]))
    results = report.get("Results") or []
    seen = {(folder / result["Target"]).parent for result in results}
    if missed := {file.parent for file in folder.rglob("*") if file.is_file()} - seen:
        raise RuntimeError(f"trivy scanned nothing in {', '.join(map(str, sorted(missed)))}")
    for result in results:
        for failed in result.get("Misconfigurations", []):
            yield folder / result["Target"], Finding("trivy", failed["ID"], "", failed["Message"])


def checkov(program: Path, folder: Path, framework: str) -> Iterator[tuple[Path, Finding]]:
    """What checkov finds in a folder: file and finding. It must have parsed everything.

    Of several folders in one run (3.3.30) each is told again with the next, under a path that does not exist.
    """
    options = ["--quiet", "--compact", "--skip-download", "--output", "json"]
    report: Any = json.loads(
        run_offline([program, "--framework", framework, *options, "--directory", folder], accepted=(0, 1))
    )
    if "results" not in report or report["summary"]["parsing_errors"]:
        raise RuntimeError(f"checkov scanned nothing in {folder}, or could not parse all of it: {report}")
    for failed in report["results"]["failed_checks"]:
        file = folder / failed["file_path"].lstrip("/")
        yield file, Finding("checkov", failed["check_id"], "", failed["check_name"])


def kube_score(program: Path, files: list[Path]) -> Iterator[tuple[Path, Finding]]:
    """What kube-score finds, warnings too: file and finding."""
    optional = (
        "container-seccomp-profile",
        "container-ports-check",
        "container-ephemeral-storage-request-equals-limit",
    )
    options = [part for test in optional for part in ("--enable-optional-test", test)]
    # Exit code 1 says that there is something critical.
    output = run_offline(
        [program, "score", "--kubernetes-version", "v1.34", "--output-format", "json", *options, *files],
        accepted=(0, 1),
    )
    for item in json.loads(output):
        for check in item["checks"]:
            if check["grade"] < 10 and not check["skipped"]:
                text = "; ".join(comment["summary"] for comment in check["comments"] or [])
                yield Path(item["file_name"]), Finding("kube-score", check["check"]["id"], "", text)


def schema(objects: Iterable[Manifest]) -> Iterator[Finding]:
    """What the published schemas of Kubernetes' own kinds refuse, unknown fields too. Ours is the CRD's to judge."""
    for item in objects:
        if item["apiVersion"].startswith("bulkhead.dev/"):
            continue
        for version in KUBERNETES_VERSIONS:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield Finding("kubernetes-validate", version, name_of(item), f"{list(error.path)}: {error.message}")
