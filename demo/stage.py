"""What the acts are played on: a cluster, and a screen that shows every command as a person would type it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from devcluster.api import RunningCluster


class DemoError(Exception):
    """Something that the demo shows is not so."""


@dataclass(frozen=True)
class Stage:
    """A cluster and a screen.

    Attributes:
        cluster: a cluster of tier `cluster`, up.
        console: the screen. Colours are left out where it is no terminal.
    """

    cluster: RunningCluster
    console: Console = field(default_factory=lambda: Console(file=sys.stdout, highlight=False, soft_wrap=True))

    def title(self, text: str) -> None:
        """Begin an act."""
        self.console.print()
        self.console.print(Text(f"== {text}", style="bold cyan"))

    def say(self, text: str) -> None:
        """Tell the audience something."""
        self.console.print(Text(text))

    def show(self, table: Table) -> None:
        """Print a table."""
        self.console.print(table)

    def good(self, text: str) -> None:
        """Tell that something was checked and is so."""
        self.console.print(Text(f"✓ {text}", style="green"))

    def expect(self, holds: object, what: str) -> None:
        """Tell that something is so.

        Args:
            holds: whether it is.
            what: it, as a sentence.

        Raises:
            DemoError: it is not.
        """
        if not holds:
            raise DemoError(f"not so: {what}")
        self.good(what)

    def kubectl(self, *arguments: str) -> str:
        """Show and run a kubectl command; give its output. See `run`."""
        return self.run("kubectl", *arguments)

    def run(self, program: str, *arguments: str, quiet: bool = False) -> str:
        """Show a command, run it as the cluster's administrator, show its output and give it.

        Args:
            program: kubectl, helm, or another program of the cluster.
            arguments: its arguments.
            quiet: whether its output is left out.

        Raises:
            DemoError: it failed; what it wrote to standard error is in the text.
        """
        typed = shlex.join([program, *arguments])
        self.console.print(Text(f"$ {typed}", style="bold"))
        finished = self._run(program, arguments)
        if finished.returncode != 0:
            raise DemoError(f"{typed}\n{finished.stderr.strip()}")
        if not quiet:
            said = (finished.stdout + finished.stderr).rstrip()
            self.console.print(Text(said, style="dim" if self.console.is_terminal else ""))
        return finished.stdout

    def ask(self, *arguments: str) -> str:
        """Run kubectl behind the scenes; give its output.

        Raises:
            DevclusterError: it failed.
        """
        return self.cluster.kubectl(*arguments)

    def _run(self, program: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.cluster.binary(program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
        )

    def _environment(self) -> Mapping[str, str]:
        """The person's own environment, with helm's and kubectl's caches in the cluster's folder: they go with it."""
        home = self.cluster.state_dir / "home"
        home.mkdir(exist_ok=True)
        path = os.pathsep.join(
            dict.fromkeys([str(Path(self.cluster.binary("kubectl")).parent), os.environ.get("PATH", os.defpath)])
        )
        return {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig), "HOME": str(home), "PATH": path}
