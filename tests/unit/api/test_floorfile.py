"""The floor as a file of the chart: current, whole, and written only when asked to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bulkhead.api import floorfile
from bulkhead.api.floor import FLOOR

REPOSITORY = Path(__file__).parents[3]


def test_the_charts_floor_is_current() -> None:
    assert floorfile.main(["--check", f"--root={REPOSITORY}"]) == 0


def test_every_entry_is_in_the_file_where_it_belongs() -> None:
    content = yaml.safe_load(floorfile.text())
    assert content.keys() == {"closed", "openable"}
    for name, openable in (("closed", False), ("openable", True)):
        assert [(one["cidr"], one["what"]) for one in content[name]] == [
            (entry.cidr, entry.what) for entry in FLOOR if entry.openable is openable
        ]


def test_a_file_that_is_not_current_fails_the_check_and_is_written_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "charts" / "bulkhead" / "files" / "floor.yaml"
    assert floorfile.main(["--check", f"--root={tmp_path}"]) == 1
    assert "run python -m bulkhead.api.floorfile" in capsys.readouterr().err and not path.exists()
    assert floorfile.main([f"--root={tmp_path}"]) == 0
    assert path.read_text(encoding="utf-8") == floorfile.text()
    path.write_text("closed: []\n", encoding="utf-8")
    assert floorfile.main(["--check", f"--root={tmp_path}"]) == 1
