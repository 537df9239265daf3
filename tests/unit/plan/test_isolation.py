from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.api.floor import FLOOR
from bulkhead.gate.settings import Settings
from bulkhead.plan import addresses, isolation, pods, workload
from bulkhead.plan.isolation import Control, Evidence, Gate, Target
from tests import restricted, specs
from tests.unit.plan import samples
from tests.unit.plan.policies import bounds_of, sandbox_policy, spec_of
from tests.unit.plan.samples import NOW

OWN = Target("whatever", "TCP", "10.96.0.77", 8082)
GATE = Gate(image="example.test/operator:1", pull_policy="IfNotPresent", canary=OWN)
API = (("10.96.0.1", 443), ("10.0.0.9", 6443))
DATABASE = {"name": "db", "address": "10.200.0.10", "port": 5432}
RESOLVER = {"name": "dns", "address": "fd00:10:200::53", "port": 53, "protocol": "UDP"}


def policy(name: str = "default", *canaries: dict[str, Any], **isolation_settings: Any) -> Any:
    return sandbox_policy(name, production={"canaries": list(canaries)}, isolation=isolation_settings)


def tried(*policies: Any, gate: Gate = GATE, api: Any = API) -> list[str]:
    return [str(target) for target in isolation.targets(bounds_of(*policies), gate=gate, api_endpoints=api)]


# ----------------------------------------------------------------------------------------------------------- targets


def test_what_is_tried_begins_with_what_every_agent_must_not_reach() -> None:
    assert tried(policy("default", DATABASE, RESOLVER))[:4] == [
        "operator TCP 10.96.0.77 8082",
        "api-server TCP 10.96.0.1 443",
        "api-server TCP 10.0.0.9 6443",
        "kubelet TCP node 10250",
    ]


def test_it_ends_with_the_canaries_of_every_policy_by_their_names() -> None:
    assert tried(policy("a", DATABASE), policy("b", RESOLVER))[-2:] == [
        "canary/db TCP 10.200.0.10 5432",
        "canary/dns UDP fd00:10:200::53 53",
    ]


def test_an_address_is_tried_once_however_many_name_it() -> None:
    assert len(tried(policy("a", DATABASE), policy("b", {**DATABASE, "name": "same"}))) == len(
        tried(policy("a", DATABASE))
    )


def test_without_a_canary_of_its_own_the_operator_is_no_target() -> None:
    listed = tried(policy(), gate=Gate(image="i", pull_policy="Always", canary=None))
    assert not [one for one in listed if one.startswith("operator")]


def test_a_canary_cannot_take_the_name_of_a_target_of_bulkhead_s_own() -> None:
    listed = tried(policy("default", {**DATABASE, "name": "api-server"}))
    assert listed[-1] == "canary/api-server TCP 10.200.0.10 5432"


def test_the_metadata_services_are_hosts_of_the_floor() -> None:
    floor = [addresses.network(entry.cidr) for entry in FLOOR]
    metadata = [line.split()[2] for line in tried(policy()) if line.startswith("metadata ")]
    assert {"169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"} <= set(metadata)
    for address in metadata:
        assert any(addresses.overlap(addresses.host(address), network) for network in floor), address


@given(st.from_regex(r"[a-z0-9/.-]{1,40}", fullmatch=True), st.sampled_from(["TCP", "UDP"]), st.integers(1, 65535))
def test_a_target_is_read_back_from_its_text(name: str, protocol: str, port: int) -> None:
    target = Target(name, protocol, "fd00::1", port)
    assert Target.parse(str(target)) == target


# -------------------------------------------------------------------------------------------------------- containers


def built(*policies: Any) -> list[dict[str, Any]]:
    bounds = bounds_of(*policies)
    return isolation.containers(GATE, isolation.targets(bounds, gate=GATE, api_endpoints=API), bounds=bounds)


def test_the_gate_comes_first_and_the_watch_is_a_sidecar() -> None:
    gate, watch = built(policy())
    assert (gate["name"], gate["command"][-1], gate.get("restartPolicy")) == ("isolation-gate", "hold", None)
    assert (watch["name"], watch["command"][-1], watch["restartPolicy"]) == ("isolation-watch", "watch", "Always")


def test_a_policy_that_wants_the_proof_at_the_start_alone_has_no_watch() -> None:
    assert [one["name"] for one in built(policy("default", mode="AtStart"))] == ["isolation-gate"]


def test_the_strictest_of_two_policies_decides_about_the_watch() -> None:
    containers = built(
        policy("a", mode="AtStart", intervalSeconds=60),
        policy("b", intervalSeconds=30),
        policy("c", intervalSeconds=20),
    )
    assert [one["name"] for one in containers] == ["isolation-gate", "isolation-watch"]
    assert {"name": "BULKHEAD_GATE_INTERVAL", "value": "20"} in containers[1]["env"]


def test_what_the_containers_are_told_is_what_the_program_reads() -> None:
    listed = tried(policy("default", DATABASE))
    for container in built(policy("default", DATABASE)):
        told = {one["name"].encode(): one.get("value", "10.0.0.9,fd00::9").encode() for one in container["env"]}
        settings = Settings(told)
        both = [
            line.replace(" node ", f" {ip} ")
            for line in listed
            for ip in ("10.0.0.9", "fd00::9")[: 1 + (" node " in line)]
        ]
        assert [str(target) for target in settings.targets] == both
        assert settings.message_path == container["terminationMessagePath"]
        balanced = {target.name for target in settings.targets if target.balanced}
        assert balanced == {"operator", "api-server", "kubelet"}


def test_the_node_s_addresses_are_those_that_the_kubelet_gives() -> None:
    for container in built(policy()):
        [source] = [one["valueFrom"] for one in container["env"] if one["name"] == "BULKHEAD_NODE_IPS"]
        assert source == {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIPs"}}


def test_the_containers_are_restricted_as_the_agent_is_and_set_little_aside() -> None:
    stateful_set = workload.stateful_set(samples.agent(), spec_of(), gate_containers=built(policy()))
    pod = stateful_set["spec"]["template"]["spec"]
    assert restricted.violations(pod) == []
    for container in pod["initContainers"]:
        limits, requests = (dict(container["resources"][kind]) for kind in ("limits", "requests"))
        assert (limits.pop("cpu"), requests.pop("cpu")) in (("100m", "25m"), ("100m", "10m"))
        assert limits == requests, "of what cannot be taken back nothing is lent"
        assert container["securityContext"]["runAsUser"] == container["securityContext"]["runAsGroup"] == 65532
        assert container["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


# ---------------------------------------------------------------------------------------------------------- evidence

CLOSED_AT = "closed 12 targets at 2026-03-01T11:59:58.250000Z"
OPEN_AT = "open: canary/db TCP 10.200.0.10 5432 accepted at 2026-03-01T11:59:59.500000Z"
ALSO_OPEN = "open: kubelet TCP 10.0.0.9 10250 refused at 2026-03-01T11:59:59.500000Z"
STUCK = "unproven: a round did not end in time at 2026-03-01T11:59:57.000000Z"


def ended(code: int, message: str = "") -> dict[str, Any]:
    return {
        "terminated": {
            "exitCode": code,
            "finishedAt": "2026-03-01T12:00:00Z",
            **({"message": message} if message else {}),
        }
    }


RUNS = {"running": {"startedAt": "2026-03-01T11:59:59Z"}}
PASSED = ended(0, CLOSED_AT)
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}


def pod(
    gate: dict[str, Any] | None = None,
    watch: dict[str, Any] | None = None,
    *,
    gate_before: dict[str, Any] | None = None,
    watch_before: dict[str, Any] | None = None,
    restarts: int = 0,
    deleting: bool = False,
) -> dict[str, Any]:
    """A pod by the states of its gate containers, now and before their last restart, as the cache keeps it."""
    made = samples.pod(0, deleting=deleting)
    listed = [("isolation-gate", gate, gate_before), ("isolation-watch", watch, watch_before)]
    made["status"]["initContainerStatuses"] = [
        {"name": name, "restartCount": restarts, "state": state, "lastState": before or {}}
        for name, state, before in listed
        if state is not None
    ]
    return pods.slim(made)


def judged(*given_pods: dict[str, Any], wanted: int = 1) -> tuple[str, str]:
    evidence = isolation.evidence(given_pods, wanted=wanted)
    return evidence.result, evidence.message


EVIDENCE: dict[str, tuple[tuple[dict[str, Any], ...], int, str, str]] = {
    "no pod yet": ((), 1, "Pending", "0 of 1 pods are there"),
    "no replica wanted": ((), 0, "Pending", "0 of 0 pods are there"),
    "a pod of two": ((pod(PASSED, RUNS),), 2, "Pending", "1 of 2 pods are there"),
    "a pod that the kubelet has not seen": ((pod(),), 1, "Pending", "pod scout-0 has not begun to prove its isolation"),
    "a gate that tries": ((pod(RUNS, INITIALIZING),), 1, "Pending", "pod scout-0 is proving its isolation"),
    "a gate that tries again after it could not": (
        (pod(RUNS, INITIALIZING, gate_before=ended(4, STUCK)),),
        1,
        "Pending",
        "pod scout-0 is proving its isolation, after unproven: a round did not end in time",
    ),
    "a gate that passed, and no watch wanted": ((pod(PASSED),), 1, "Proven", "the gate let 1 pods pass"),
    "a gate that passed, and a watch": ((pod(PASSED, RUNS),), 1, "Proven", "the gate let 1 pods pass"),
    "a gate that passed at the second try": (
        (pod(PASSED, RUNS, gate_before=ended(3, OPEN_AT)),),
        1,
        "Proven",
        "the gate let 1 pods pass",
    ),
    "a gate that runs again after the node restarted": (
        (pod(RUNS, INITIALIZING, gate_before=PASSED),),
        1,
        "Pending",
        "pod scout-0 is proving its isolation",
    ),
    "a watch that has not begun": (
        (pod(PASSED, INITIALIZING),),
        1,
        "Pending",
        "isolation-watch of pod scout-0 does not run yet",
    ),
    "a watch that was killed": (
        (pod(PASSED, ended(137)),),
        1,
        "Pending",
        "isolation-watch of pod scout-0 does not run, after it ended with code 137",
    ),
    "a watch that runs again after it was killed": ((pod(PASSED, RUNS, watch_before=ended(137)),), 1, "Proven", ""),
    "a gate that was answered": (
        (pod(ended(3, OPEN_AT)),),
        1,
        "Open",
        "the agent is held back: answered, although nothing should: canary/db TCP 10.200.0.10 5432 accepted",
    ),
    "one that tries again after it was answered": ((pod(RUNS, gate_before=ended(3, OPEN_AT)),), 1, "Open", ""),
    "one that waits to try again": ((pod(BACK_OFF, gate_before=ended(3, OPEN_AT)),), 1, "Open", ""),
    "a gate answered beside one that passed": ((pod(PASSED, RUNS), pod(ended(3, OPEN_AT))), 2, "Open", ""),
    "a gate answered in a pod that goes": ((pod(ended(3, OPEN_AT), deleting=True),), 1, "Pending", ""),
    "a watch that was answered": (
        (pod(PASSED, ended(3, f"{OPEN_AT}\n{ALSO_OPEN}")),),
        1,
        "Lost",
        "isolation was lost: answered, although nothing should: canary/db TCP 10.200.0.10 5432 accepted; "
        "kubelet TCP 10.0.0.9 10250 refused",
    ),
    "a watch that runs again after it was answered": (
        (pod(PASSED, RUNS, watch_before=ended(3, OPEN_AT)),),
        1,
        "Lost",
        "",
    ),
    "a watch answered in a pod that goes": ((pod(PASSED, ended(3, OPEN_AT), deleting=True),), 1, "Lost", ""),
    "a watch answered beside a gate that was": (
        (pod(ended(3, OPEN_AT)), pod(PASSED, ended(3, OPEN_AT))),
        2,
        "Lost",
        "",
    ),
    "a watch that cannot try, once": ((pod(PASSED, ended(4, STUCK), restarts=1),), 1, "Pending", ""),
    "a watch that cannot try, again and again": (
        (pod(PASSED, BACK_OFF, watch_before=ended(4, STUCK), restarts=2),),
        1,
        "Lost",
        "isolation was lost: unproven: a round did not end in time",
    ),
    "a watch that begins anew with its node": (
        (pod(RUNS, INITIALIZING, watch_before=ended(255), restarts=9),),
        1,
        "Pending",
        "",
    ),
    "a watch that was told to end": ((pod(PASSED, ended(0), deleting=True),), 1, "Pending", ""),
}


@pytest.mark.parametrize(("found", "wanted", "result", "message"), EVIDENCE.values(), ids=EVIDENCE.keys())
def test_what_the_gates_of_an_agent_say(
    found: tuple[dict[str, Any], ...], wanted: int, result: str, message: str
) -> None:
    told = judged(*found, wanted=wanted)
    assert told[0] == result
    assert not message or told[1] == message
    assert any(isolation.is_lost(one) for one in found) is (result == "Lost")


def test_a_loss_says_what_answered_and_when_to_the_microsecond() -> None:
    evidence = isolation.evidence((pod(PASSED, ended(3, f"{OPEN_AT}\n{ALSO_OPEN}")),), wanted=1)
    assert evidence.answered == ("canary/db TCP 10.200.0.10 5432 accepted", "kubelet TCP 10.0.0.9 10250 refused")
    assert evidence.at == NOW - timedelta(seconds=0.5)


def test_a_loss_without_a_message_has_the_kubelet_s_time() -> None:
    assert isolation.evidence((pod(PASSED, ended(3)),), wanted=1).at == NOW


def test_a_proof_is_as_old_as_the_last_pod_s() -> None:
    older = ended(0, "closed 12 targets at 2026-03-01T11:00:00.000000Z")
    assert isolation.evidence((pod(older, RUNS), pod(PASSED, RUNS)), wanted=2).at == NOW - timedelta(seconds=1.75)


@given(st.text(max_size=300), st.integers(0, 255))
def test_no_message_can_break_the_reading_of_it(message: str, code: int) -> None:
    found = pod(PASSED, ended(code, message))
    evidence = isolation.evidence((found,), wanted=1)
    assert isinstance(evidence, Evidence)
    assert (evidence.result == "Lost") is (code == 3)
    assert all(len(one) <= 256 for one in evidence.answered)
    hash(isolation.telling(found))
    pods.trouble(found)


def test_a_change_of_what_a_gate_says_is_telling_and_a_heartbeat_is_not() -> None:
    before = isolation.telling(pod(PASSED, RUNS))
    assert isolation.telling(pod(PASSED, RUNS)) == before
    assert isolation.telling(pod(PASSED, ended(3, OPEN_AT))) != before
    assert isolation.telling(pod(PASSED, INITIALIZING)) != before
    assert isolation.telling(samples.pod(0)) == ()


# ---------------------------------------------------------------------------------------------------------- controls

KEY, OWN_KEY = ("TCP", "10.200.0.10", 5432), ("TCP", "10.96.0.77", 8082)


def control(*, reached: float | None = None, failing: float | None = None, message: str = "") -> Control:
    return Control(
        reached_at=None if reached is None else NOW - timedelta(seconds=reached),
        failing_since=None if failing is None else NOW - timedelta(seconds=failing),
        message=message,
    )


FINE = control(reached=1)
CONTROLS: dict[str, tuple[dict[Any, Control], bool, str]] = {
    "all answer": ({KEY: FINE, OWN_KEY: FINE}, False, ""),
    "one answered a moment ago": ({KEY: control(reached=15), OWN_KEY: FINE}, False, ""),
    "one answered too long ago": ({KEY: control(reached=15.1), OWN_KEY: FINE}, False, "canary/db TCP 10.200.0.10 5432"),
    "one fails since a moment": ({KEY: control(reached=3, failing=1), OWN_KEY: FINE}, False, ""),
    "one never answered": (
        {KEY: control(failing=9, message="refused"), OWN_KEY: FINE},
        False,
        "canary/db TCP 10.200.0.10 5432 (refused)",
    ),
    "one was not tried yet": ({OWN_KEY: FINE}, False, "canary/db"),
    "the operator's own does not answer": ({KEY: FINE}, False, "operator TCP 10.96.0.77 8082"),
    "running, not tried yet": ({}, True, ""),
    "running, fails for less than a minute": ({KEY: control(failing=59.9), OWN_KEY: FINE}, True, ""),
    "running, fails for a minute": ({KEY: control(failing=60), OWN_KEY: FINE}, True, "canary/db TCP 10.200.0.10 5432"),
    "one answered, by a clock that was set back since": (
        {KEY: control(reached=-1200), OWN_KEY: FINE},
        False,
        "canary/db TCP 10.200.0.10 5432",
    ),
    "one answered while the decision was prepared": ({KEY: control(reached=-0.1), OWN_KEY: FINE}, False, ""),
    "running, fails by a clock that was set back since": (
        {KEY: control(failing=-1200), OWN_KEY: FINE},
        True,
        "canary/db TCP 10.200.0.10 5432",
    ),
    "running, began to fail while the decision was prepared": ({KEY: control(failing=-0.1), OWN_KEY: FINE}, True, ""),
    "running, answered long ago": ({KEY: control(reached=600), OWN_KEY: FINE}, True, ""),
}


@pytest.mark.parametrize(("controls", "running", "words"), CONTROLS.values(), ids=CONTROLS.keys())
def test_silence_proves_something_only_while_the_canaries_answer_the_operator(
    controls: dict[Any, Control], running: bool, words: str
) -> None:
    found = isolation.controlled(bounds_of(policy("default", DATABASE)), GATE, controls, now=NOW, running=running)
    assert (words in found) if words else found == ""


@pytest.mark.parametrize("running", [False, True])
def test_without_any_canary_nothing_is_ever_proven(running: bool) -> None:
    lone = Gate(image="i", pull_policy="Always", canary=None)
    found = isolation.controlled(bounds_of(policy()), lone, {}, now=NOW, running=running)
    assert "there is no canary" in found
    assert "accepted is spec.production.canaries" in found


def test_without_a_gate_nothing_is_ever_proven() -> None:
    assert "image" in isolation.controlled(bounds_of(policy()), None, {}, now=NOW, running=True)


@given(specs.valid_specs())
def test_every_agent_with_its_gate_is_a_restricted_pod(raw: specs.Spec) -> None:
    spec = parse_spec(raw, name="scout")
    stateful_set = workload.stateful_set(samples.agent(), spec, gate_containers=built(policy("default", DATABASE)))
    pod_spec = stateful_set["spec"]["template"]["spec"]
    assert restricted.violations(pod_spec, cluster_dns=spec.network.dns == "Cluster") == []
