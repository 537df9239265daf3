"""Running short-lived programs, such as ip, initdb or buildah, so that none outlives a command that was killed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from devcluster.errors import DevclusterError

_ENDS_WITH_US = ("/usr/bin/setpriv", "--pdeathsig=KILL")

# The shell is the first process of a PID namespace and waits; when it ends, the kernel ends all others in it.
_CONTAINED = ("/usr/bin/unshare", "--pid", "--fork", "--kill-child=KILL", "/bin/sh", "-c", '"$@"; exit $?', "sh")


def run(
    *command: str | Path,
    standard_input: str = "",
    environment: Mapping[str, str] | None = None,
    name: str | None = None,
    contained: bool = False,
) -> str:
    """Run a program to its end. It is killed when we die.

    Args:
        command: the program and its arguments.
        standard_input: what it reads.
        environment: all its variables; ours by default.
        name: what the program is called in errors, where the command begins with a wrapper.
        contained: whether that holds for all it starts too, and if it changes its user. This needs root.

    Returns:
        Its standard output.

    Raises:
        DevclusterError: it failed; the text has the end of what it wrote.
    """
    finished = subprocess.run(
        [*_ENDS_WITH_US, *(_CONTAINED if contained else ()), *command],
        input=standard_input,
        env=dict(os.environ if environment is None else environment),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        tail = "\n".join((finished.stdout + finished.stderr).splitlines()[-25:])
        called = name or Path(command[0]).name
        raise DevclusterError(f"{called} failed with exit code {finished.returncode}:\n{tail}")
    return finished.stdout
