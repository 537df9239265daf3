"""PostgreSQL servers of a cluster, from Debian's package: each with its data, its log and its place in a network."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster import processes
from devcluster.commands import run
from devcluster.errors import DevclusterError
from devcluster.paths import Cluster, write_atomically
from devcluster.pki import KeyPair

PORT = 5432

_ACCOUNT = "postgres"  # made by Debian's package; PostgreSQL refuses to run as root
_READY_SECONDS = 30.0

_OWN_SEGMENTS = ("/usr/bin/unshare", "--ipc", "--")
"""Shared memory outlives a server that is killed, and each cluster left some; that of a namespace ends with it."""

_ENVIRONMENT = {"LANG": "C.UTF-8"}  # PGHOST and its like may be set here for another database


@dataclass(frozen=True)
class Login:
    """How a client gets into a database.

    Attributes:
        host: the server's address.
        port: its TCP port.
        name: the database.
        user: a role.
        password: that role's.
    """

    host: str
    port: int
    name: str
    user: str
    password: str


@dataclass(frozen=True)
class Server:
    """One PostgreSQL server of a cluster.

    Attributes:
        cluster: whose.
        name: what it is for. Its process is called NAME-postgres, its files are in the folder NAME of the cluster.
        port: its TCP port.
    """

    cluster: Cluster
    name: str
    port: int = PORT

    @property
    def component(self) -> str:
        """The name of its process among the cluster's; its log is called likewise."""
        return f"{self.name}-postgres"

    @property
    def runs(self) -> bool:
        """Whether it was started and runs."""
        return any(
            record.component == self.component and processes.is_alive(record)
            for record in processes.records(self.cluster)
        )

    def start(
        self,
        *,
        addresses: Sequence[str],
        netns: str | None,
        rules: Sequence[str],
        settings: Mapping[str, str] | None = None,
        serving: KeyPair | None = None,
    ) -> None:
        """Make its data and start it.

        Args:
            addresses: where it listens.
            netns: the network namespace it runs in; None for the machine's own.
            rules: lines of its pg_hba.conf, for those who come over the network.
            settings: of the server, besides those that all have.
            serving: its certificate, where it is to speak TLS.

        Raises:
            DevclusterError: a PostgreSQL program failed or is not installed.
        """
        programs, account, folder = _programs(), pwd.getpwnam(_ACCOUNT), self._folder
        for made in (folder, self._socket):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chown(made, account.pw_uid, account.pw_gid)
        self._make_data(programs, rules)
        chosen = {
            "listen_addresses": ",".join(addresses),
            "port": str(self.port),
            "shared_buffers": "16MB",
            "fsync": "off",  # the data dies with the cluster
            "dynamic_shared_memory_type": "sysv",  # unlike those in /dev/shm, these segments end with the namespace
            "log_connections": "on",  # so that its log tells who got through
            **(_tls(folder, serving, account) if serving else {}),
            **(settings or {}),
        }
        options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [programs / "postgres", "-D", folder / "data", "-k", self._socket, *options]
        server = processes.start(self.cluster, self.component, [*_OWN_SEGMENTS, *_as_postgres(), *command], netns=netns)
        processes.wait_until(
            self._answers, cluster=self.cluster, record=server, seconds=_READY_SECONDS, what="accept connections"
        )

    def sql(self, statements: str, *, database: str) -> str:
        """Run SQL as its administrator, from outside the network, through its socket.

        Args:
            statements: one or more, separated by semicolons.
            database: where.

        Returns:
            Rows, one a line, values separated by |.

        Raises:
            DevclusterError: the database refuses them.
        """
        return run(
            *(_programs() / "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"),
            *(f"--host={self._socket}", f"--port={self.port}", f"--username={_ACCOUNT}", f"--dbname={database}"),
            standard_input=statements,
            environment=_ENVIRONMENT,
        ).strip()

    def create_role(self, name: str, attributes: str = "") -> str:
        """Make a role that logs in with a password, which is kept for `password`; give the password."""
        password = secrets.token_urlsafe(16)
        write_atomically(self.password_file(name), password, mode=0o600)
        # Where all statements are logged, this one is not.
        quietly = f"SET log_statement TO none; CREATE ROLE {name} LOGIN {attributes} PASSWORD '{password}'"
        self.sql(quietly, database="postgres")
        return password

    def password(self, role: str) -> str:
        """The password of a role that `create_role` made."""
        return self.password_file(role).read_text()

    def password_file(self, role: str) -> Path:
        """Where that is kept: beside the server's folder, which belongs to the account it runs as."""
        return self.cluster.state_dir / f"{self.name}-password-{role}"

    def _make_data(self, programs: Path, rules: Sequence[str]) -> None:
        run(
            *_as_postgres(),
            *(programs / "initdb", f"--pgdata={self._folder / 'data'}", f"--username={_ACCOUNT}"),
            *("--encoding=UTF8", "--no-locale"),
            # Through its socket, in a folder that only its account and root may enter, it trusts everybody.
            *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"),
            environment=_ENVIRONMENT,
            name="initdb",
            contained=True,  # killed alone it would leave a child that goes on to write, and its files could not go
        )
        with (self._folder / "data" / "pg_hba.conf").open("a") as file:
            file.writelines(f"{rule}\n" for rule in rules)

    def _answers(self) -> bool:
        asked: list[str | Path] = [
            _programs() / "pg_isready",
            "--quiet",
            f"--host={self._socket}",
            f"--port={self.port}",
        ]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    @property
    def _folder(self) -> Path:
        return self.cluster.state_dir / self.name

    @property
    def _socket(self) -> Path:
        return self._folder / "socket"


def _tls(folder: Path, serving: KeyPair, account: pwd.struct_passwd) -> dict[str, str]:
    """Settings for TLS. It reads a key only if nobody else may, so it gets a copy of its own."""
    for source, mode in ((serving.certificate, 0o644), (serving.key, 0o600)):
        copy = folder / source.name
        shutil.copy(source, copy)
        copy.chmod(mode)
        os.chown(copy, account.pw_uid, account.pw_gid)
    return {
        "ssl": "on",
        "ssl_cert_file": str(folder / serving.certificate.name),
        "ssl_key_file": str(folder / serving.key.name),
    }


def _programs() -> Path:
    """The folder of the newest PostgreSQL that Debian has installed here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        raise DevclusterError("no PostgreSQL below /usr/lib/postgresql: apt-get install postgresql-15")
    return found[-1].parent


def _as_postgres() -> list[str]:
    return ["/usr/bin/setpriv", f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--init-groups", "--"]
