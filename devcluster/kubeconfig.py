"""Reading the kubeconfigs that `pki` writes: one cluster, one user, and all they need inside."""

from __future__ import annotations

import base64
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """What one of them holds.

    Attributes:
        server: the API server's URL.
        authority: who vouches for it, PEM.
        token: the user's; None for one with a certificate.
        certificate: the user's and its key, PEM; empty for one with a token.
    """

    server: str
    authority: str
    token: str | None = field(repr=False)
    certificate: bytes = field(repr=False)

    def anonymous(self) -> ssl.SSLContext:
        """Give what the server is believed with."""
        return ssl.create_default_context(cadata=self.authority)

    def trust(self) -> ssl.SSLContext:
        """Give the same, with the user's certificate where it has one."""
        context = self.anonymous()
        if self.certificate:
            # ssl takes a client's certificate from a file only.
            with tempfile.NamedTemporaryFile() as pair:
                pair.write(self.certificate)
                pair.flush()
                context.load_cert_chain(pair.name)
        return context


def read(path: Path) -> Kubeconfig:
    """Read a kubeconfig."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    parts = [user[part] for part in ("client-certificate-data", "client-key-data") if part in user]
    return Kubeconfig(
        server=str(cluster["server"]),
        authority=base64.b64decode(cluster["certificate-authority-data"]).decode(),
        token=user.get("token"),
        certificate=b"".join(base64.b64decode(part) + b"\n" for part in parts),
    )
