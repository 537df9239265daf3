"""Where the API server is and how this process is let in, kept fresh.

One `Connection` is shared by all clients of a process and by kopf.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp.connector import AddrInfoType

from bulkhead.cluster.access import CA_FILE, TOKEN_FILE, Access, InPod, Source
from bulkhead.cluster.errors import NotConfigured
from bulkhead.cluster.kubeconfig import HOME_CONFIG, Kubeconfig

log = logging.getLogger(__name__)

REFRESH_SECONDS = 60.0
"""How often credentials that can change are looked at: the kubelet replaces a token at 80 % of its life."""
REFRESH_TIMEOUT = 10.0
"""A credential plugin that hangs must not hold up a suspension for longer."""
KEEPALIVE_SECONDS = 60.0
"""Idle connections are kept for this long: less than the API server's 90 s, so that it never closes one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KopfConnection:
    """What `kopf.ConnectionInfo` needs, under the same names: `kopf.ConnectionInfo(**asdict(connection))`."""

    server: str
    ca_path: str | None = None
    insecure: bool | None = None
    scheme: str | None = None
    token: str | None = field(default=None, repr=False)
    certificate_path: str | None = None
    private_key_path: str | None = None
    proxy_url: str | None = field(default=None, repr=False)


class Connection:
    """The API server's address, trust and credentials. Make one with `Connection.load`.

    Attributes:
        generation: Counts changes of address, trust or client certificate. A client whose session is older opens a new
            one.
    """

    def __init__(self, source: Source, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Keeps the source; nothing is read yet."""
        self._source = source
        self._clock = clock
        self._lock = asyncio.Lock()
        self._access = Access(server="")
        self._tls: ssl.SSLContext | bool = True
        self._identity = b""
        self._refreshed = float("-inf")
        self.generation = 0

    @classmethod
    async def load(
        cls,
        *,
        kubeconfig: str | os.PathLike[str] | None = None,
        context: str | None = None,
        environ: Mapping[str, str] | None = None,
        token_file: str = TOKEN_FILE,
        ca_file: str = CA_FILE,
        clock: Callable[[], float] = time.monotonic,
    ) -> Connection:
        """Finds credentials and reads them.

        The first of these counts: the given kubeconfig, `KUBECONFIG`, the pod's service account, `~/.kube/config`.

        Args:
            kubeconfig: Path of a kubeconfig file.
            context: The context to use there; its current one by default.
            environ: The environment to read; that of the process by default.
            token_file: The service account token's file, in a pod.
            ca_file: The API server's CA, in a pod.
            clock: Seconds that only grow.

        Raises:
            NotConfigured: None of these is there, or the one that is cannot be used.
        """
        environ = os.environ if environ is None else environ
        path = os.fspath(kubeconfig) if kubeconfig is not None else environ.get("KUBECONFIG", "")
        in_pod = InPod(token_file=token_file, ca_file=ca_file, environ=environ)
        source = in_pod if not path and in_pod.present() else Kubeconfig(path=path or HOME_CONFIG, context=context)
        connection = cls(source, clock=clock)
        await connection._reload(source.load)
        return connection

    @property
    def server(self) -> str:
        """The API server's URL, without a slash at its end."""
        return self._access.server

    @property
    def tls_server_name(self) -> str | None:
        """The name that the API server's certificate must have; None for the URL's. A request has to give it."""
        return self._access.tls_server_name

    async def authorization(self) -> str | None:
        """Gives the value of the Authorization header, renewed when it is due; None without a token."""
        if self._clock() - self._refreshed >= REFRESH_SECONDS:
            async with self._lock:
                if self._clock() - self._refreshed >= REFRESH_SECONDS:
                    try:
                        await self._reload(self._source.refresh)
                    except NotConfigured as error:
                        # What we hold may still be accepted; if not, the API server answers 401 and says so.
                        self._refreshed = self._clock()
                        log.warning("credentials could not be refreshed, going on with the old ones: %s", error)
        return self._access.authorization

    async def renew(self, rejected: str | None) -> bool:
        """Reads credentials anew because the API server did not accept `rejected`.

        Many requests can be refused at once; the first renews, the others find it done.

        Returns:
            Whether there is something else to try than what was rejected.
        """
        async with self._lock:
            if self._access.authorization != rejected:
                return True
            generation = self.generation
            try:
                await self._reload(self._source.load)
            except NotConfigured as error:
                log.warning("credentials were refused and could not be read anew: %s", error)
                return False
            return self._access.authorization != rejected or self.generation != generation

    def session(self, *, pool_size: int) -> aiohttp.ClientSession:
        """Opens a session with a connection pool of its own, whose connections stay warm and whose death is noticed.

        Args:
            pool_size: Connections at most, 0 for no limit; further requests wait for one.
        """
        connector = aiohttp.TCPConnector(
            limit=pool_size, ssl=self._tls, keepalive_timeout=KEEPALIVE_SECONDS, socket_factory=_watchful_socket
        )
        # Trusting the environment would look for proxies and a .netrc at every request, in a thread each time, for more
        # CPU than the request itself. A proxy is named in the kubeconfig (`proxy-url`).
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), proxy=self._access.proxy, trust_env=False
        )

    def kopf_connection(self) -> KopfConnection:
        """Gives what kopf's login handler has to return, from the same access."""
        access = self._access
        scheme, _, token = (access.authorization or "").partition(" ")
        return KopfConnection(
            server=access.server,
            ca_path=access.ca_file,
            insecure=True if access.insecure else None,
            scheme=scheme or None,
            token=token or None,
            certificate_path=access.certificate_file,
            private_key_path=access.key_file,
            proxy_url=access.proxy,
        )

    def __repr__(self) -> str:
        """Names the server and never a credential."""
        return f"Connection({self.server!r})"

    async def _reload(self, read: Callable[[], Awaitable[Access]]) -> None:
        """Reads access and takes it over only when all of it can be used."""
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT):
                access = await read()
            # Before the files are used: if they change in between, the next look finds another identity.
            identity = _identity(access)
            if identity != self._identity:
                self._tls = _tls(access)
        except (OSError, ValueError) as error:
            raise NotConfigured(f"credentials cannot be used: {type(error).__name__}: {error}") from error
        self._access = access
        self._refreshed = self._clock()
        if identity != self._identity:
            self._identity = identity
            self.generation += 1


def _tls(access: Access) -> ssl.SSLContext:
    """Makes what certificates are verified and shown with."""
    made = ssl.create_default_context(cafile=access.ca_file)
    if access.certificate_file:
        made.load_cert_chain(access.certificate_file, access.key_file)
    if access.insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    # Python 3.13 turns X.509 strictness on, which refuses cluster CAs without key identifiers; many clusters have such
    # CAs, and Go clients accept them.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return made


def _watchful_socket(address: AddrInfoType) -> socket.socket:
    """Makes a TCP socket that finds out in about half a minute that its peer is gone.

    A watch is silent for long times and would otherwise not see a machine that vanished without a FIN for the kernel's
    two hours. Go clients ping over HTTP/2 after 30 s of silence and give up 15 s later; these are the same times.
    """
    family, kind, protocol, *_ = address
    sock = socket.socket(family=family, type=kind, proto=protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 45_000)):
        if hasattr(socket, name):  # TCP_USER_TIMEOUT is Linux's; a developer's machine may be another
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


def _identity(access: Access) -> bytes:
    """Digests what a session is made of, by the contents of the files it names."""
    digest = hashlib.blake2b(digest_size=16)
    for value in (access.server, access.proxy, access.tls_server_name, access.insecure):
        digest.update(repr(value).encode())
    for path in (access.ca_file, access.certificate_file, access.key_file):
        digest.update(Path(path).read_bytes() if path else b"\0")
    return digest.digest()
