"""How the gate is started from the operator's image, and how little that takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bulkhead.plan import isolation

REPOSITORY = Path(__file__).parents[3]
PROGRAM = REPOSITORY / "operator/bulkhead/gate/__main__.py"

HEAVY = {
    *("argparse", "asyncio", "collections", "dataclasses", "enum", "ipaddress", "json", "logging", "os", "re", "runpy"),
    *("selectors", "signal", "site", "socket", "struct", "subprocess", "threading", "typing"),
}
"""Modules that would cost a sidecar beside every agent more than they are worth to it."""


def started(*, also: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the gate's own start without any setting, so that it ends at once."""
    run = (
        "import sys\n"
        f"path = {str(PROGRAM)!r}\n"
        "source = compile(open(path).read(), path, 'exec')\n"
        "try:\n    exec(source, {'__name__': '__main__', '__file__': path})\n"
        f"finally:\n    {also or 'pass'}\n"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", run], env={}, capture_output=True, text=True, check=False, timeout=30
    )


def test_it_is_started_from_where_the_image_has_it() -> None:
    *interpreter, path = isolation.COMMAND
    assert interpreter == ["python3", "-I", "-S"]
    # Containerfile: COPY operator/bulkhead /opt/bulkhead/bulkhead
    assert path == f"/opt/bulkhead/bulkhead/{PROGRAM.relative_to(REPOSITORY / 'operator/bulkhead')}"
    assert "COPY operator/bulkhead /opt/bulkhead/bulkhead\n" in (REPOSITORY / "Containerfile").read_text()


def test_without_settings_it_says_what_is_missing() -> None:
    finished = started()
    assert finished.returncode == 2
    assert finished.stderr == "misconfigured: BULKHEAD_GATE_TARGETS is not set\n"


def test_it_loads_no_module_that_it_could_do_without() -> None:
    loaded = set(started(also="print(*sys.modules)").stdout.split())
    assert "bulkhead.gate.program" in loaded
    assert loaded & HEAVY == set()
    assert {name for name in loaded if name.startswith("bulkhead")} <= {
        *("bulkhead", "bulkhead.gate", "bulkhead.gate.linklocal", "bulkhead.gate.probe"),
        *("bulkhead.gate.program", "bulkhead.gate.settings"),
    }
