"""Certificate authorities, what they sign, and kubeconfigs, for one cluster.

Keys are elliptic (P-256): making one takes well under a millisecond. What Kubernetes wants of the certificates is in
its "PKI certificates and requirements" page; who a client is stands in its subject: CN is the user, each O a group.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devcluster.paths import Cluster, write_atomically

VALIDITY = datetime.timedelta(days=30)
"""A development cluster does not live longer."""

# Machines differ by minutes, and a certificate that is not valid yet is refused.
_CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority whose files are DIR/NAME.crt and DIR/NAME.key."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open an authority, or make it where its files do not exist."""
        self.files = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
        if not self.files.certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            subject = _subject(f"bulkhead-devcluster-{name}")
            certificate = (
                _builder(subject, subject, key.public_key(), key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_key_usage(ca=True), critical=True)
                .sign(key, hashes.SHA256())
            )
            _write(self.files, certificate, key)
        self._certificate = x509.load_pem_x509_certificate(self.files.certificate.read_bytes())
        loaded = serialization.load_pem_private_key(self.files.key.read_bytes(), password=None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)  # noqa: S101 - only this class writes the file
        self._key = loaded

    def server(self, name: str, sans: Iterable[str]) -> KeyPair:
        """Sign a serving certificate.

        Args:
            name: base of the file names; also the common name.
            sans: DNS names and IP addresses it is good for.
        """
        alternatives = x509.SubjectAlternativeName([_general_name(san) for san in sans])
        return self._sign(name, _subject(name), ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def client(self, name: str, *, user: str, groups: Iterable[str] = ()) -> KeyPair:
        """Sign a client certificate.

        Args:
            name: base of the file names.
            user: Kubernetes user name.
            groups: Kubernetes groups.
        """
        return self._sign(name, _subject(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH)

    def _sign(
        self,
        name: str,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self._certificate.subject, key.public_key(), self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        pair = KeyPair(self.files.certificate.with_name(f"{name}.crt"), self.files.key.with_name(f"{name}.key"))
        _write(pair, builder.sign(self._key, hashes.SHA256()), key)
        return pair


def cluster_authority(cluster: Cluster) -> Authority:
    """The authority for the API server, kubelets and all clients."""
    return Authority(cluster.pki, "ca")


def front_proxy_authority(cluster: Cluster) -> Authority:
    """The authority for the API server as a client of aggregated API servers.

    A separate one, else any user could pose as the proxy.
    """
    return Authority(cluster.pki, "front-proxy-ca")


def service_account_keys(cluster: Cluster) -> KeyPair:
    """The pair that signs service account tokens: sa.key signs; sa.pub (as `certificate`) is the bare public key."""
    pair = KeyPair(cluster.pki / "sa.pub", cluster.pki / "sa.key")
    if not pair.key.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_atomically(pair.certificate, public.decode())
        write_atomically(pair.key, _pem(key), mode=0o600)
    return pair


def client_kubeconfig(
    cluster: Cluster, *, server: str, user: str, groups: Iterable[str] = (), path: Path | None = None
) -> Path:
    """Write a kubeconfig that holds a client certificate.

    Args:
        cluster: whose authority signs.
        server: the API server's URL.
        user: Kubernetes user name.
        groups: Kubernetes groups; `system:masters` may do everything.
        path: where to; by default named after the user in `cluster.kubeconfigs`.

    Returns:
        Its path. The file contains all it needs and is readable by its owner only.
    """
    name = user.replace(":", "-").replace("/", "-")
    pair = cluster_authority(cluster).client(f"client-{name}", user=user, groups=groups)
    credentials = {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
    return _write_kubeconfig(cluster, path or cluster.kubeconfigs / name, server, user, credentials)


def token_kubeconfig(cluster: Cluster, *, server: str, user: str, token: str, path: Path) -> Path:
    """Write a kubeconfig that holds a bearer token."""
    return _write_kubeconfig(cluster, path, server, user, {"token": token})


def _write_kubeconfig(cluster: Cluster, path: Path, server: str, user: str, credentials: dict[str, Any]) -> Path:
    authority = _base64(cluster.pki / "ca.crt")
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster.name, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": user}}],
        "current-context": cluster.name,
    }
    write_atomically(path, yaml.safe_dump(content, sort_keys=False), mode=0o600)
    return path


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
        # Clients that verify strictly (Python 3.13's default) want both of these.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(user: str, groups: Iterable[str] = ()) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _write(pair: KeyPair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    write_atomically(pair.key, _pem(key), mode=0o600)
    write_atomically(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM).decode())


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
