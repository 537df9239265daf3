"""An API server that answers badly, or not at all, at any step: the operator gets there, and no other agent waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.rest import Rest
from tests.faults import Action, Answer, Delay, DropAfter, DropBefore, FaultProxy
from tests.operator_process import OperatorProcess, eventually, install_rights

STEPS = {
    "write the deny-all": ("POST", "/networkpolicies"),
    "write the identity": ("POST", "/serviceaccounts"),
    "write the workload": ("POST", "/statefulsets"),
    "change the workload": ("PATCH", "/statefulsets/scout"),
    "write the status": ("PATCH", "/agentdeployments/scout/status"),
    "delete the identity": ("DELETE", "/serviceaccounts/agent-scout"),
    "delete the workload": ("DELETE", "/statefulsets/scout"),
    "delete the pods": ("DELETE", "/pods/scout-0"),
    "prove that nothing is left": ("GET", "/pods.*fieldSelector"),
}
FAULTS: dict[str, Action] = {
    "409": Answer(409, reason="Conflict"),
    "422": Answer(422, reason="Invalid", causes=(("spec", "scripted"),)),
    "429": Answer(429, reason="TooManyRequests", retry_after=1),
    "500": Answer(500, reason="InternalError"),
    "no answer, not done": DropBefore(),
    "no answer, but done": DropAfter(),
    "late": Delay(0.7),
}


@pytest.fixture(scope="module")
def proxy(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    with FaultProxy(apiserver.kubeconfig) as made:
        yield made


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    folder: Path = tmp_path_factory.mktemp("operator")
    user = yaml.safe_load(install_rights(apiserver).read_text())["users"][0]["user"]
    kubeconfig = proxy.write_kubeconfig(folder / "kubeconfig", token=user["token"])
    with OperatorProcess(kubeconfig, folder) as running:
        yield running


@pytest.fixture
def lab(operator: OperatorProcess, proxy: FaultProxy, rest: Rest, sandbox: str) -> Iterator[Lab]:
    yield Lab(rest, sandbox)
    proxy.clear()


@pytest.fixture
def labs(
    operator: OperatorProcess, proxy: FaultProxy, rest: Rest, new_sandbox: Callable[[], str]
) -> Iterator[dict[str, Lab]]:
    """A sandbox for each fault, so that all of them happen in one run."""
    yield {fault: Lab(rest, new_sandbox()) for fault in FAULTS}
    proxy.clear()


@pytest.mark.parametrize("step", STEPS)
def test_no_fault_at_any_step_changes_what_comes_about(labs: dict[str, Lab], proxy: FaultProxy, step: str) -> None:
    method, path = STEPS[step]
    rules = {}
    for fault, lab in labs.items():
        eventually(lambda lab=lab: lab.get("NetworkPolicy", "bulkhead-deny-all"), "the deny-all")  # type: ignore[misc]
        where = f"/namespaces/{lab.namespace}{path}"
        rules[fault] = proxy.on(method, where, FAULTS[fault], watch=False, times=2)
        if path == "/networkpolicies":
            lab.delete("NetworkPolicy", "bulkhead-deny-all")
        lab.create("scout", suspendGraceSeconds=1)
    for lab in labs.values():
        lab.until_built(["scout"], within=60)
        lab.patch("scout", tenant="t1")
    for lab in labs.values():
        for kind, name in (("StatefulSet", "scout"), ("Pod", "scout-0")):
            # The pod is replaced: suspended just when there is none, the agent would have no pod to delete.
            carried_out = lambda lab=lab, kind=kind, name=name: tenant_of(lab, kind, name) == "t1"  # noqa: E731
            eventually(carried_out, f"the change of the {kind} is carried out", within=120)
        if step == "delete the pods":
            # Otherwise it may be collected with its controller before the operator looks.
            lab.keep_from_collector("Pod", "scout-0")
        lab.patch("scout", suspend=True)
    for lab in labs.values():
        lab.until_state("scout", "Suspended", within=60)
        assert (lab.list("Pod"), lab.list("StatefulSet")) == ([], [])
        lab.patch("scout", suspend=False)
    for lab in labs.values():
        lab.until_built(["scout"], within=60)
        lab.until_state("scout", "Starting", within=60)
    never = [fault for fault, rule in rules.items() if rule.used < 1]
    assert not never, "these faults never happened, so they prove nothing"


def tenant_of(lab: Lab, kind: str, name: str) -> str | None:
    found = lab.get(kind, name)
    label: str | None = (found or {"metadata": {"labels": {}}})["metadata"]["labels"].get("bulkhead.dev/tenant")
    return label


def test_one_agent_whose_requests_all_fail_stalls_no_other(lab: Lab, proxy: FaultProxy) -> None:
    proxy.on(None, f"/namespaces/{lab.namespace}/.*stuck", Answer(500), watch=False, times=None)
    proxy.on("POST", f"/namespaces/{lab.namespace}/serviceaccounts", Answer(500), watch=False, times=20)
    for number in range(20):
        lab.create(f"stuck-{number}")
    lab.create("scout")
    lab.until_built(["scout"], within=60)
    lab.patch("scout", suspend=True)
    lab.until_state("scout", "Suspended")


def test_credentials_that_cannot_be_revoked_are_no_reason_to_let_processes_run_on(lab: Lab, proxy: FaultProxy) -> None:
    lab.create("scout")
    lab.until_built(["scout"])
    path = f"/namespaces/{lab.namespace}/serviceaccounts/agent-scout"
    proxy.on("DELETE", path, Answer(500, message="etcd is busy"), watch=False, times=None)
    lab.patch("scout", suspend=True)
    eventually(lambda: not lab.list("Pod") and not lab.list("StatefulSet"), "the processes are gone")
    eventually(lambda: "etcd is busy" in lab.condition("scout", "Suspended").get("message", ""), "what failed is told")
    assert lab.condition("scout", "Suspended")["status"] == "False"
    proxy.clear()
    lab.until_state("scout", "Suspended", within=60)
    assert "agent-scout" not in lab.names("ServiceAccount")


def test_an_outage_of_the_api_server_is_survived_and_what_happened_meanwhile_is_seen(
    lab: Lab, proxy: FaultProxy, operator: OperatorProcess
) -> None:
    lab.create("scout")
    lab.create("gone")
    lab.until_built(["scout", "gone"])
    proxy.on(None, "", Answer(503), times=None)
    proxy.cut()
    before = proxy.seen()
    eventually(lambda: proxy.seen() > before + 10, "the operator meets the outage", within=60)
    lab.patch("scout", suspend=True)
    lab.delete("AgentDeployment", "gone")
    proxy.clear()
    lab.until_state("scout", "Suspended", within=120)
    eventually(lambda: not lab.list("Pod"), "nothing runs")
    # A part of it that has ended stays so; one look may find it too busy to answer.
    eventually(lambda: operator.get(operator.liveness, "/healthz") == 200, "it is healthy")


def test_no_secret_of_the_operator_is_in_its_log(operator: OperatorProcess) -> None:
    token = yaml.safe_load(operator.kubeconfig.read_text())["users"][0]["user"]["token"]
    assert token not in operator.log.read_text()
