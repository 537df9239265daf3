"""The tier `cluster` itself: what a test of the operator may rely on."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import dns, images, network, node, production, storage
from devcluster.api import RunningCluster
from devcluster.cluster import restart_node
from devcluster.errors import DevclusterError
from devcluster.paths import Cluster
from devcluster.progress import Progress
from tests.cluster.pods import PRODUCTION_NAME, USER, Manifest, Namespace, claim, restricted_pod, wait_for

DENY_ALL: Manifest = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny-all"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}

NAMESPACES = network.NAMESPACES

CUT_OFF_SECONDS = 60
"""Cilium enforces a policy within two seconds, and goes through all endpoints of a busy node for that."""


def until_connected(namespace: Namespace, pod: str, address: str, port: int = production.PORT) -> None:
    """Wait until a pod reaches an address: each try lasts for a second, and Cilium may not have connected it yet."""
    wait_for(lambda: namespace.reaches(pod, address, port), seconds=60, what=f"{pod} reaches {address} {port}")


def until_cut_off(namespace: Namespace, pod: str, address: str, port: int) -> None:
    """Wait until a pod does not reach an address any more."""
    wait_for(
        lambda: not namespace.reaches(pod, address, port),
        seconds=CUT_OFF_SECONDS,
        what=f"{pod} is cut off from {address} {port}",
    )


@pytest.fixture
def pod(namespace: Namespace) -> str:
    """A running toolbox in `namespace`."""
    namespace.run(restricted_pod("toolbox"))
    return "toolbox"


def test_the_node_is_ready_and_runs_the_pinned_kubernetes(cluster: RunningCluster) -> None:
    found = json.loads(cluster.kubectl("get", "node", node.NAME, "--output=json"))
    conditions = {condition["type"]: condition["status"] for condition in found["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert found["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    assert not found["spec"].get("taints")


def test_a_restricted_pod_can_be_logged_and_entered(namespace: Namespace) -> None:
    namespace.run(restricted_pod("talker", command="echo said to the log; exec sleep infinity"))
    wait_for(lambda: "said to the log" in namespace.kubectl("logs", "talker"), seconds=60, what="the log arrives")
    assert namespace.inside("talker", "id", "-u").strip() == str(USER)


def test_a_pod_can_have_a_user_namespace_of_its_own(namespace: Namespace) -> None:
    namespace.run(restricted_pod("mapped", host_users=False))
    inside, outside, _ = namespace.inside("mapped", "cat", "/proc/self/uid_map").split()
    assert inside == "0"
    assert int(outside) > 65535


def test_the_default_storage_class_keeps_what_a_pod_wrote_for_the_next_pod(namespace: Namespace) -> None:
    namespace.create(claim("workspace"))
    namespace.run(restricted_pod("writer", command="echo kept > /data/file; exec sleep infinity", claim="workspace"))
    bound = namespace.get("persistentvolumeclaim", "workspace")
    assert bound["spec"]["storageClassName"] == storage.STORAGE_CLASS
    assert bound["status"]["phase"] == "Bound"
    wait_for(
        lambda: namespace.inside("writer", "sh", "-c", "cat /data/file || true").strip() == "kept",
        seconds=60,
        what="the writer writes",
    )
    namespace.kubectl("delete", "pod", "writer")
    namespace.run(restricted_pod("reader", claim="workspace"))
    assert namespace.inside("reader", "cat", "/data/file").strip() == "kept"
    assert namespace.inside("reader", "stat", "-c", "%u:%g", "/data/file").strip() == f"{USER}:{USER}"


def test_a_deny_all_is_in_force_within_seconds_and_ends_with_its_deletion(
    cluster: RunningCluster, namespace: Namespace, pod: str
) -> None:
    with Namespace.created(cluster) as other:
        other.run(restricted_pod("bystander"))
        until_connected(namespace, pod, network.PRODUCTION_ADDRESS)
        until_connected(other, "bystander", network.PRODUCTION_ADDRESS)
        namespace.create(DENY_ALL)
        wait_for(
            lambda: not namespace.reaches(pod, network.PRODUCTION_ADDRESS, production.PORT),
            seconds=CUT_OFF_SECONDS,
            what="the pod is cut off",
        )
        assert not namespace.reaches(pod, network.METADATA_ADDRESS, 80)
        assert not namespace.reaches(pod, "10.96.0.1", 443)
        assert not namespace.reaches(pod, network.NODE_ADDRESS, 10250)
        until_connected(other, "bystander", network.PRODUCTION_ADDRESS)  # others are not concerned
        namespace.kubectl("delete", "networkpolicy", "deny-all")
        wait_for(
            lambda: namespace.reaches(pod, network.PRODUCTION_ADDRESS, production.PORT),
            seconds=60,
            what="the pod is connected again",
        )


def test_a_service_leads_to_its_pods_and_policies_see_through_it(namespace: Namespace, pod: str) -> None:
    namespace.run(restricted_pod("server", labels={"app": "server"}, command="exec python3 -m http.server 8080"))
    namespace.kubectl("expose", "pod", "server", "--port=80", "--target-port=8080")
    address = str(namespace.get("service", "server")["spec"]["clusterIP"])
    wait_for(lambda: namespace.reaches(pod, address, 80), seconds=60, what="the Service answers")
    namespace.create(DENY_ALL)
    wait_for(lambda: not namespace.reaches(pod, address, 80), seconds=CUT_OFF_SECONDS, what="the Service is cut off")


def test_the_database_answers_in_production_and_to_a_pod_without_policies(
    cluster: RunningCluster, namespace: Namespace, pod: str
) -> None:
    count = "SELECT count(*) FROM orders"
    assert production.sql(cluster, count) == str(production.ROWS)
    database = production.database(cluster)
    url = f"postgresql://{database.user}:{database.password}@{database.host}:{database.port}/{database.name}"
    answer = namespace.inside(pod, "psql", url, "-At", "-c", count)
    assert answer.strip() == str(production.ROWS)


def test_the_database_refuses_who_does_not_know_the_password(
    cluster: RunningCluster, namespace: Namespace, pod: str
) -> None:
    database = production.database(cluster)
    url = f"postgresql://{database.user}:guessed@{database.host}:{database.port}/{database.name}"
    with pytest.raises(DevclusterError, match="password authentication failed"):
        namespace.inside(pod, "psql", url, "-c", "SELECT 1")


METADATA = {
    "EC2, first version": (["http://{}/latest/meta-data/iam/security-credentials/"], "node-role"),
    "EC2, second version": (["-X", "PUT", "http://{}/latest/api/token"], "devcluster-imdsv2-session"),
    "GCE": (
        ["-H", "Metadata-Flavor: Google", "http://{}/computeMetadata/v1/instance/service-accounts/default/token"],
        "this-token-opens-nothing",
    ),
    "GCE without its header": (
        ["http://{}/computeMetadata/v1/instance/service-accounts/default/token"],
        "Missing required header",
    ),
}


@pytest.mark.parametrize("case", METADATA)
def test_the_metadata_service_answers_a_pod_without_policies(
    cluster: RunningCluster, namespace: Namespace, pod: str, case: str
) -> None:
    arguments, expected = METADATA[case]
    asked = [argument.format(network.METADATA_ADDRESS) for argument in arguments]
    until_connected(namespace, pod, network.METADATA_ADDRESS, 80)
    assert expected in namespace.inside(pod, "curl", "--silent", "--max-time", "5", *asked)


@pytest.mark.parametrize("name", NAMESPACES)
@pytest.mark.parametrize(
    "address", ["8.8.8.8", "198.51.100.1", "192.168.0.1", "172.16.0.1", "2600::1", "fd00:1::1", "64:ff9b::808:808"]
)
def test_no_namespace_has_a_route_out(cluster: RunningCluster, name: str, address: str) -> None:
    # Asked of the routing table: no packet is sent.
    asked = subprocess.run(["ip", "-netns", name, "route", "get", address], capture_output=True, text=True, check=False)
    assert asked.returncode != 0
    assert "unreachable" in asked.stderr


@pytest.mark.parametrize("name", NAMESPACES)
@pytest.mark.parametrize("family", ["-4", "-6"])
def test_no_namespace_has_a_default_route(cluster: RunningCluster, name: str, family: str) -> None:
    asked = ["ip", "-netns", name, family, "route", "show", "default"]
    assert subprocess.run(asked, capture_output=True, check=True).stdout == b""


def test_the_host_and_the_node_know_each_other_by_ipv4_only(cluster: RunningCluster) -> None:
    for entered, link in (((), network.HOST_LINK), (("-netns", network.NODE), network.NODE_LINK)):
        asked = ["ip", *entered, "-6", "address", "show", "dev", link]
        assert subprocess.run(asked, capture_output=True, check=True).stdout == b""


def test_pods_have_an_address_of_each_family_and_reach_each_other_and_production_by_both(
    namespace: Namespace, pod: str
) -> None:
    namespace.run(restricted_pod("server", command="exec nc -6 -l -k 8080"))
    addresses = namespace.addresses("server")
    assert [ipaddress.ip_address(address).version for address in addresses] == [4, 6]
    # The server is ready when its container runs, and listens a little later.
    for address in addresses:
        until_connected(namespace, pod, address, 8080)
    until_connected(namespace, pod, network.PRODUCTION_ADDRESS_6)
    until_connected(namespace, pod, network.METADATA_ADDRESS_6, 80)
    namespace.create(DENY_ALL)
    # The server's own walls may stand before those of the pod, so each way out is waited for.
    for address, port in ((addresses[1], 8080), (network.PRODUCTION_ADDRESS_6, production.PORT)):
        until_cut_off(namespace, pod, address, port)


def test_a_dropped_table_can_be_restored(cluster: RunningCluster) -> None:
    count = "SELECT count(*), sum(amount) FROM orders"
    before = production.sql(cluster, count)
    production.sql(cluster, "DROP TABLE orders")
    production.restore(cluster)
    assert production.sql(cluster, count) == before


def test_names_are_resolved_once_dns_is_installed(cluster: RunningCluster, namespace: Namespace) -> None:
    dns.install(cluster, hosts={PRODUCTION_NAME: network.PRODUCTION_ADDRESS}, progress=Progress())
    namespace.run(restricted_pod("asking", dns="ClusterFirst"))
    namespace.kubectl("create", "service", "externalname", "alias", f"--external-name={PRODUCTION_NAME}")
    expected = {
        "kubernetes.default.svc.cluster.local": "10.96.0.1",
        "kube-dns.kube-system": network.DNS_ADDRESS,
        PRODUCTION_NAME: network.PRODUCTION_ADDRESS,
        "alias": network.PRODUCTION_ADDRESS,
    }

    def found() -> dict[str, str]:
        asked = "for name in $*; do getent ahostsv4 $name | head -n 1 | cut -d' ' -f1; echo =; done"
        answers = namespace.inside("asking", "sh", "-c", asked, "sh", *expected).split("=")
        return {name: answer.strip() for name, answer in zip(expected, answers, strict=False)}

    wait_for(lambda: found() == expected, seconds=90, what="all are found", interval=0.5)
    wait_for(lambda: PRODUCTION_NAME in dns.queries(cluster), seconds=30, what="DNS writes down queries")


@pytest.fixture
def packets_of_pods() -> Iterator[set[tuple[str, str, str]]]:
    """Packets with a pod's address that pass through the host's namespace: (interface, source, destination)."""
    seen: set[tuple[str, str, str]] = set()
    ended = threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003)) as listener:  # ETH_P_ALL
        listener.settimeout(0.1)

        def listen() -> None:
            while not ended.is_set():
                try:
                    data, origin = listener.recvfrom(64)
                except TimeoutError:
                    continue
                if len(data) >= 20 and data[0] >> 4 == 4:
                    source, target = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
                    if source.startswith("10.244.") or target.startswith("10.244."):
                        seen.add((origin[0], source, target))

        thread = threading.Thread(target=listen)
        thread.start()
        yield seen
        ended.set()
        thread.join()


def test_the_host_does_not_answer_a_pod_on_its_way_out(
    namespace: Namespace, pod: str, packets_of_pods: set[tuple[str, str, str]]
) -> None:
    """A host without the check of return paths sent its answers to pods out by its own default route."""
    own = namespace.address(pod)
    arrived = (network.HOST_LINK, own, network.HOST_ADDRESS)

    def tried() -> bool:
        assert not namespace.reaches(pod, network.HOST_ADDRESS, 22)
        return arrived in packets_of_pods

    # Each try lasts for a second, and Cilium may not have connected the pod yet.
    wait_for(tried, seconds=60, what="the pod's packet reaches the host")
    assert packets_of_pods == {arrived}


def test_an_image_is_built_on_the_base_and_runs_at_once(
    cluster: RunningCluster, namespace: Namespace, tmp_path: Path
) -> None:
    (tmp_path / "Containerfile").write_text(
        "ARG BASE_IMAGE=python:3.13-slim\nFROM ${BASE_IMAGE}\nARG WORD\n"
        'COPY say.py /say.py\nRUN echo "built with ${WORD}" > /word\nUSER 65532\nCMD ["python", "/say.py"]\n'
    )
    (tmp_path / "say.py").write_text("print(open('/word').read(), flush=True)\n")
    archive = images.build(
        tmp_path / "Containerfile",
        tmp_path,
        "localhost/bulkhead/test-image:dev",
        {"WORD": "care"},
        progress=Progress(),
    )
    images.load(cluster, archive)
    manifest = restricted_pod("said", image="localhost/bulkhead/test-image:dev")
    del manifest["spec"]["containers"][0]["command"]
    namespace.create(manifest)
    namespace.kubectl("wait", "pod/said", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
    assert namespace.kubectl("logs", "said").strip() == "built with care"


def test_a_failed_build_says_what_failed(tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo told you; false\n")
    with pytest.raises(DevclusterError, match=r"(?s)buildah failed.*told you"):
        images.build(tmp_path / "Containerfile", tmp_path, "localhost/bulkhead/test-failing:dev", progress=Progress())


def test_a_second_cluster_of_this_tier_is_refused_and_the_first_stays(
    cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BULKHEAD_STATE", str(tmp_path))
    with pytest.raises(DevclusterError, match=re.escape("a machine can have one cluster of tier `cluster`")):
        network.create(Cluster.named("second", tier="cluster"))
    assert not (tmp_path / "second").exists(), "nothing is noted as made, so nothing of the first would be undone"
    assert cluster.kubectl("get", "nodes", "--output=name").strip() == f"node/{node.NAME}"


def test_after_a_restart_of_the_node_pods_run_again_and_deleted_ones_do_not(
    cluster: RunningCluster, namespace: Namespace
) -> None:
    namespace.create(claim("workspace"))
    stays = restricted_pod(
        "stays", command="date >> /data/starts; exec sleep infinity", claim="workspace", restart="Always"
    )
    namespace.run(stays)
    namespace.run(restricted_pod("goes", restart="Always"))
    before = namespace.get("pod", "stays")["status"]["containerStatuses"][0]["containerID"]
    namespace.kubectl("delete", "pod", "goes")
    restart_node(cluster)
    wait_for(
        lambda: namespace.get("pod", "stays")["status"]["containerStatuses"][0]["restartCount"] == 1,
        seconds=180,
        what="the pod runs again",
        interval=0.3,
    )
    namespace.wait_ready("stays", seconds=120)
    assert namespace.get("pod", "stays")["status"]["containerStatuses"][0]["containerID"] != before
    # It is ready when its container runs; its shell may not have written anything yet.
    wait_for(
        lambda: len(namespace.inside("stays", "cat", "/data/starts").splitlines()) == 2,
        seconds=30,
        what="it adds a line to the one in its volume, which survived",
        interval=0.2,
    )
    assert "pod/goes" not in namespace.kubectl("get", "pods", "--output=name")
    until_connected(namespace, "stays", network.PRODUCTION_ADDRESS)
