"""Short-lived programs end with whoever ran them: nobody writes into a cluster's files while they are removed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster.commands import run
from devcluster.errors import DevclusterError
from tests.cluster.pods import wait_for

# It changes its user, as initdb is made to, and starts a child that would outlive it.
PROGRAM = """
from devcluster.commands import run
run("/usr/bin/setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--",
    "/bin/sh", "-c", "setsid sleep 600 & sleep 600", environment={"TOKEN": "%s"}, contained=True)
"""


def carrying(token: str) -> list[str]:
    """The commands of the processes that have a token in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"TOKEN={token}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
        except OSError:
            continue
    return found


def test_a_contained_program_and_its_children_end_with_a_caller_that_was_killed() -> None:
    token = secrets.token_hex(8)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", PROGRAM % token], env=environment) as caller:
        wait_for(lambda: carrying(token).count("sleep 600") == 2, seconds=60, what="both children run")
        caller.send_signal(signal.SIGKILL)
    wait_for(lambda: not carrying(token), seconds=30, what="all have ended")


@pytest.mark.parametrize("contained", [False, True])
def test_a_failed_program_is_named_with_what_it_said(contained: bool) -> None:
    with pytest.raises(DevclusterError, match=r"^sh failed with exit code 3:\nsorry$"):
        run("/bin/sh", "-c", "echo sorry >&2; exit 3", contained=contained)


@pytest.mark.parametrize("contained", [False, True])
def test_a_program_gets_its_input_and_gives_its_output(contained: bool) -> None:
    assert run("/bin/cat", standard_input="text", contained=contained) == "text"
