from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from manifests import render as renderer
from tests.packaging.rendering import load, name_of, of_kind


def test_the_install_manifest_is_what_the_chart_gives(helm: Path) -> None:
    assert renderer.INSTALL.read_text() == renderer.install_manifest(helm)


def test_the_policy_manifest_is_the_charts_policy_and_needs_no_helm(helm: Path) -> None:
    assert renderer.POLICY.read_text() == renderer.policy_manifest(helm)
    (policy,) = load(renderer.POLICY.read_text())
    assert name_of(policy) == "SandboxPolicy/default"
    assert not [key for key in policy["metadata"]["annotations"] if key.startswith(("helm.sh/hook", "meta.helm.sh"))]
    assert of_kind(load(renderer.INSTALL.read_text()), "SandboxPolicy") == []


def test_the_chart_carries_the_generated_definitions(helm: Path) -> None:
    generated = {
        name_of(item): item["spec"] for path in (renderer.ROOT / "crds").iterdir() for item in load(path.read_text())
    }
    installed = of_kind(load(renderer.install_manifest(helm)), "CustomResourceDefinition")
    assert {name_of(item): item["spec"] for item in installed} == generated


def test_the_namespace_comes_first_and_enforces_the_restricted_standard_of_a_fixed_version() -> None:
    first, *others = yaml.safe_load_all(renderer.INSTALL.read_text())
    assert name_of(first) == "Namespace/bulkhead-system"
    labels = first["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert labels["pod-security.kubernetes.io/enforce-version"] == "v1.34"
    assert "Namespace" not in {item["kind"] for item in others}


def test_nothing_in_the_install_manifest_claims_to_be_managed_by_helm() -> None:
    assert "managed-by: Helm" not in renderer.INSTALL.read_text() + renderer.POLICY.read_text()


def test_a_manifest_that_is_not_current_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, helm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(renderer, "ROOT", tmp_path)
    monkeypatch.setattr(renderer, "INSTALL", tmp_path / "install.yaml")
    monkeypatch.setattr(renderer, "POLICY", tmp_path / "policy.yaml")
    assert renderer.main(["--check"]) == 1
    assert "install.yaml is not current: run `python -m manifests.render`" in capsys.readouterr().err
    assert renderer.main([]) == 0
    assert renderer.main(["--check"]) == 0
    (tmp_path / "install.yaml").write_text("# edited\n")
    assert renderer.main(["--check"]) == 1
