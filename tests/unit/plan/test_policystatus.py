"""The status of a SandboxPolicy, and the events of its changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bulkhead.api.policystatus import SandboxPolicyStatus
from bulkhead.plan import policy, policystatus, refusals
from bulkhead.plan.isolation import Control
from bulkhead.plan.policy import Policy
from bulkhead.plan.signals import Reading
from bulkhead.plan.worldview import Verdict
from tests.unit.plan.policies import (
    bounds_of,
    broken_policy,
    namespace,
    raw_policy,
    refused,
    sandbox,
    sandbox_policy,
    spec_of,
)
from tests.unit.plan.samples import NOW, agent

NOT_SERVED = Verdict("False", "NotServed", "the cluster serves no such kind")
SERVED = Verdict("True", "Cilium", "denied")
CANARY = {"name": "db", "address": "192.0.2.7", "port": 5432}
KEY = ("TCP", "192.0.2.7", 5432)
REACHED = Control(reached_at=NOW - timedelta(seconds=2), failing_since=None, message="")
FAILING = Control(reached_at=None, failing_since=NOW - timedelta(seconds=90), message="timed out after 2 s")


def status(
    of: Policy,
    *,
    previous: dict[str, Any] | None = None,
    namespaces: tuple[dict[str, Any], ...] = (),
    agents: tuple[dict[str, Any], ...] = (),
    controls: dict[tuple[str, str, int], Control] | None = None,
    denies: Verdict = NOT_SERVED,
    readings: tuple[Reading, ...] = (),
    later: float = 0,
) -> dict[str, Any]:
    obj = {**raw_policy(of.name), **({"status": previous} if previous else {})}
    made = policystatus.status(
        of,
        obj,
        namespaces=namespaces,
        agents=agents,
        controls=controls or {},
        denies=denies,
        readings={(one.policy, one.name): one for one in readings},
        now=NOW + timedelta(seconds=later),
    )
    # As the API server would: it drops nothing of what is written, and refuses nothing.
    kept = SandboxPolicyStatus.model_validate(made).model_dump(by_alias=True, exclude_unset=True)
    assert kept == made
    return made


def condition(of: dict[str, Any], kind: str) -> dict[str, Any]:
    [found] = [one for one in of["conditions"] if one["type"] == kind]
    return dict(found)


def judged(name: str, message: str | None) -> dict[str, Any]:
    """An agent that a policy refused with a message, or accepted."""
    verdict = {"type": "PolicyAccepted", "status": "True" if message is None else "False", "message": message or "yes"}
    return agent(name=name, status={"conditions": [verdict]})


def test_the_namespaces_and_agents_of_a_policy_are_counted() -> None:
    of = sandbox_policy(namespaceSelector={"matchLabels": {"team": "a"}})
    around = (sandbox("one", team="a"), sandbox("two", team="a"), sandbox("three"), namespace("four", team="a"))
    made = status(of, namespaces=around, agents=(agent(name="x"), judged("y", None)))

    assert (made["observedGeneration"], made["namespaces"], made["agents"], made["violating"]) == (2, 2, 2, 0)
    assert condition(made, "Ready")["status"] == "True"
    assert condition(made, "Ready")["message"] == "the policy applies to 2 namespaces with 2 agents"


def test_the_agents_that_a_policy_refuses_are_named_with_what_it_says_of_them() -> None:
    mine, other = sandbox_policy("mine", workload={"maxReplicas": 1}), sandbox_policy("other")
    both = refusals.text(refused(spec_of(replicas=2, network={"dns": "Cluster"}), bounds_of(mine, other)))
    others = refusals.text(refused(spec_of(network={"dns": "Cluster"}), bounds_of(other)))
    made = status(
        mine, agents=(judged("z", both), judged("a", both), judged("by-another", others), judged("fine", None))
    )

    assert made["violating"] == 2
    assert [one["name"] for one in made["violators"]] == ["a", "z"]
    assert "SandboxPolicy mine accepts replicas up to 1" in made["violators"][0]["message"]
    assert "SandboxPolicy other" not in made["violators"][0]["message"]


def test_of_many_violators_the_first_are_named_and_all_are_counted() -> None:
    text = refusals.text(refused(spec_of(replicas=2), bounds_of(sandbox_policy(workload={"maxReplicas": 1}))))
    made = status(sandbox_policy(), agents=tuple(judged(f"a{number:02}", text * 20) for number in range(40)))

    assert made["violating"] == 40
    assert [one["name"] for one in made["violators"]] == [f"a{number:02}" for number in range(16)]
    assert max(len(one["message"]) for one in made["violators"]) == 512


def test_an_agent_that_only_bulkhead_itself_refuses_violates_no_policy() -> None:
    wide = sandbox_policy(network={"egressCIDRs": ["0.0.0.0/0"]})
    to = {"to": {"cidr": "169.254.169.254/32"}, "ports": [{"port": 80}]}
    text = refusals.text(refused(spec_of(network={"egress": [to]}), bounds_of(wide)))

    assert text
    assert status(wide, agents=(judged("a", text),))["violating"] == 0


def test_production_namespaces_are_listed_for_admission() -> None:
    of = sandbox_policy(production={"namespaceSelector": {"matchLabels": {"env": "prod"}}})
    around = (namespace("web", env="prod"), namespace("db", env="prod"), namespace("tools"))

    assert status(of, namespaces=around)["productionNamespaces"] == ["db", "web"]
    assert status(sandbox_policy(), namespaces=around)["productionNamespaces"] == []


def test_more_production_namespaces_than_admission_can_know_are_told() -> None:
    of = sandbox_policy(production={"namespaceSelector": {"matchLabels": {"env": "prod"}}})
    made = status(of, namespaces=(sandbox(), *(namespace(f"n{number:03}", env="prod") for number in range(300))))

    assert made["productionNamespaces"] == [f"n{number:03}" for number in range(256)]
    assert (
        "300 namespaces are production, of which admission knows the first 256" in condition(made, "Ready")["message"]
    )


def test_a_policy_that_selects_nothing_says_so() -> None:
    made = status(sandbox_policy(), namespaces=(namespace("tools"),))
    assert (condition(made, "Ready")["status"], condition(made, "Ready")["reason"]) == ("True", "SelectsNothing")


def test_a_policy_that_cannot_be_understood_is_not_ready() -> None:
    broken = broken_policy()
    message = refusals.text(refused(spec_of(), bounds_of(broken)))
    made = status(broken, namespaces=(sandbox(),), agents=(judged("a", message),))

    assert (condition(made, "Ready")["status"], condition(made, "Ready")["reason"]) == ("False", "Invalid")
    assert "spec.unknown is not a field" in condition(made, "Ready")["message"]
    assert condition(made, "CanariesReachable")["reason"] == "Invalid"
    assert (made["namespaces"], made["violating"]) == (1, 1)


@pytest.mark.parametrize(
    ("controls", "expected", "words"),
    [
        pytest.param({KEY: REACHED}, ("True", "Reached"), "TCP 192.0.2.7 5432 answers", id="it answers"),
        pytest.param({KEY: FAILING}, ("False", "NoAnswer"), "does not answer: timed out after 2 s", id="it does not"),
        pytest.param({}, ("Unknown", "NotTried"), "was not tried yet", id="not tried"),
        pytest.param(
            {KEY: Control(reached_at=None, failing_since=None, message="")},
            ("Unknown", "NotTried"),
            "was not tried yet",
            id="about to be tried",
        ),
        pytest.param({("UDP", *KEY[1:]): REACHED}, ("Unknown", "NotTried"), "not tried", id="another protocol answers"),
    ],
)
def test_canaries_are_reported_as_the_operator_fares_with_them(
    controls: dict[tuple[str, str, int], Control], expected: tuple[str, str], words: str
) -> None:
    made = status(sandbox_policy(production={"canaries": [CANARY]}), controls=controls)
    found = condition(made, "CanariesReachable")

    assert (found["status"], found["reason"]) == expected
    assert made["canaries"][0]["reachable"] == (expected[0] == "True")
    assert words in made["canaries"][0]["message"]


def test_a_silent_canary_is_named_among_others() -> None:
    more = [CANARY, {"name": "api", "address": "192.0.2.8", "port": 443}]
    controls = {KEY: FAILING, ("TCP", "192.0.2.8", 443): REACHED}
    made = status(sandbox_policy(production={"canaries": more}), controls=controls)

    assert [(one["name"], one["reachable"]) for one in made["canaries"]] == [("api", True), ("db", False)]
    assert "the operator does not reach db," in condition(made, "CanariesReachable")["message"]


def test_without_canaries_there_is_nothing_to_say_of_them() -> None:
    found = condition(status(sandbox_policy()), "CanariesReachable")
    assert (found["status"], found["reason"]) == ("Unknown", "NoCanaries")


def test_since_when_a_canary_answers_stays_until_it_changes() -> None:
    of = sandbox_policy(production={"canaries": [CANARY]})
    failing = status(of, controls={KEY: FAILING})
    reached = status(of, previous=failing, controls={KEY: REACHED}, later=10)
    later = Control(reached_at=NOW + timedelta(seconds=60), failing_since=None, message="")

    assert failing["canaries"][0]["since"] == "2026-03-01T11:58:30.000000Z"
    assert reached["canaries"][0]["since"] == "2026-03-01T12:00:10.000000Z"
    assert status(of, previous=reached, controls={KEY: later}, later=60) == reached


def test_nothing_changes_with_the_time_alone() -> None:
    of = sandbox_policy(production={"canaries": [CANARY]})
    for controls in ({}, {KEY: REACHED}, {KEY: FAILING}):
        first = status(of, namespaces=(sandbox(),), agents=(judged("a", None),), controls=controls)
        again = status(
            of, previous=first, namespaces=(sandbox(),), agents=(judged("a", None),), controls=controls, later=3600
        )
        assert again == first


def test_conditions_of_somebody_else_are_not_kept() -> None:
    strange = {"type": "Strange", "status": "True", "reason": "R", "lastTransitionTime": "2026-03-01T11:00:00Z"}
    made = status(sandbox_policy(), previous={"conditions": [strange]})
    assert [one["type"] for one in made["conditions"]] == ["CanariesReachable", "ClusterwideDenies", "Ready"]


def test_changes_of_conditions_are_events() -> None:
    of = sandbox_policy(production={"canaries": [CANARY]})
    first = status(of, controls={KEY: REACHED})
    silent = status(of, previous=first, controls={KEY: FAILING}, denies=SERVED)

    found = policystatus.transitions(first, silent)
    assert [(one.type, one.reason) for one in found] == [
        ("Warning", "CanariesUnreachable"),
        ("Normal", "ClusterwideDenies"),
    ]
    assert found[0].note.startswith("NoAnswer: the operator does not reach db")
    assert policystatus.transitions(silent, silent) == ()


def test_the_first_status_tells_what_is_known_and_not_what_is_not() -> None:
    found = policystatus.transitions({}, status(sandbox_policy(), namespaces=(sandbox(),)))
    assert [(one.type, one.reason) for one in found] == [("Normal", "NoClusterwideDenies"), ("Normal", "Ready")]


def test_a_policy_that_breaks_is_a_warning() -> None:
    before, after = status(sandbox_policy("p")), status(policy.parse({**raw_policy("p"), "spec": 7}))
    assert ("Warning", "NotReady") in [(one.type, one.reason) for one in policystatus.transitions(before, after)]


def test_a_policy_tells_which_of_its_own_queries_have_an_answer() -> None:
    def reading(policy: str, name: str, problem: str = "") -> Reading:
        return Reading(name=name, policy=policy, ok=not problem, problem=problem, at=NOW, since=NOW)

    readings = (
        reading("default", "calls"),
        reading("default", "bytes", "it does not parse"),
        reading("other", "calls"),
    )
    found = status(sandbox_policy("default"), readings=readings)["queries"]
    assert [(one["name"], one["ok"], one.get("message")) for one in found] == [
        ("bytes", False, "it does not parse"),
        ("calls", True, ""),
    ]
