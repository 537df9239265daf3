"""What tier apiserver gives: one cluster for all these tests, with an audit log."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster import api
from tests.devcluster.support import wait_for


@pytest.fixture(scope="module")
def cluster() -> Iterator[api.RunningCluster]:
    """A cluster that is up, in a state root of its own."""
    root = Path(tempfile.mkdtemp(prefix="bulkhead-test-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BULKHEAD_STATE", str(root))
        running = api.up("apiserver", audit=True)
    yield running
    running.stop()
    shutil.rmtree(root)


def test_up_gives_a_cluster_that_keeps_objects_and_runs_controllers(cluster: api.RunningCluster) -> None:
    cluster.kubectl("create", "namespace", "sandbox")
    wait_for(lambda: "kube-root-ca.crt" in cluster.kubectl("get", "configmaps", "-n", "sandbox", "-o", "name"))
    published = cluster.kubectl(
        "get", "configmap", "kube-root-ca.crt", "-n", "sandbox", "-o", r"jsonpath={.data.ca\.crt}"
    )
    assert published.strip() == cluster.ca_file.read_text().strip()
    version = json.loads(cluster.kubectl("version", "--output=json"))

    assert version["serverVersion"]["gitVersion"] == "v1.36.3"


def test_the_audit_log_tells_who_did_what_where_it_was_asked_for(cluster: api.RunningCluster) -> None:
    def created() -> list[dict[str, Any]]:
        # What follows the last newline is being written: others have requests too.
        whole = cluster.audit_log.read_text().rpartition("\n")[0]
        events = [json.loads(line) for line in whole.splitlines()]
        return [e for e in events if e["verb"] == "create" and e.get("objectRef", {}).get("name") == "audited"]

    cluster.kubectl("create", "namespace", "audited")
    wait_for(created)

    assert [(e["user"]["username"], e["level"]) for e in created()] == [("kubernetes-admin", "Metadata")]


def test_requests_without_a_credential_are_refused(cluster: api.RunningCluster) -> None:
    tls = ssl.create_default_context(cafile=str(cluster.ca_file))
    connection = http.client.HTTPSConnection(cluster.server.removeprefix("https://"), context=tls)
    connection.request("GET", "/api/v1/namespaces")
    status = connection.getresponse().status
    connection.close()

    assert status == 401


def test_a_user_kubeconfig_acts_as_that_user_with_those_groups(cluster: api.RunningCluster) -> None:
    alice = api.user_kubeconfig(cluster, "alice", ["team-a", "team-b"])
    who = json.loads(cluster.kubectl("auth", "whoami", "--output=json", kubeconfig=alice))["status"]["userInfo"]
    refused = cluster.kubectl("get", "secrets", kubeconfig=alice, check=False)

    assert who["username"] == "alice"
    assert who["groups"] == ["team-a", "team-b", "system:authenticated"]
    assert 'User "alice" cannot list resource "secrets"' in refused


def test_a_token_kubeconfig_acts_as_the_service_account(cluster: api.RunningCluster) -> None:
    cluster.kubectl("create", "serviceaccount", "worker")
    worker = api.token_kubeconfig(cluster, "default", "worker", seconds=600)
    who = json.loads(cluster.kubectl("auth", "whoami", "--output=json", kubeconfig=worker))["status"]["userInfo"]

    assert who["username"] == "system:serviceaccount:default:worker"


def test_pod_security_is_enforced_on_a_namespace_that_asks_for_it(cluster: api.RunningCluster) -> None:
    cluster.kubectl("create", "namespace", "strict")
    cluster.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    wait_for(lambda: "default" in cluster.kubectl("get", "serviceaccounts", "-n", "strict", "-o", "name"))
    bad = ("run", "bad", "--image=example.invalid/x", "-n", "strict", "--dry-run=server")

    # What admission knows of a namespace's labels comes by a watch of its own.
    wait_for(lambda: 'violates PodSecurity "restricted:latest"' in cluster.kubectl(*bad, check=False))


def test_keys_and_kubeconfigs_are_readable_by_their_owner_only(cluster: api.RunningCluster) -> None:
    secret = [*cluster.pki.glob("*.key"), cluster.kubeconfig, *cluster.kubeconfigs.iterdir()]

    assert len(secret) > 5
    assert {oct(path.stat().st_mode & 0o777) for path in secret} == {"0o600"}
