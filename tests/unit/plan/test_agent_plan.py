"""What should exist for an agent, what must go, and in which order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bulkhead.plan import agent as agent_plan
from bulkhead.plan.agent import CREDENTIALS, NETWORK, PROCESSES, plan
from bulkhead.plan.books import Books
from bulkhead.plan.killswitch import Switch
from bulkhead.plan.observed import Observed, Taken
from bulkhead.plan.surroundings import Surroundings
from tests.unit.plan import samples
from tests.unit.plan.samples import NOW, UID, agent, observed, pod, role, service_account, stateful_set

WAREHOUSE = {"name": "warehouse", "postgres": {"issuer": "postgres", "role": "reader"}}


def kinds(made: agent_plan.Plan) -> list[str]:
    return [one.object["kind"] for one in made.desired]


def removed(made: agent_plan.Plan) -> list[tuple[str, str, str]]:
    return [(phase.step, one.kind, one.name) for phase in made.phases for one in phase.removals]


def test_a_new_agent_gets_the_deny_all_first_then_its_identity_then_its_workload() -> None:
    made = plan(observed(agent()), now=NOW)
    assert kinds(made) == ["NetworkPolicy", "ServiceAccount", "StatefulSet"]
    assert [one.owner_uid for one in made.desired] == ["ns-1", UID, UID]
    assert not made.suspends
    assert not made.phases


def test_applying_a_plan_twice_changes_nothing() -> None:
    of = agent(replicas=2)
    first = plan(observed(of), now=NOW)
    built = {one.object["kind"]: one.object for one in first.desired}
    second = plan(
        observed(of, stateful_set={**stateful_set(of), **built["StatefulSet"]}, service_account=service_account(of)),
        now=NOW,
    )
    assert [one.object for one in second.desired] == [one.object for one in first.desired]


CANARY = (samples.CANARY.protocol, samples.CANARY.address, samples.CANARY.port)


def surroundings_without_policy() -> Surroundings:
    elsewhere = samples.sandbox_policy(namespaceSelector={"matchLabels": {"team": "other"}})
    return samples.surroundings(elsewhere)


def everything_open() -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "open", "namespace": "lab", "uid": "x"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
    }


def allow_rules(*, owner: str = UID, kind: str = "NetworkPolicy") -> dict[str, Any]:
    reference = {"apiVersion": "bulkhead.dev/v1alpha1", "kind": "AgentDeployment", "name": "scout", "uid": owner}
    metadata = {"name": "agent-scout", "namespace": "lab", "uid": "np-1", "ownerReferences": [reference]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": {}}


def stopped_by(name: str) -> Observed:
    running = {
        "stateful_set": stateful_set(agent()),
        "service_account": service_account(agent()),
        "pods": (pod(ready=True),),
        "network_policy": allow_rules(),
        "cilium_policy": allow_rules(kind="CiliumNetworkPolicy"),
        "role": role(agent()),
        "role_binding": role(agent(), kind="RoleBinding"),
    }
    cases: dict[str, Observed] = {
        "Requested": observed(agent(suspend=True, suspendReason="audit"), **running),
        "NotASandbox": observed(agent(), **{**running, "namespace": None}),
        "NamespaceTerminating": observed(
            agent(), **{**running, "namespace": samples.namespace(deletionTimestamp=samples.seconds_ago(1))}
        ),
        "Invalid": observed(agent(replicas=-1), **running),
        "Conflict": observed(agent(), **running, taken=(Taken(kind="Service", name="x", owner="nobody"),)),
        "Deleted": observed(agent(metadata={"deletionTimestamp": samples.seconds_ago(1)}), **running),
        "LifetimeExpired": observed(
            agent(lifetime={"maxSeconds": 60}, status={"runStartedAt": samples.seconds_ago(61)}), **running
        ),
        "IsolationLost": observed(
            agent(),
            **{
                **running,
                "pods": (
                    pod(ready=True, gate=samples.gate_status(answered="metadata TCP 169.254.169.254 80 accepted")),
                ),
            },
        ),
        "KillSwitch": observed(
            agent(), **running, switches=(Switch(name="tenant-a", uid="ks-1", reason="leaked key"),)
        ),
        "CircuitOpen": observed(
            agent(status={"circuit": {"state": "Open", "since": samples.seconds_ago(5), "attempts": 1}}), **running
        ),
        "NoPolicy": observed(agent(), **running, surroundings=surroundings_without_policy()),
        "PolicyRefused": observed(
            agent(replicas=2),
            **running,
            surroundings=samples.surroundings(samples.sandbox_policy(workload={"maxReplicas": 1})),
        ),
        "Unproven": observed(
            agent(),
            **running,
            surroundings=samples.surroundings(controls={CANARY: samples.control(reached=90, failing=61)}),
        ),
        "CredentialsExpired": observed(
            agent(credentials=[WAREHOUSE]),
            **running,
            books=Books(leases=(samples.lease(agent(), expires_in=-1),)),
            surroundings=samples.surroundings(
                samples.sandbox_policy(credentials={"postgres": [{"issuer": "postgres", "roles": ["reader"]}]}),
                issuers={"postgres": "postgres"},
            ),
        ),
        "Widened": observed(agent(), **running, surroundings=samples.surroundings(foreign=(everything_open(),))),
    }
    return cases[name]


REASONS = [
    *("Requested", "NotASandbox", "NamespaceTerminating", "Invalid", "Conflict", "Deleted", "LifetimeExpired"),
    *("IsolationLost", "NoPolicy", "PolicyRefused", "Unproven", "Widened", "CredentialsExpired"),
    *("KillSwitch", "CircuitOpen"),
]
AND_THEN = {"IsolationLost": ["IsolationLost", "CircuitOpen"]}
"""A lost isolation opens the breaker."""


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_stops_an_agent_in_the_same_order(reason: str) -> None:
    made = plan(stopped_by(reason), now=NOW)
    assert [one.type for one in made.reasons] == AND_THEN.get(reason, [reason])
    assert not made.desired
    assert [phase.step for phase in made.phases] == [NETWORK, CREDENTIALS, CREDENTIALS, PROCESSES]
    assert removed(made) == [
        (NETWORK, "NetworkPolicy", "agent-scout"),
        (NETWORK, "CiliumNetworkPolicy", "agent-scout"),
        (CREDENTIALS, "RoleBinding", "agent-scout"),
        (CREDENTIALS, "ServiceAccount", "agent-scout"),
        (CREDENTIALS, "Role", "agent-scout"),
        (PROCESSES, "StatefulSet", "scout"),
        (PROCESSES, "Pod", "scout-0"),
    ]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_says_in_words_what_it_is(reason: str) -> None:
    for found in plan(stopped_by(reason), now=NOW).reasons:
        assert len(found.message.split()) >= 3


@pytest.mark.parametrize(
    ("given", "used"), [(0, 2), (1, 2), (7, 7), (30, 30), (4000, 30), ("soon", 5), (None, 5), (True, 5)]
)
def test_pods_get_the_grace_of_the_spec_within_its_bounds(given: Any, used: int) -> None:
    made = plan(observed(agent(suspend=True, suspendGraceSeconds=given), pods=(pod(),)), now=NOW)
    assert [one.grace_seconds for phase in made.phases for one in phase.removals if one.kind == "Pod"] == [used]


@pytest.mark.parametrize(("own", "switches", "used"), [(20, (None,), 20), (20, (9, 7), 7), (3, (9,), 3), (20, (1,), 2)])
def test_a_kill_switch_may_shorten_the_grace_and_never_lengthens_it(
    own: int, switches: tuple[int | None, ...], used: int
) -> None:
    given = tuple(
        Switch(name=f"ks-{number}", uid="1", reason="leak", grace_seconds=one) for number, one in enumerate(switches)
    )
    made = plan(observed(agent(suspendGraceSeconds=own), pods=(pod(),), switches=given), now=NOW)
    assert [one.grace_seconds for phase in made.phases for one in phase.removals if one.kind == "Pod"] == [used]


def test_kill_switches_hold_what_cannot_be_parsed_and_are_one_reason_that_names_them() -> None:
    given = tuple(Switch(name=f"ks-{number}", uid="1", reason=f"leak {number}") for number in range(10))
    made = plan(observed({**agent(), "spec": ["nonsense"]}, switches=given), now=NOW)
    assert [one.type for one in made.reasons] == ["KillSwitch", "Invalid"]
    assert made.reasons[0].message.startswith("KillSwitch ks-0: leak 0; KillSwitch ks-1: leak 1; ")
    assert made.reasons[0].message.endswith("; and 2 more")


def test_what_belongs_to_somebody_else_is_not_taken_away() -> None:
    of = agent(suspend=True)
    made = plan(
        observed(
            of,
            stateful_set=stateful_set(of, owner="x"),
            service_account=service_account(of, owner="x"),
            network_policy=allow_rules(owner="x"),
            role=role(of, owner="x"),
            role_binding=role(of, kind="RoleBinding", owner="x"),
        ),
        now=NOW,
    )
    assert removed(made) == []


def test_allow_rules_that_nothing_asks_for_any_more_go_while_the_agent_runs_on() -> None:
    of = agent()
    running = {"stateful_set": stateful_set(of), "service_account": service_account(of), "pods": (pod(ready=True),)}

    made = plan(observed(of, **running, network_policy=allow_rules()), now=NOW)

    assert not made.suspends
    assert removed(made) == [(NETWORK, "NetworkPolicy", "agent-scout")]
    assert removed(plan(observed(of, **running, network_policy=allow_rules(owner="x")), now=NOW)) == []


def test_what_an_agent_may_reach_is_written_after_the_deny_all_and_before_anything_that_runs() -> None:
    of = agent(network={"egress": [{"to": {"cidr": "203.0.113.0/24"}, "ports": [{"port": 443}]}]})
    allowing = samples.surroundings(samples.sandbox_policy(network={"egressCIDRs": ["203.0.113.0/24"]}))

    made = plan(observed(of, surroundings=allowing), now=NOW)

    assert [(one.object["kind"], one.object["metadata"]["name"]) for one in made.desired] == [
        ("NetworkPolicy", "bulkhead-deny-all"),
        ("NetworkPolicy", "agent-scout"),
        ("ServiceAccount", "agent-scout"),
        ("StatefulSet", "scout"),
    ]


def test_no_agent_is_built_without_its_gate() -> None:
    made = plan(observed(agent()), now=NOW)
    (built,) = [one.object for one in made.desired if one.object["kind"] == "StatefulSet"]
    assert [one["name"] for one in built["spec"]["template"]["spec"]["initContainers"]] == [
        "isolation-gate",
        "isolation-watch",
    ]

    without = plan(observed(agent(), surroundings=samples.surroundings(gate=None)), now=NOW)
    assert [one.type for one in without.reasons] == ["Unproven"]


@pytest.mark.parametrize(
    ("known", "runs"),
    [
        ({}, False),
        ({CANARY: samples.control(reached=1)}, True),
        ({CANARY: samples.control(reached=16)}, False),
        ({CANARY: samples.control(reached=None, failing=1)}, False),
        ({CANARY: samples.control(reached=10, failing=5)}, True),
    ],
    ids=["never tried", "just reached", "reached too long ago", "never reached", "one probe was missed"],
)
def test_an_agent_starts_only_while_the_canaries_answer_the_operator(known: Any, *, runs: bool) -> None:
    made = plan(observed(agent(), surroundings=samples.surroundings(controls=known)), now=NOW)
    assert (not made.suspends) is runs


def test_who_waits_for_a_canary_looks_again_although_nothing_may_tell_that_it_answers() -> None:
    """A canary that was reached too long ago and is reached again has not begun to answer: that is no news."""
    stale = samples.surroundings(controls={CANARY: samples.control(reached=16)})
    made = plan(observed(agent(), surroundings=stale, pods_are_live=True), now=NOW)
    assert [one.type for one in made.reasons] == ["Unproven"]
    assert made.next_look == agent_plan.UNPROVEN_LOOK


def test_a_running_agent_bears_a_canary_that_is_silent_for_less_than_a_minute() -> None:
    of = agent()
    world = samples.surroundings(controls={CANARY: samples.control(reached=59, failing=59)})
    made = plan(observed(of, stateful_set=stateful_set(of), pods=(pod(ready=True),), surroundings=world), now=NOW)
    assert not made.suspends
    assert made.next_look == timedelta(seconds=1), "nothing else tells when the minute is over"


def test_a_run_keeps_the_api_server_addresses_that_it_began_with() -> None:
    status = {"isolation": {"targets": ["api-server TCP 10.9.0.7 6443"]}, "runStartedAt": samples.seconds_ago(9)}
    of = agent(status=status)

    going_on = plan(observed(of, stateful_set=stateful_set(of)), now=NOW)
    beginning = plan(observed(of), now=NOW)

    def api_servers(made: agent_plan.Plan) -> list[str]:
        assert made.assessment is not None
        return [one.address for one in made.assessment.targets if one.name == "api-server"]

    assert api_servers(going_on) == ["10.9.0.7"]
    assert api_servers(beginning) == ["10.9.0.1"]


def test_a_stop_is_looked_at_again_until_the_live_api_shows_nothing() -> None:
    of = agent(suspend=True)
    assert plan(observed(of), now=NOW).next_look == agent_plan.STOP_LOOK
    assert plan(observed(of, pods_are_live=True, pods=(pod(deleting=True),)), now=NOW).next_look is not None
    assert plan(observed(of, pods_are_live=True), now=NOW).next_look is None


def test_a_conflict_is_looked_at_again_even_when_everything_stopped() -> None:
    made = plan(replace(stopped_by("Conflict"), pods=(), stateful_set=None, pods_are_live=True), now=NOW)
    assert made.next_look == agent_plan.CONFLICT_LOOK


@pytest.mark.parametrize(
    ("on_expiry", "live", "suspend", "deleted"),
    [
        ("Delete", True, False, True),
        ("Delete", False, False, False),
        ("Suspend", True, False, False),
        ("Delete", True, True, False),
    ],
)
def test_an_expired_agent_is_deleted_only_when_its_spec_says_so_and_it_is_proven_stopped(
    on_expiry: str, live: bool, suspend: bool, deleted: bool
) -> None:
    of = agent(
        suspend=suspend,
        lifetime={"maxSeconds": 60, "onExpiry": on_expiry},
        status={"runStartedAt": samples.seconds_ago(100)},
    )
    assert plan(observed(of, pods_are_live=live), now=NOW).delete_agent is deleted


def test_an_agent_with_a_lifetime_is_looked_at_when_it_ends() -> None:
    of = agent(lifetime={"maxSeconds": 60}, status={"runStartedAt": samples.seconds_ago(20)})
    made = plan(observed(of, stateful_set=stateful_set(of), pods=(pod(ready=True),)), now=NOW)
    assert made.next_look == timedelta(seconds=40)


@pytest.mark.parametrize(
    ("case", "known", "strays", "wanted"),
    [
        ("its own pod", {"set": True, "controller": samples.STATEFUL_SET_UID}, 0, True),
        ("a pod of the run before, no StatefulSet yet", {"set": False, "controller": "old"}, 1, False),
        ("a pod of the run before beside the new StatefulSet", {"set": True, "controller": "old"}, 1, True),
        ("a pod that the controller let go of", {"set": True, "controller": None}, 1, True),
    ],
)
def test_pods_that_the_present_stateful_set_does_not_control_are_ended(
    case: str, known: dict[str, Any], strays: int, wanted: bool
) -> None:
    of = agent()
    made = plan(
        observed(
            of, stateful_set=stateful_set(of) if known["set"] else None, pods=(pod(controller=known["controller"]),)
        ),
        now=NOW,
    )
    assert len(removed(made)) == strays
    assert ("StatefulSet" in kinds(made)) is wanted
    if strays:
        assert made.next_look == agent_plan.STOP_LOOK


@pytest.mark.parametrize("label", ["app.kubernetes.io/managed-by", "bulkhead.dev/agent-uid"])
def test_a_pod_without_the_labels_it_is_found_by_is_ended_before_its_controller_lets_go_of_it(label: str) -> None:
    of = agent()
    made = plan(observed(of, stateful_set=stateful_set(of), pods=(pod(unlabelled=(label,)),)), now=NOW)
    assert [name for _, _, name in removed(made)] == ["scout-0"]


@pytest.mark.parametrize(
    ("case", "pods", "stuck"),
    [
        ("no pods", (), True),
        ("ready", (pod(ready=True),), False),
        ("waits for a node, which its own condition tells", (pod(node=None),), False),
        ("placed, silent", (pod(),), True),
        ("placed, says why", (pod(waiting=("ErrImagePull", "no such image")),), False),
        ("being deleted", (pod(deleting=True),), True),
    ],
)
def test_a_rollout_is_stuck_when_only_warnings_can_explain_it(
    case: str, pods: tuple[dict[str, Any], ...], stuck: bool
) -> None:
    of = agent()
    known = observed(of, stateful_set=stateful_set(of), pods=pods)
    assert agent_plan.is_stuck(known, wanted=1) is stuck
    assert (plan(known, now=NOW).next_look == agent_plan.STUCK_LOOK) is stuck


@pytest.mark.parametrize(
    ("case", "nodes_can", "status", "spec", "wanted"),
    [
        ("every node can", True, {}, {}, True),
        ("a node cannot", False, {}, {}, False),
        (
            "a node joined that cannot",
            False,
            {"runStartedAt": samples.seconds_ago(5), "userNamespaces": True},
            {},
            True,
        ),
        (
            "the last one that could not left",
            True,
            {"runStartedAt": samples.seconds_ago(5), "userNamespaces": False},
            {},
            False,
        ),
        ("the run before had none", True, {"userNamespaces": False}, {}, True),
        ("another runtime class", True, {}, {"runtimeClassName": "gvisor"}, False),
    ],
)
def test_user_namespaces_are_decided_once_for_each_run(
    case: str, nodes_can: bool, status: dict[str, Any], spec: dict[str, Any], wanted: bool
) -> None:
    made = plan(observed(agent(status=status, **spec), user_namespaces=nodes_can), now=NOW)
    pod_spec = made.desired[-1].object["spec"]["template"]["spec"]
    assert pod_spec.get("hostUsers", True) is not wanted
    assert made.user_namespaces is wanted
