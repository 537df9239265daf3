"""A lease that was copied out of an agent's pod, in the hands of somebody who can reach the database."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from urllib.parse import urlsplit, urlunsplit

from devcluster import network
from devcluster.paths import Cluster

_PROGRAM = Path(__file__).with_name("agent") / "thief.py"
_BUSY = ("timed out", "too many connections")
"""Words of a failure that tells of a busy machine and not of a dead password."""


@dataclass(frozen=True)
class Attempt:
    """One thing that the thief did.

    Attributes:
        at: when it had ended, in seconds since 1970.
        what: `login`, or `session` for the use of the one that is kept open.
        worked: whether it did.
        how: what the database said.
    """

    at: float
    what: str
    worked: bool
    how: str


class Thief:
    """A thief at work; see demo/agent/thief.py."""

    def __init__(self, told: IO[bytes]) -> None:
        """Look at what it tells.

        Args:
            told: the file it writes to.
        """
        self._told = told

    @property
    def attempts(self) -> list[Attempt]:
        """Everything it did so far."""
        self._told.seek(0)
        return [Attempt(**json.loads(line)) for line in self._told if line.endswith(b"\n")]

    def of(self, what: str) -> list[Attempt]:
        """Its attempts of one kind."""
        return [one for one in self.attempts if one.what == what]

    def last_success(self, what: str) -> float:
        """When an attempt of a kind worked for the last time, in seconds since 1970; 0 when none did."""
        return max((one.at for one in self.of(what) if one.worked), default=0.0)

    def refusal(self, what: str, *, since: float) -> Attempt | None:
        """The first attempt of a kind after a moment that was refused for good.

        One that was not answered in time says nothing, nor one for which earlier sessions had not quite ended yet.
        """
        failed = (one for one in self.of(what) if one.at >= since and not one.worked)
        return next((one for one in failed if not any(words in one.how for words in _BUSY)), None)


@contextmanager
def at_work(url: str, cluster: Cluster) -> Iterator[Thief]:
    """Let somebody use the URL of a lease, from the network that the database is in: no policy of the cluster is there.

    Args:
        url: as it is in the lease's file.
        cluster: whose authority the database's certificate is of.
    """
    outside = urlunsplit(urlsplit(url)._replace(query=f"sslmode=verify-full&sslrootcert={cluster.pki / 'ca.crt'}"))
    with TemporaryFile() as told:
        command = ["nsenter", f"--net=/run/netns/{network.OUTSIDE}", sys.executable, "-E", "-s", str(_PROGRAM)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=told, text=True)
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps({"url": outside}) + "\n")
                process.stdin.flush()
            with _reading(told) as copy:
                yield Thief(copy)
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


@contextmanager
def _reading(told: IO[bytes]) -> Iterator[IO[bytes]]:
    """The same file, with a place of its own in it: the writer's moves with what it writes."""
    with Path(f"/proc/self/fd/{told.fileno()}").open("rb") as copy:
        yield copy
