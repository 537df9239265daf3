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


class Scan:
    """Scans sets of objects in a folder of its own."""

    def __init__(self, folder: Path, programs: Path, kube_score: Path) -> None:
        self.folder, self.programs, self.kube_score = folder, programs, kube_score

    def objects(self, name: str, objects: list[Manifest]) -> list[Finding]:
        folder = self.folder / name
        subjects = scanners.write_objects(folder, objects)
        found = [
            *scanners.trivy(self.programs / "trivy", folder, self.folder / "cache"),
            *scanners.checkov(self.programs / "checkov", folder, "kubernetes"),
            *scanners.kube_score(self.kube_score, sorted(folder.iterdir())),
        ]
        named = [dataclasses.replace(finding, subject=subjects[file]) for file, finding in found]
        return [*named, *scanners.schema(objects)]

    def containerfile(self, path: str) -> list[Finding]:
        folder = self.folder / "containerfiles" / path
        folder.mkdir(parents=True)
        shutil.copy(ROOT / path, folder / "Dockerfile")  # the name by which both know what it is
        found = [
            *scanners.trivy(self.programs / "trivy", folder, self.folder / "cache"),
            *scanners.checkov(self.programs / "checkov", folder, "dockerfile"),
        ]
        return [dataclasses.replace(finding, subject=path) for _, finding in found]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory, scan_programs: Path, kube_score: Path) -> Scan:
    return Scan(tmp_path_factory.mktemp("scan"), scan_programs, kube_score)


@pytest.fixture(scope="module")
def findings(scan: Scan, helm: Path) -> dict[str, list[Finding]]:
    """Findings by set, container files included."""
    found = {name: scan.objects(name, objects) for name, objects in sets(helm).items()}
    return found | {path: scan.containerfile(path) for path in CONTAINERFILES}


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


def weaken(objects: list[Manifest], kind: str, change: Any) -> list[Manifest]:
    """The objects with one of them changed for the worse."""
    weakened = copy.deepcopy(objects)
    change(the(weakened, kind))
    return weakened


def test_each_scanner_would_see_a_weaker_pod(scan: Scan, default_objects: list[Manifest]) -> None:
    def run_as_root(deployment: Manifest) -> None:
        pod = deployment["spec"]["template"]["spec"]
        pod["hostNetwork"] = True
        pod["containers"][0]["securityContext"] = {"privileged": True, "runAsUser": 0}
        pod["containers"][0]["colour"] = "red"

    found = unexpected(scan.objects("weaker", weaken(default_objects, "Deployment", run_as_root)))
    assert {finding.scanner for finding in found} == {"trivy", "checkov", "kube-score", "kubernetes-validate"}
    assert {finding.subject for finding in found} == {"Deployment/bulkhead"}


def test_an_exception_for_one_text_does_not_cover_another_of_the_same_check(
    scan: Scan, default_objects: list[Manifest]
) -> None:
    def unlimited(deployment: Manifest) -> None:
        del deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]

    found = unexpected(scan.objects("unlimited", weaken(default_objects, "Deployment", unlimited)))
    assert ("kube-score", "container-resources") in {(finding.scanner, finding.check) for finding in found}
