"""Agents under SandboxPolicies: who runs, who stops, and what follows when the world around them changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bulkhead.api import conditions
from devcluster.api import RunningCluster
from tests.apiserver.agents import RESTRICTED_POD, Lab, went_down_in_order
from tests.apiserver.conftest import POLICIES, policy
from tests.apiserver.rest import MERGE, Rest
from tests.operator_process import OperatorProcess, eventually, install_rights

Object = dict[str, Any]

OUTSIDE = "203.0.113.0/24"


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    with OperatorProcess(install_rights(apiserver), tmp_path_factory.mktemp("operator")) as running:
        yield running


@pytest.fixture
def lab(operator: OperatorProcess, rest: Rest, sandbox: str) -> Lab:
    return Lab(rest, sandbox)


@pytest.fixture
def strict(rest: Rest, sandbox: str) -> Iterator[str]:
    """The name of a second policy, which selects the test's namespace alone and accepts whatever it names."""
    name = f"strict-{sandbox}"
    selector = {"matchLabels": {"kubernetes.io/metadata.name": sandbox}}
    made = rest.post(POLICIES, policy(name, namespaceSelector=selector))
    assert made.ok, made.message
    yield name
    rest.delete(f"{POLICIES}/{name}")


def edit(rest: Rest, name: str, **spec: Any) -> None:
    answer = rest.send("PATCH", f"{POLICIES}/{name}", {"spec": spec}, content_type=MERGE)
    assert answer.ok, answer.message


def cidr(network: str, *excepted: str) -> Object:
    to: Object = {"cidr": network, **({"except": list(excepted)} if excepted else {})}
    return {"egress": [{"to": to, "ports": [{"port": 443}]}]}


def says(lab: Lab, name: str, condition: str, status: str) -> bool:
    return lab.condition(name, condition).get("status") == status


def reasons(lab: Lab, name: str) -> list[str]:
    return [one["type"] for one in lab.status(name).get("suspension", {}).get("reasons") or ()]


def test_a_policy_that_is_tightened_stops_what_it_no_longer_accepts_and_says_which_field(
    lab: Lab, rest: Rest, strict: str
) -> None:
    lab.create("pair", replicas=2)
    lab.create("single")
    lab.until_built(["pair", "single"])
    for name in ("pair", "single"):
        lab.until_state(name, "Starting")  # pods are there before the status, which may be that of an earlier refusal

    edit(rest, strict, workload={"maxReplicas": 1})

    lab.until_state("pair", "Refused")
    accepted = lab.condition("pair", "PolicyAccepted")
    assert accepted["status"] == "False"
    assert strict in accepted["message"]
    assert "spec.replicas" in accepted["message"]
    assert lab.state("single") == "Starting"
    eventually(lambda: [n for n in lab.names("Pod") if n.startswith("pair")] == [], "its pods are gone")
    edit(rest, strict, workload={"maxReplicas": 2})
    lab.until_built(["pair"])


def test_an_agent_that_is_scaled_past_a_ceiling_stops(lab: Lab, rest: Rest, strict: str) -> None:
    edit(rest, strict, workload={"maxReplicas": 1})
    lab.create("scout")
    lab.until_built(["scout"])

    scale = {"spec": {"replicas": 50}}
    answer = rest.send("PATCH", lab.path("AgentDeployment", "scout") + "/scale", scale, content_type=MERGE)

    # On a cluster with the chart's admission policies the API server refuses this already.
    assert answer.ok, answer.message
    lab.until_state("scout", "Refused")
    assert not lab.list("StatefulSet")


def test_without_a_policy_no_agent_runs_and_the_last_policy_deleted_stops_them_in_order(
    apiserver: RunningCluster, rest: Rest, sandbox: str, lab: Lab
) -> None:
    everyone = rest.get(f"{POLICIES}/default").body["spec"]
    elsewhere = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}}
    edit(rest, "default", **elsewhere)
    try:
        lab.create("scout")
        # The namespace is as new as the agent, and who hears of it later refuses the agent for that first.
        eventually(lambda: reasons(lab, "scout") == ["NoPolicy"], lambda: f"no policy, but {reasons(lab, 'scout')}")
        lab.until_state("scout", "Refused")
        assert not lab.list("Pod")

        own = policy("own", namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": sandbox}})
        assert rest.post(POLICIES, own).ok
        lab.until_built(["scout"])
        # The pod is there before the status says why it may be.
        eventually(lambda: lab.status("scout").get("policies") == ["own"], "the policy that applies is named")

        assert rest.delete(f"{POLICIES}/own").ok
        lab.until_state("scout", "Refused")
        eventually(lambda: lab.condition("scout", "Suspended").get("status") == "True", "it has stopped")
        assert went_down_in_order(lab.status("scout")["suspension"])
        assert not lab.list("Pod")
    finally:
        edit(rest, "default", namespaceSelector=None, **{k: v for k, v in everyone.items() if k != "namespaceSelector"})


def test_production_is_refused_with_what_overlaps_and_what_would_be_accepted(lab: Lab, rest: Rest, strict: str) -> None:
    edit(rest, "default", network={"egressCIDRs": [OUTSIDE]})
    edit(rest, strict, network={"egressCIDRs": [OUTSIDE]}, production={"cidrs": ["203.0.113.64/26"]})
    try:
        lab.create("scout", network=cidr(OUTSIDE))

        def message() -> str:
            return str(lab.condition("scout", "PolicyAccepted").get("message"))

        # Policies and agents come by two watches: at first it may be refused by what the policies were before.
        eventually(lambda: "203.0.113.64/26" in message(), lambda: f"production is named: {message()}")
        lab.until_state("scout", "Refused")
        assert "203.0.113.64/26" in message()
        assert strict in message()
        assert not lab.get("NetworkPolicy", "agent-scout")

        lab.patch("scout", network=cidr(OUTSIDE, "203.0.113.64/26"))
        lab.until_built(["scout"])
        rule = lab.the("NetworkPolicy", "agent-scout")["spec"]["egress"]
        assert rule[0]["to"] == [{"ipBlock": {"cidr": OUTSIDE, "except": ["203.0.113.64/26"]}}]
    finally:
        edit(rest, "default", network={"egressCIDRs": None})


def test_a_suspension_takes_what_the_agent_may_reach_and_a_resume_gives_it_back(lab: Lab) -> None:
    lab.create("scout", network={"egress": [{"to": {"pods": {"labels": {"app": "x"}}}, "ports": [{"port": 80}]}]})
    lab.until_built(["scout"])
    assert lab.get("NetworkPolicy", "agent-scout")

    lab.patch("scout", suspend=True)
    lab.until_state("scout", "Suspended")
    assert lab.names("NetworkPolicy") == ["bulkhead-deny-all"]

    lab.patch("scout", suspend=False)
    lab.until_built(["scout"])
    assert lab.names("NetworkPolicy") == ["agent-scout", "bulkhead-deny-all"]


def test_rules_follow_a_service_that_is_made_edited_and_deleted(lab: Lab) -> None:
    services = f"/api/v1/namespaces/{lab.namespace}/services"
    wanted = {"egress": [{"to": {"service": f"{lab.namespace}/search"}}]}
    lab.create("scout", network=wanted)
    lab.until_built(["scout"])

    def missed() -> bool:
        return "does not exist" in lab.condition("scout", "NetworkAsPlanned").get("message", "")

    eventually(missed, "the Service is missed")
    assert not lab.get("NetworkPolicy", "agent-scout")

    spec = {"selector": {"app": "search"}, "ports": [{"port": 80, "targetPort": 8080}]}
    made = lab.rest.post(services, {"metadata": {"name": "search"}, "spec": spec})
    assert made.ok, made.message

    def rule() -> Any:
        found = lab.get("NetworkPolicy", "agent-scout")
        return found and found["spec"]["egress"][0]

    eventually(lambda: rule() and rule()["ports"] == [{"protocol": "TCP", "port": 8080}], "the rule names the port")

    def named() -> Any:
        return lab.the("StatefulSet", "scout")["spec"]["template"]["spec"].get("hostAliases")

    aliases = eventually(named, "the Service has a name in the pod")
    assert aliases[0]["ip"] == made.body["spec"]["clusterIP"]
    assert f"search.{lab.namespace}.svc.cluster.local" in aliases[0]["hostnames"]

    moved = {"spec": {"selector": {"app": "search", "tier": "two"}}}
    lab.rest.send("PATCH", f"{services}/search", moved, content_type=MERGE)
    eventually(
        lambda: rule()["to"][0]["podSelector"]["matchLabels"] == {"app": "search", "tier": "two"}, "the rule follows"
    )
    lab.rest.delete(f"{services}/search")
    eventually(lambda: not lab.get("NetworkPolicy", "agent-scout"), "the rule goes with the Service")


HARMLESS = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]}
EVERYTHING = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}
METADATA = {
    "podSelector": {},
    "policyTypes": ["Egress"],
    "egress": [{"to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}]}],
}


def hand_written(name: str, spec: Object) -> Object:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}


def test_a_hand_written_policy_is_a_condition_on_every_agent_that_it_touches_by_name(lab: Lab) -> None:
    lab.create("one")
    lab.create("two")
    lab.until_built(["one", "two"])

    lab.put("NetworkPolicy", hand_written("mine", HARMLESS))

    for name in ("one", "two"):
        eventually(partial(says, lab, name, "NetworkAsPlanned", "False"), "it is seen")
        assert "NetworkPolicy mine" in lab.condition(name, "NetworkAsPlanned")["message"]
        assert lab.state(name) == "Starting"
    lab.delete("NetworkPolicy", "mine")
    eventually(lambda: lab.condition("one", "NetworkAsPlanned").get("status") == "True", "it is as planned again")


@pytest.mark.parametrize("spec", [EVERYTHING, METADATA], ids=["everything", "metadata"])
@pytest.mark.parametrize("disguised", [False, True], ids=["plain", "with our labels"])
def test_a_hand_written_way_to_the_floor_stops_the_namespaces_agents(lab: Lab, spec: Object, disguised: bool) -> None:
    lab.create("one")
    lab.create("two")
    lab.until_built(["one", "two"])
    written = hand_written("mine", spec)
    if disguised:
        written["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "bulkhead", "bulkhead.dev/agent": "one"}

    lab.put("NetworkPolicy", written)

    for name in ("one", "two"):
        lab.until_state(name, "Widened")
        assert "NetworkPolicy mine" in lab.condition(name, "Ready")["message"]
    eventually(lambda: not lab.list("Pod"), "nothing runs")
    lab.delete("NetworkPolicy", "mine")
    lab.until_built(["one", "two"])


def test_a_strangers_service_that_takes_a_granted_address_stops_the_agent_until_it_gives_it_back(
    lab: Lab, rest: Rest, strict: str
) -> None:
    edit(rest, "default", network={"egressCIDRs": [OUTSIDE]})
    edit(rest, strict, network={"egressCIDRs": [OUTSIDE]})
    services = "/api/v1/namespaces/default/services"
    try:
        lab.create("scout", network=cidr(OUTSIDE))
        lab.create("bystander")
        lab.until_built(["scout", "bystander"])
        spec = {"ports": [{"port": 443, "targetPort": 5432}], "externalIPs": ["203.0.113.99"]}
        made = rest.post(services, {"metadata": {"name": "thief"}, "spec": spec})
        assert made.ok, made.message

        lab.until_state("scout", "Widened")
        assert "Service default/thief" in lab.condition("scout", "NetworkAsPlanned")["message"]
        lab.until_state("bystander", "Starting")  # its pod is there before its status

        moved = {"spec": {"externalIPs": ["198.51.100.7"]}}
        assert rest.send("PATCH", f"{services}/thief", moved, content_type=MERGE).ok
        lab.until_built(["scout"])
    finally:
        rest.delete(f"{services}/thief")
        edit(rest, "default", network={"egressCIDRs": None})


def gate_says(lab: Lab, pod: str, *, answered: str = "") -> None:
    """Writes what the kubelet would report of the gate's containers."""
    when = conditions.format_time(datetime.now(UTC))
    terminated = {"exitCode": 0, "reason": "Completed", "startedAt": when, "finishedAt": when}
    gate = {**terminated, "message": f"closed 3 targets at {when}"}
    watch: Object = {"state": {"running": {"startedAt": when}}}
    if answered:
        lost = {**terminated, "exitCode": 3, "reason": "Error", "message": f"open: {answered} at {when}"}
        watch["lastState"] = {"terminated": lost}
    common = {"image": "x", "imageID": "x", "ready": True, "restartCount": 0, "started": True}
    statuses = [
        {"name": "isolation-gate", "state": {"terminated": gate}, **common},
        {"name": "isolation-watch", **common, **watch},
    ]
    path = lab.path("Pod", pod) + "/status"
    answer = lab.rest.send("PATCH", path, {"status": {"initContainerStatuses": statuses}}, content_type=MERGE)
    assert answer.ok, answer.message


def test_what_the_gate_says_is_told_and_a_loss_suspends_at_once_and_is_over_after_a_cool_down(lab: Lab) -> None:
    lab.create("scout")
    lab.until_built(["scout"])
    gate_says(lab, "scout-0")
    eventually(lambda: lab.condition("scout", "Isolated").get("status") == "True", "isolation is proven")
    record = lab.status("scout")["isolation"]
    assert record["result"] == "Proven"
    assert any("169.254.169.254" in target for target in record["targets"])

    gate_says(lab, "scout-0", answered="metadata TCP 169.254.169.254 80 accepted")

    lab.until_state("scout", "CircuitOpen")
    assert "169.254.169.254" in lab.condition("scout", "Isolated")["message"]
    eventually(lambda: not lab.list("Pod"), "nothing runs")
    eventually(lambda: reasons(lab, "scout") == ["CircuitOpen"], "the breaker holds it, the pod being gone")
    circuit = lab.status("scout")["circuit"]
    assert [one["type"] for one in circuit["trips"]] == ["IsolationLost"]
    assert circuit["attempts"] == 1
    assert lab.status("scout")["isolation"]["lostAt"]
    lab.until_built(["scout"], within=180)  # the cool-down alone is more than half a minute
    eventually(lambda: lab.condition("scout", "Isolated").get("reason") == "Pending", "it is being proven again")
    assert lab.status("scout")["circuit"]["state"] == "HalfOpen"


def test_losses_of_isolation_are_events_and_metrics(lab: Lab, operator: OperatorProcess) -> None:
    lab.create("scout")
    lab.until_built(["scout"])
    gate_says(lab, "scout-0", answered="kubelet TCP node 10250 refused")
    lab.until_state("scout", "CircuitOpen")

    def told() -> bool:
        events = lab.rest.get(f"/apis/events.k8s.io/v1/namespaces/{lab.namespace}/events").body["items"]
        telling = {one["reason"] for one in events if "kubelet" in one["note"]}
        return {"Suspending", "CircuitOpened"} <= telling

    eventually(told, "an event tells of it")
    text = operator.read(operator.readiness, "/metrics")
    assert f'bulkhead_agents{{namespace="{lab.namespace}",state="CircuitOpen"}} 1.0' in text


def test_deleted_admission_policies_are_a_condition_an_event_and_a_metric_within_seconds(
    apiserver: RunningCluster, rest: Rest, sandbox: str, tmp_path: Path, operator: OperatorProcess
) -> None:
    lab = Lab(rest, sandbox)
    operator.terminate()
    group = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    labels = {"app.kubernetes.io/part-of": "bulkhead"}
    expected = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "bulkhead-try", "labels": labels},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {"matchLabels": {"no": "such"}},
                "objectSelector": {},
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                        "scope": "*",
                    }
                ],
            },
            "validations": [{"expression": "false"}],
        },
    }
    folder = tmp_path / "admission"
    folder.mkdir()
    (folder / "try.yaml").write_text(json.dumps(expected))
    assert rest.post(group, expected).ok
    try:
        with OperatorProcess(operator.kubeconfig, tmp_path, extra=(f"--admission-dir={folder}",)) as knowing:
            lab.create("scout")
            lab.until_built(["scout"])
            eventually(lambda: lab.condition("scout", "AdmissionInForce").get("status") == "True", "it is in force")

            weaker = {"spec": {"failurePolicy": "Ignore"}}
            assert rest.send("PATCH", f"{group}/bulkhead-try", weaker, content_type=MERGE).ok
            eventually(lambda: lab.condition("scout", "AdmissionInForce").get("status") == "False", "seen")
            assert "bulkhead-try" in lab.condition("scout", "AdmissionInForce")["message"]
            assert "bulkhead_admission_problems 1.0" in knowing.read(knowing.readiness, "/metrics")
            restored = {"spec": {"failurePolicy": "Fail"}}
            assert rest.send("PATCH", f"{group}/bulkhead-try", restored, content_type=MERGE).ok
            eventually(lambda: lab.condition("scout", "AdmissionInForce").get("status") == "True", "restored")

            assert rest.delete(f"{group}/bulkhead-try").ok
            eventually(lambda: lab.condition("scout", "AdmissionInForce").get("status") == "False", "seen")

            def told() -> bool:
                events = rest.get(f"/apis/events.k8s.io/v1/namespaces/{sandbox}/events").body["items"]
                return any(one["reason"] == "Weakened" and "bulkhead-try" in one["note"] for one in events)

            eventually(told, "an event tells of it")
    finally:
        rest.delete(f"{group}/bulkhead-try")
        operator.start()


def test_a_pod_with_an_agents_labels_is_not_taken_for_its_own(lab: Lab) -> None:
    lab.create("scout")
    lab.until_built(["scout"])
    labels = lab.the("Pod", "scout-0")["metadata"]["labels"]
    spoofed = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "spoofed", "labels": {**labels, "statefulset.kubernetes.io/pod-name": "spoofed"}},
        "spec": RESTRICTED_POD,
    }
    # The controller that makes it may be behind.
    eventually(lambda: lab.get("ServiceAccount", "default"), "the namespace's own account")
    lab.put("Pod", spoofed)

    lab.patch("scout", suspend=True)
    lab.until_state("scout", "Suspended")

    # On a cluster with the chart's admission policies it could not have been made at all.
    assert lab.names("Pod") == ["spoofed"]
