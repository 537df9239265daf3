"""What is told to Debian's packaging before it installs something."""

from __future__ import annotations

from pathlib import Path

import pytest

from devcluster import packages


def test_a_machine_without_postgresql_is_told_not_to_start_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "CREATECLUSTER", tmp_path / "postgresql-common" / "createcluster.d")

    packages.keep_debian_from_starting_postgresql()

    [decision] = (tmp_path / "postgresql-common" / "createcluster.d").iterdir()
    assert decision.suffix == ".conf", "postgresql-common reads no other names in an include_dir"
    assert "create_main_cluster = false" in decision.read_text().splitlines()


def test_what_somebody_has_decided_about_postgresql_on_this_machine_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "CREATECLUSTER", tmp_path / "createcluster.d")
    (tmp_path / "createcluster.conf").write_text("create_main_cluster = true\n")

    packages.keep_debian_from_starting_postgresql()

    assert not (tmp_path / "createcluster.d").exists()
