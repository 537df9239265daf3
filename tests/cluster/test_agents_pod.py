"""The walls of an agent's pod, seen from inside it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from demo import installation
from demo.stage import Stage
from devcluster.errors import DevclusterError
from tests.cluster.agents import Sandbox, event_reasons
from tests.cluster.pods import Namespace, restricted_pod, wait_for
from tests.restricted import violations

HOG = "head -c 32M /dev/zero > /tmp/much; exec sleep infinity"


@pytest.fixture(scope="module")
def inmate(operator: Stage) -> Iterator[Sandbox]:
    """A sandbox with a Service, an agent "inmate", and an agent "hog" that writes more to /tmp than it may."""
    with Sandbox.opened(operator.cluster) as opened:
        opened.kubectl("create", "service", "clusterip", "tempting", "--tcp=80")
        opened.agent("hog", HOG, scratch="8Mi")
        opened.start("inmate")
        yield opened


def status_of_process(inmate: Sandbox) -> dict[str, str]:
    """What the kernel says about a process of the agent's."""
    lines = inmate.inside("inmate-0", "cat", "/proc/self/status").splitlines()
    return dict(re.split(r":\s*", line, maxsplit=1) for line in lines)


def test_it_is_an_unprivileged_user(inmate: Sandbox) -> None:
    status = status_of_process(inmate)
    assert status["Uid"].split() == ["65532"] * 4
    assert status["Gid"].split() == ["65532"] * 4


def test_it_has_no_capability_and_can_gain_none(inmate: Sandbox) -> None:
    status = status_of_process(inmate)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"] == "1"


def test_a_seccomp_filter_is_in_force(inmate: Sandbox) -> None:
    assert status_of_process(inmate)["Seccomp"] == "2"  # SECCOMP_MODE_FILTER
    with pytest.raises(DevclusterError, match="Operation not permitted"):
        inmate.inside("inmate-0", "unshare", "--user", "true")


@pytest.mark.parametrize("path", ["/", "/etc", "/home", "/var/lib", "/run", "/usr/bin"])
def test_the_root_file_system_is_read_only(inmate: Sandbox, path: str) -> None:
    with pytest.raises(DevclusterError, match="Read-only file system"):
        inmate.inside("inmate-0", "touch", f"{path}/file")


def test_it_can_write_to_tmp(inmate: Sandbox) -> None:
    written = inmate.inside("inmate-0", "sh", "-c", "echo scratch > /tmp/file && cat /tmp/file")
    assert written == "scratch\n"


def test_it_has_no_token(inmate: Sandbox) -> None:
    found = inmate.inside(
        "inmate-0", "sh", "-c", "find / -xdev -name '*token*' -path '*secrets*'; ls -A /var/run/secrets || true"
    )
    assert found == ""
    assert "secrets" not in inmate.read("inmate", "/proc/self/mounts")


def test_its_environment_names_no_service(inmate: Sandbox) -> None:
    """But the API server's, which the kubelet gives to every pod; nothing answers there."""
    names = {line.partition("=")[0] for line in inmate.inside("inmate-0", "env").splitlines()}
    services = {name for name in names if re.search("_SERVICE_|_PORT", name)}
    assert {name for name in services if not name.startswith("KUBERNETES_")} == set()
    assert {"BULKHEAD_AGENT", "BULKHEAD_AGENT_UID"} <= names


def test_its_pod_keeps_every_rule_of_the_restricted_standard(inmate: Sandbox) -> None:
    spec = inmate.pod("inmate")["spec"]
    # What the StatefulSet controller, admission and the scheduler have added.
    for added in ("hostname", "priority", "preemptionPolicy", "nodeName"):
        spec.pop(added)
    spec["tolerations"] = [one for one in spec["tolerations"] if not one["key"].startswith("node.kubernetes.io/")]
    assert violations(spec) == []


def test_the_namespaces_of_agents_and_operator_refuse_other_pods(operator: Stage, inmate: Sandbox) -> None:
    """So that these pods are there says that they were admitted as restricted ones."""
    pod = restricted_pod("intruder")
    pod["spec"]["hostNetwork"] = True
    for namespace in (inmate, Namespace(operator.cluster, installation.NAMESPACE)):
        with pytest.raises(DevclusterError, match=r'violates PodSecurity "restricted:v1\.34"'):
            namespace.create(pod)
        running = namespace.kubectl("get", "pods", "--field-selector=status.phase=Running", "--output=name")
        assert running.startswith("pod/")


def test_tmp_is_bounded(inmate: Sandbox) -> None:
    """The kubelet measures volumes now and then, and evicts a pod that is over the bound."""
    wait_for(lambda: "Evicted" in event_reasons(inmate), seconds=180, what="the hog is evicted", interval=0.5)
