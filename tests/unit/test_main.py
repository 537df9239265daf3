"""What the operator makes of its command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bulkhead

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: nobody, user: {}}]
contexts: [{name: none, context: {cluster: none, user: nobody}}]
current-context: none
"""


def test_a_file_of_issuers_that_cannot_be_used_ends_the_start_with_a_sentence_for_each_problem(tmp_path: Path) -> None:
    issuers, kubeconfig = tmp_path / "issuers.yaml", tmp_path / "kubeconfig"
    issuers.write_text("issuers: [{name: one, type: nosuch}, {name: two, type: postgres}]", encoding="utf-8")
    kubeconfig.write_text(KUBECONFIG, encoding="utf-8")
    command = [sys.executable, "-m", "bulkhead.main", f"--issuers={issuers}", f"--kubeconfig={kubeconfig}"]

    ended = subprocess.run(
        command,
        env={"PYTHONPATH": str(Path(bulkhead.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ended.returncode == 2
    told = [json.loads(line)["message"] for line in (ended.stdout + ended.stderr).splitlines()]
    assert any("issuers[0].type" in one and "nosuch" in one for one in told)
    assert any("issuers[1]" in one and "host" in one for one in told)
