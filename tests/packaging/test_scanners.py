from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.render import ROOT
from tests.packaging import scanners
from tests.packaging.rendering import Manifest, the
from tests.packaging.scanners import Finding
from tests.packaging.subjects import sets

EXCEPTIONS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "exceptions.yaml").read_text())
CONTAINERFILES = ("Containerfile", "demo/agent/Containerfile")
SETS = ("chart", "chart-everything", "install", "examples", "demo")


def is_excepted(finding: Finding, exception: dict[str, Any]) -> bool:
    return (
        (finding.scanner, finding.check) == (exception["scanner"], exception["check"])
        and finding.subject in exception["subjects"]
        and exception.get("says", finding.text) == finding.text
    )


def unexpected(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(found for found in findings if not any(is_excepted(found, each) for each in EXCEPTIONS))


def weaken(objects: list[Manifest], kind: str, change: Any) -> list[Manifest]:
    """The objects with one of them changed for the worse."""
    weakened = copy.deepcopy(objects)
    change(the(weakened, kind))
    return weakened


def run_as_root(deployment: Manifest) -> None:
    """Weaken what every scanner looks at."""
    pod = deployment["spec"]["template"]["spec"]
    pod["hostNetwork"] = True
    pod["containers"][0]["securityContext"] = {"privileged": True, "runAsUser": 0}
    pod["containers"][0]["colour"] = "red"


def unlimited(deployment: Manifest) -> None:
    """Weaken what fails a check that has an exception, for another reason than that."""
    del deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]


WEAKENED = {"weaker": run_as_root, "unlimited": unlimited}


@pytest.fixture(scope="module")
def scanned(
    tmp_path_factory: pytest.TempPathFactory,
    scan_programs: Path,
    kube_score: Path,
    helm: Path,
    default_objects: list[Manifest],
) -> dict[str, list[Finding]]:
    """Findings by set: what users get, the container files, and what was weakened."""
    home = tmp_path_factory.mktemp("scan")
    weakened = {name: weaken(default_objects, "Deployment", change) for name, change in WEAKENED.items()}
    objects = sets(helm) | weakened
    subjects = {name: scanners.write_objects(home / "sets" / name, each) for name, each in objects.items()}
    container_files = copied(CONTAINERFILES, home / "sets")
    program = scan_programs / "checkov"  # the others take all sets at once, or no time to start
    found = [
        *scanners.trivy(scan_programs / "trivy", home / "sets", home / "cache"),
        *(one for name in objects for one in scanners.checkov(program, home / "sets" / name, "kubernetes")),
        *(one for file in container_files for one in scanners.checkov(program, file.parent, "dockerfile")),
        *(one for files in subjects.values() for one in scanners.kube_score(kube_score, sorted(files))),
    ]
    by_set: dict[str, list[Finding]] = {name: list(scanners.schema(each)) for name, each in objects.items()}
    by_set |= {path: [] for path in CONTAINERFILES}
    named = {file: (name, subject) for name, files in subjects.items() for file, subject in files.items()}
    named |= {file: (path, path) for file, path in container_files.items()}
    for file, finding in found:
        name, subject = named[file]
        by_set[name].append(dataclasses.replace(finding, subject=subject))
    return by_set


def copied(paths: Iterable[str], home: Path) -> dict[Path, str]:
    """Copies container files to where scanners know what they are; gives the copies, with what each is of."""
    copies = {}
    for path in paths:
        copy_of = home / "containerfiles" / path / "Dockerfile"  # the name by which both know it
        copy_of.parent.mkdir(parents=True)
        shutil.copy(ROOT / path, copy_of)
        copies[copy_of] = path
    return copies


@pytest.fixture(scope="module")
def findings(scanned: dict[str, list[Finding]]) -> dict[str, list[Finding]]:
    """Findings in what users get, by set."""
    return {name: found for name, found in scanned.items() if name not in WEAKENED}


@pytest.mark.parametrize("name", [*SETS, *CONTAINERFILES])
def test_scanners_find_nothing_but_what_is_argued(findings: dict[str, list[Finding]], name: str) -> None:
    assert unexpected(findings[name]) == []


def test_everything_scanned_is_listed_here(findings: dict[str, list[Finding]]) -> None:
    assert set(findings) == {*SETS, *CONTAINERFILES}


@pytest.mark.parametrize("exception", EXCEPTIONS, ids=lambda each: f"{each['scanner']} {each['check']}")
def test_every_exception_is_argued_and_still_needed_for_each_of_its_subjects(
    findings: dict[str, list[Finding]], exception: dict[str, Any]
) -> None:
    assert len(exception["why"]) > 60
    everything = [finding for found in findings.values() for finding in found]
    met = {finding.subject for finding in everything if is_excepted(finding, exception)}
    assert met == set(exception["subjects"])


def test_each_scanner_would_see_a_weaker_pod(scanned: dict[str, list[Finding]]) -> None:
    found = unexpected(scanned["weaker"])
    assert {finding.scanner for finding in found} == {"trivy", "checkov", "kube-score", "kubernetes-validate"}
    assert {finding.subject for finding in found} == {"Deployment/bulkhead"}


def test_an_exception_for_one_text_does_not_cover_another_of_the_same_check(scanned: dict[str, list[Finding]]) -> None:
    found = unexpected(scanned["unlimited"])
    assert ("kube-score", "container-resources") in {(finding.scanner, finding.check) for finding in found}
