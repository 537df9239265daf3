"""The least of a PostgreSQL client: log in with a password and run statements. Standard library only.

Messages: PostgreSQL documentation, "Frontend/Backend Protocol"; the password exchange: RFC 5802 and RFC 7677.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import socket
import ssl
import struct
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, quote, unquote, urlsplit

_TLS_REQUEST = 80877103


class RefusedError(Exception):
    """The server answered and refuses."""


def run(url: str, statement: str, *, seconds: float) -> str:
    """Log in and run one SQL statement; see `Session`.

    Returns:
        What the server says it did, such as `DROP TABLE`.
    """
    with Session(url, seconds=seconds) as session:
        return session.run(statement)


def lease(folder: Path, *, at: str = "") -> str:
    """Give the URL of a database from the files of a lease.

    They change while one looks: the kubelet puts the files of the next lease into a folder of their own, turns the link
    `..data` to it, and removes the former. So all are read by way of that folder.

    Args:
        folder: where the lease is.
        at: HOST:PORT/DATABASE, for issuers that tell a name and a password only.
    """
    for _ in range(3):
        data = (folder / "..data").resolve()
        try:
            if (data / "uri").exists():
                return (data / "uri").read_text()
            user, password = ((data / name).read_text() for name in ("username", "password"))
            return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{at}"
        except FileNotFoundError:
            continue  # the link was turned meanwhile
    raise FileNotFoundError(f"there is no lease in {folder}")


class Session:
    """One login.

    Attributes:
        user: the role.
    """

    def __init__(self, url: str, *, seconds: float) -> None:
        """Log in.

        Args:
            url: postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and `sslmode` and `sslrootcert` as libpq takes them.
            seconds: how long to wait for each answer.

        Raises:
            OSError: there is no way to the server, it does not answer, or it is not who it should be.
            RefusedError: it refuses the login.
        """
        parts = urlsplit(url)
        options = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.user = unquote(str(parts.username))
        host = str(parts.hostname)
        self._connection = socket.create_connection((host, parts.port or 5432), timeout=seconds)
        try:
            if options.get("sslmode", "disable") != "disable":
                self._connection = _with_tls(self._connection, host, options.get("sslrootcert"))
            self._file = self._connection.makefile("rb")
            self._start(database=parts.path.strip("/"))
            self._log_in(unquote(str(parts.password)))
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Session:
        """Give itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Log out."""
        self.close()

    def run(self, statement: str) -> str:
        """Run a statement.

        Returns:
            What the server says it did, such as `DROP TABLE`.

        Raises:
            OSError: the connection is gone.
            RefusedError: the server refuses the statement; the session goes on, unless that was its end.
        """
        return self.ask(statement)[0]

    def ask(self, statement: str) -> tuple[str, list[list[str | None]]]:
        """Run a statement; give what the server did, and the rows it gave. See `run`."""
        self._send(b"Q", statement.encode() + b"\0")
        done, rows, refused = "", [], None
        while True:
            kind, body = self._receive()
            if kind == b"Z":
                break
            if kind == b"C":
                done = body.rstrip(b"\0").decode()
            elif kind == b"D":
                rows.append(_row(body))
            elif kind == b"E":
                refused = _refusal(body)
                if _fields(body).get(b"S") == b"FATAL":
                    break  # the server ends the session
        if refused:
            raise refused
        return done, rows

    def close(self) -> None:
        """Log out."""
        try:
            self._send(b"X", b"")
        except OSError:
            pass  # it was ended already
        finally:
            self._file.close()
            self._connection.close()

    def _start(self, *, database: str) -> None:
        fields = f"user\0{self.user}\0database\0{database}\0\0".encode()
        self._connection.sendall(struct.pack("!II", len(fields) + 8, 3 << 16) + fields)

    def _send(self, kind: bytes, body: bytes) -> None:
        self._connection.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def _receive(self) -> tuple[bytes, bytes]:
        header = self._file.read(5)
        if len(header) < 5:
            raise ConnectionResetError("the server closed the connection")
        return header[:1], self._file.read(struct.unpack("!I", header[1:])[0] - 4)

    def _log_in(self, password: str) -> None:
        """SCRAM-SHA-256, up to the moment at which the server takes statements."""
        nonce = base64.b64encode(secrets.token_bytes(18)).decode()
        first = f"n=,r={nonce}"
        while True:
            kind, body = self._receive()
            if kind == b"Z":
                return
            if kind == b"E":
                raise _refusal(body)
            if kind != b"R":
                continue  # settings of the session
            step = struct.unpack("!I", body[:4])[0]
            if step == 10:
                opening = f"n,,{first}".encode()
                self._send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(opening)) + opening)
            elif step == 11:
                self._send(b"p", _proof(password, first, body[4:].decode()))
            elif step not in (0, 12):
                raise RefusedError(f"the server wants a login of kind {step}")


def _with_tls(connection: socket.socket, host: str, authority: str | None) -> ssl.SSLSocket:
    connection.sendall(struct.pack("!II", 8, _TLS_REQUEST))
    if connection.recv(1) != b"S":
        connection.close()
        raise ConnectionError("the server speaks no TLS")
    context = ssl.create_default_context(cafile=authority)
    return context.wrap_socket(connection, server_hostname=host)


def _fields(body: bytes) -> dict[bytes, bytes]:
    return {part[:1]: part[1:] for part in body.split(b"\0")}


def _refusal(body: bytes) -> RefusedError:
    return RefusedError(_fields(body)[b"M"].decode())


def _row(body: bytes) -> list[str | None]:
    values: list[str | None] = []
    at = 2
    for _ in range(struct.unpack("!H", body[:2])[0]):
        length = struct.unpack("!i", body[at : at + 4])[0]
        at += 4
        values.append(None if length < 0 else body[at : at + length].decode())
        at += max(0, length)
    return values


def _proof(password: str, first: str, challenge: str) -> bytes:
    given = dict(part.split("=", 1) for part in challenge.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(given["s"]), int(given["i"]))
    client = hmac.digest(salted, b"Client Key", "sha256")
    last = f"c=biws,r={given['r']}"
    signed = hmac.digest(hashlib.sha256(client).digest(), f"{first},{challenge},{last}".encode(), "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client, signed, strict=True))).decode()
    return f"{last},p={proof}".encode()
