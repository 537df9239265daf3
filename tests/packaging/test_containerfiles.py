from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from manifests.render import ROOT

OPERATOR = ROOT / "Containerfile"
AGENT = ROOT / "demo" / "agent" / "Containerfile"


def final_stage(containerfile: Path) -> str:
    """What follows the last FROM, continued lines joined."""
    return containerfile.read_text().replace("\\\n", " ").rpartition("\nFROM ")[2]


def environment(containerfile: Path) -> dict[str, str]:
    return {
        name: value
        for line in re.findall(r"^ENV (.*)$", final_stage(containerfile), re.MULTILINE)
        for name, _, value in (pair.partition("=") for pair in line.split())
    }


@pytest.mark.parametrize("containerfile", [OPERATOR, AGENT], ids=["operator", "agent"])
def test_the_image_runs_as_a_number_that_is_not_root_and_needs_no_shell_to_start(containerfile: Path) -> None:
    stage = final_stage(containerfile)
    assert re.findall(r"^USER (.*)$", stage, re.MULTILINE) == ["65532:65532"]
    # A module is looked for in the working directory unless -P forbids it; a script by its path, in its own folder.
    assert re.search(r'^ENTRYPOINT \["python3", ("-P", "-m", |"/)', stage, re.MULTILINE)
    assert "\nRUN " not in stage


@pytest.mark.parametrize("containerfile", [OPERATOR, AGENT], ids=["operator", "agent"])
def test_the_image_tries_to_write_nothing_beside_its_sources(containerfile: Path) -> None:
    assert environment(containerfile)["PYTHONDONTWRITEBYTECODE"] == "1"


def test_kopf_finds_a_user_name_although_no_passwd_file_knows_the_user() -> None:
    # Seen in a pod: kopf's start ended in KeyError 'getpwuid(): uid not found: 65532'.
    unknown_user = (
        "import pwd\n"
        "def unknown(uid): raise KeyError(f'getpwuid(): uid not found: {uid}')\n"
        "pwd.getpwuid = unknown\n"
        "from kopf._core.engines import peering\n"
        "print(peering.detect_own_id(manual=True))\n"
    )
    started = subprocess.run(
        [sys.executable, "-c", unknown_user],
        env={key: value for key, value in environment(OPERATOR).items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.stdout.startswith("bulkhead@"), started.stderr
