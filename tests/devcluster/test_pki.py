"""Certificates that strict clients accept, and kubeconfigs that hold all they need."""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
import threading
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from devcluster import pki
from devcluster.paths import Cluster


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_an_authority_opened_again_is_the_same(tmp_path: Path) -> None:
    first = pki.Authority(tmp_path, "ca").files.certificate.read_bytes()

    assert pki.Authority(tmp_path, "ca").files.certificate.read_bytes() == first


def test_a_client_certificate_names_user_and_groups(tmp_path: Path) -> None:
    pair = pki.Authority(tmp_path, "ca").client("alice", user="alice@example.com", groups=["team-a", "team-b"])

    subject = certificate(pair.certificate).subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["alice@example.com"]
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["team-a", "team-b"]


def test_a_serving_certificate_is_good_for_its_names_and_addresses(tmp_path: Path) -> None:
    pair = pki.Authority(tmp_path, "ca").server("api", ["kubernetes.default", "10.96.0.1", "fd00::1"])

    names = certificate(pair.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kubernetes.default"]
    addresses = names.get_values_for_type(x509.IPAddress)
    assert addresses == [ipaddress.ip_address("10.96.0.1"), ipaddress.ip_address("fd00::1")]


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path, "ca")

    keys = [authority.files.key, authority.client("c", user="c").key, authority.server("s", ["localhost"]).key]
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600, 0o600, 0o600]


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """Shake hands over a socket pair.

    Returns:
        Why the server refused the client, "" where it did not. Where the client refuses the server, that is raised.
    """
    ours, theirs = socket.socketpair()
    refusals: list[str] = []

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as connection:
                connection.recv(1)
        except OSError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        # With TLS 1.3 a client is done before the server has looked at its certificate, and then finds a closed line.
        with client.wrap_socket(ours, server_hostname=name) as connection:
            connection.send(b"x")
    except ssl.SSLCertVerificationError:
        raise
    except OSError:
        pass
    finally:
        ours.close()
        thread.join()
    return "".join(refusals)


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server that wants client certificates of our authority, and a client without one that verifies strictly."""
    authority = pki.Authority(tmp_path, "ca")
    serving = authority.server("api", ["localhost", "127.0.0.1"])
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.files.certificate))
    server.load_cert_chain(serving.certificate, serving.key)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    client = ssl.create_default_context(cafile=str(authority.files.certificate))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    return server, client


def test_both_ends_accept_each_other_when_they_verify_strictly(
    tmp_path: Path, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = contexts
    pair = pki.Authority(tmp_path, "ca").client("c", user="c")
    client.load_cert_chain(pair.certificate, pair.key)

    assert handshake(server, client, "127.0.0.1") == ""


def test_a_server_under_another_name_is_refused(
    tmp_path: Path, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = contexts
    pair = pki.Authority(tmp_path, "ca").client("c", user="c")
    client.load_cert_chain(pair.certificate, pair.key)

    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(server, client, "other.example")


def test_a_client_of_another_authority_is_refused(
    tmp_path: Path, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = contexts
    pair = pki.Authority(tmp_path / "other", "ca").client("c", user="c")
    client.load_cert_chain(pair.certificate, pair.key)

    assert "certificate verify failed" in handshake(server, client, "127.0.0.1")


def test_service_account_keys_stay_the_same_and_the_public_one_is_apart(cluster: Cluster) -> None:
    first, second = pki.service_account_keys(cluster), pki.service_account_keys(cluster)

    assert first == second
    assert first.certificate.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert "PRIVATE" not in first.certificate.read_text()


def test_a_client_kubeconfig_holds_its_certificate_and_the_authoritys(cluster: Cluster) -> None:
    path = pki.client_kubeconfig(cluster, server="https://127.0.0.1:1", user="system:node:a/b", groups=["g"])

    content = yaml.safe_load(path.read_text())
    assert path.parent == cluster.kubeconfigs
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    authority = base64.b64decode(content["clusters"][0]["cluster"]["certificate-authority-data"])
    assert authority == (cluster.pki / "ca.crt").read_bytes()
    pem = base64.b64decode(content["users"][0]["user"]["client-certificate-data"])
    [name] = x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "system:node:a/b"
