"""A real PostgreSQL on loopback with data of its own, started as an account without rights and gone with the tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from bulkhead.issuers.postgressettings import PostgresSettings
from devcluster.errors import DevclusterError
from devcluster.pki import KeyPair
from devcluster.ports import PortReservation
from tests import leaks

PROGRAMS = "BULKHEAD_TEST_POSTGRES"
"""Environment variable: folders with the programs of further versions, separated by colons."""

DATABASE = "shop"
ISSUER = "bulkhead"

_ACCOUNT = "postgres"
_NUMBERS = count(1)


def programs() -> list[Path]:
    """Folders with the programs of every PostgreSQL there is: Debian's, and those that the environment names.

    Never empty: where there is none, the tests say so when they run, and collecting them hurts nobody.
    """
    found = sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found += [Path(one) for one in os.environ.get(PROGRAMS, "").split(":") if one]
    return found or [Path("/usr/lib/postgresql/15/bin")]


@dataclass
class Server:
    """A running server.

    Attributes:
        folder: everything that is its own.
        port: on loopback.
        password: of the role `ISSUER`.
        process: the postmaster.
    """

    folder: Path
    port: int
    password: str = field(repr=False)
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        """Everything that it has logged."""
        return (self.folder / "log").read_text()

    @property
    def version(self) -> int:
        """Its major version."""
        return int((self.folder / "data" / "PG_VERSION").read_text())

    def ask(
        self, statements: str, *parameters: str, database: str = DATABASE, quietly: bool = False
    ) -> list[tuple[Any, ...]]:
        """Run statements as its administrator, and quietly without a trace in the log; give the rows of the last."""
        options = "-c log_statement=none -c log_min_duration_statement=-1" if quietly else ""
        with psycopg.connect(
            host=str(self.folder), port=self.port, user=_ACCOUNT, dbname=database, autocommit=True, options=options
        ) as connection:
            cursor = connection.execute(statements.encode(), parameters or None)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def valid_until(self, role: str) -> datetime | None:
        """Until when a role can log in; None when there is no such role."""
        rows = self.ask("SELECT rolvaliduntil FROM pg_roles WHERE rolname = %s", role)
        return rows[0][0] if rows else None

    def template(self, grants: str = "GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO {0}") -> str:
        """Make a template role with these rights; give its name."""
        name = f"reader{next(_NUMBERS)}"
        self.ask(f"CREATE ROLE {name} NOLOGIN; GRANT {name} TO {ISSUER} {self.admin_option}; {grants.format(name)}")
        return name

    @property
    def admin_option(self) -> str:
        """How a template is given to the issuer's role, as docs/credentials.md says."""
        return "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE" if self.version >= 16 else "WITH ADMIN OPTION"

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """Let all of its processes stand still: connections are taken in by the kernel, and nothing answers."""
        stopped = _family(self.process.pid)
        for pid in stopped:
            _signal(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                _signal(pid, signal.SIGCONT)


def configured(server: Server, password_file: Path, *, database: str = DATABASE) -> PostgresSettings:
    """Settings of an issuer for this server, without TLS: this is loopback."""
    return PostgresSettings.model_validate(
        {
            "host": "127.0.0.1",
            "port": server.port,
            "database": database,
            "user": ISSUER,
            "passwordFile": str(password_file),
            "sslmode": "disable",
        }
    )


@contextlib.contextmanager
def started(folder: Path, *, serving: KeyPair | None = None) -> Iterator[Server]:
    """Make its data, start it, and end it.

    Args:
        folder: with the programs.
        serving: its certificate; without one it speaks no TLS.
    """
    if not (folder / "initdb").exists():
        raise DevclusterError(f"no PostgreSQL in {folder}: apt-get install postgresql-15")
    home = Path(tempfile.mkdtemp(prefix="bulkhead-postgres-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        _make_data(folder, home, serving)
        # Held until it listens: it sets SO_REUSEADDR, and nobody else who reserves gets the port meanwhile.
        with PortReservation() as ports:
            port = ports.take()
            process = _start(folder, home, port, serving)
            _wait_until(lambda: _answers(home, port), "accepts connections")
        password = "".join(os.urandom(12).hex())
        leaks.learn("the password of the issuer's own role", password)
        server = Server(folder=home, port=port, password=password, process=process)
        made = f"CREATE ROLE {ISSUER} LOGIN CREATEROLE PASSWORD '{password}'"
        server.ask(made, database="postgres", quietly=True)
        server.ask(f"CREATE DATABASE {DATABASE}", database="postgres")
        server.ask(_SCHEMA)
        yield server
        leaks.note("the log of PostgreSQL", server.log)
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # ends sessions at once
            process.wait(timeout=30)
        shutil.rmtree(home)


_SCHEMA = """
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
CREATE TABLE orders (id integer PRIMARY KEY, pieces integer NOT NULL);
CREATE TABLE salaries (who text, amount integer);
INSERT INTO orders SELECT n, 10 FROM generate_series(1, 100) AS n;
CREATE SEQUENCE numbers;
"""

_HBA = """
local all postgres trust
host all all 127.0.0.1/32 scram-sha-256
"""

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "16MB",
    "fsync": "off",
    "log_statement": "all",
    "log_connections": "on",
    "log_min_duration_statement": "0",
    "log_min_error_statement": "debug5",
    "max_prepared_transactions": "10",
}


def _make_data(folder: Path, home: Path, serving: KeyPair | None) -> None:
    command: list[str | Path] = [*_unprivileged(home), folder / "initdb", f"--pgdata={home / 'data'}"]
    command += [f"--username={_ACCOUNT}", "--encoding=UTF8", "--no-locale", "--no-sync", "--auth=trust"]
    made = subprocess.run(command, capture_output=True, cwd="/", check=False)
    assert made.returncode == 0, made.stderr.decode()
    (home / "data" / "pg_hba.conf").write_text(_HBA)
    if serving is not None:
        for source, mode in ((serving.certificate, 0o644), (serving.key, 0o600)):
            copy = home / source.name
            shutil.copy(source, copy)
            copy.chmod(mode)
            os.chown(copy, home.stat().st_uid, -1)


def _start(folder: Path, home: Path, port: int, serving: KeyPair | None) -> subprocess.Popen[bytes]:
    chosen = _SETTINGS | {"port": str(port), "unix_socket_directories": str(home)}
    if serving is not None:
        chosen |= {
            "ssl": "on",
            "ssl_cert_file": str(home / serving.certificate.name),
            "ssl_key_file": str(home / serving.key.name),
        }
    options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            [*_unprivileged(home), folder / "postgres", "-D", home / "data", *options],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd="/",
        )


def _unprivileged(home: Path) -> list[str]:
    """PostgreSQL refuses to run as root. It ends with whoever started it, however that ends."""
    command = ["/usr/bin/setpriv", "--pdeathsig=INT"]
    if os.geteuid() == 0:
        account = pwd.getpwnam(_ACCOUNT)
        os.chown(home, account.pw_uid, account.pw_gid)
        command += [f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--init-groups"]
    return [*command, "--"]


def _answers(home: Path, port: int) -> bool:
    try:
        psycopg.connect(host=str(home), port=port, user=_ACCOUNT, dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"not within 60 s: PostgreSQL {what}"
        time.sleep(0.02)


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
