"""What a connection to the API server is made of, and where a pod has it from: its service account.

In a pod the address is that of `KUBERNETES_SERVICE_HOST`: no name has to be resolved, so the operator's own network
needs no DNS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bulkhead.cluster.errors import NotConfigured

_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_FILE = f"{_MOUNT}/token"
"""The service account's token, which the kubelet keeps fresh."""
CA_FILE = f"{_MOUNT}/ca.crt"
"""What the API server's certificate is verified with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the API server is, whom it is believed to be, and who this process is to it.

    Attributes:
        server: its URL, without a slash at the end.
        ca_file: PEM bundle that its certificate is verified with; None for the system's.
        insecure: take any certificate.
        certificate_file: the client's, with the key unless that is in `key_file`.
        key_file: of the client's certificate.
        proxy: URL of the proxy on the way. It may hold a password.
        tls_server_name: the name that its certificate must have, where that is not the URL's.
        authorization: the header's value; None for who has no token.
    """

    server: str
    ca_file: str | None = None
    insecure: bool = False
    certificate_file: str | None = None
    key_file: str | None = None
    proxy: str | None = field(default=None, repr=False)
    tls_server_name: str | None = None
    authorization: str | None = field(default=None, repr=False)


class Source(Protocol):
    """Somewhere that access is read from. What cannot be read raises `NotConfigured`, OSError or ValueError."""

    async def load(self) -> Access:
        """Reads everything anew."""

    async def refresh(self) -> Access:
        """Renews what is about to expire; cheap when nothing is."""


class InPod:
    """The service account of the pod that this process runs in."""

    def __init__(self, *, token_file: str, ca_file: str, environ: Mapping[str, str]) -> None:
        """Keeps where to look; nothing is read yet."""
        self._token_file, self._ca_file, self._environ = token_file, ca_file, environ

    def present(self) -> bool:
        """Whether this is a pod with a service account."""
        return bool(self._environ.get("KUBERNETES_SERVICE_HOST")) and Path(self._token_file).exists()

    async def load(self) -> Access:
        """Reads the environment and the files that the kubelet mounted.

        Raises:
            NotConfigured: a part is missing.
            OSError: a file cannot be read.
            ValueError: the token is no text.
        """
        host, port = (self._environ.get(f"KUBERNETES_SERVICE_{part}") for part in ("HOST", "PORT"))
        if not host or not port:
            raise NotConfigured("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set")
        return Access(
            server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            ca_file=self._ca_file,
            authorization=f"Bearer {self._token()}",
        )

    refresh = load

    def _token(self) -> str:
        words = Path(self._token_file).read_text(encoding="utf-8").split()
        if len(words) != 1:
            raise NotConfigured(f"{self._token_file} does not hold a token")
        return words[0]
