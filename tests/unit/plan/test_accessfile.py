"""What no agent may do, as a file of the chart: current, whole, and written only when asked to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bulkhead.plan import accessfile
from bulkhead.plan.accessfloor import FLOOR, VERBS
from bulkhead.plan.identityceilings import API_AUDIENCES

REPOSITORY = Path(__file__).parents[3]


def test_the_charts_file_is_current() -> None:
    assert accessfile.main(["--check", f"--root={REPOSITORY}"]) == 0


def test_the_whole_floor_is_in_the_file() -> None:
    content = yaml.safe_load(accessfile.text())
    assert (content["verbs"], content["audiences"]) == (list(VERBS), list(API_AUDIENCES))
    assert [tuple(one["resources"]) for one in content["closed"]] == [entry.resources for entry in FLOOR]
    assert all(one.keys() == {"groups", "resources", "verbs", "why", "accepted"} for one in content["closed"])


def test_a_file_that_is_not_current_fails_the_check_and_is_written_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "charts" / "bulkhead" / "files" / "access.yaml"
    assert accessfile.main(["--check", f"--root={tmp_path}"]) == 1
    assert "run python -m bulkhead.plan.accessfile" in capsys.readouterr().err and not path.exists()
    assert accessfile.main([f"--root={tmp_path}"]) == 0
    assert path.read_text(encoding="utf-8") == accessfile.text()
    path.write_text("closed: []\n", encoding="utf-8")
    assert accessfile.main(["--check", f"--root={tmp_path}"]) == 1
