"""What policies give together: which apply, what they close, what stops everything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from bulkhead.api.floor import FLOOR
from bulkhead.plan import policy
from bulkhead.plan.addresses import network
from bulkhead.plan.policy import Bounds, Policy
from tests.specs import json_values
from tests.unit.plan.policies import (
    bounds_of,
    broken_policy,
    namespace,
    nodes,
    raw_policy,
    refused,
    sandbox,
    sandbox_policy,
    spec_of,
)

PROD = {"matchLabels": {"env": "prod"}}


def networks(bounds: Bounds, of: str) -> list[str]:
    return [str(one.network) for one in getattr(bounds, of)]


def test_a_policy_without_a_spec_selects_every_sandbox_namespace_and_lets_nothing_be_asked_for() -> None:
    found = policy.parse({"metadata": {"name": "default", "uid": "u", "generation": 1}})

    assert found.problems == ()
    assert policy.covers(found, sandbox())
    assert refused(spec_of(network={"dns": "Cluster"}), bounds_of(found))
    assert not refused(spec_of(), bounds_of(found))


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        pytest.param({}, {}, True, id="an empty selector"),
        pytest.param({"matchLabels": {"team": "a"}}, {"team": "a"}, True, id="a label that is there"),
        pytest.param({"matchLabels": {"team": "a"}}, {"team": "b"}, False, id="another value"),
        pytest.param({"matchLabels": {"kubernetes.io/metadata.name": "lab"}}, {}, True, id="its name"),
        pytest.param({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, {}, True, id="no label"),
    ],
)
def test_a_policy_applies_to_the_namespaces_that_it_selects(
    selector: dict[str, Any], labels: dict[str, str], expected: bool
) -> None:
    one = sandbox_policy(namespaceSelector=selector)

    assert policy.covers(one, sandbox(**labels)) is expected
    assert (bounds_of(one, labels=labels).policies == (one,)) is expected


def test_without_a_policy_nothing_is_accepted() -> None:
    bounds = bounds_of(sandbox_policy(namespaceSelector={"matchLabels": {"team": "other"}}))

    [found] = refused(spec_of(), bounds)
    assert (found.policy, found.field) == ("", "metadata.namespace")
    assert "no SandboxPolicy selects namespace lab" in found.message
    assert "accepted is a namespace with labels" in found.message
    assert len(bounds.floor) == len(FLOOR)


@pytest.mark.parametrize(
    ("selector", "labels", "applies"),
    [
        pytest.param({"matchLabels": {"team": "a"}}, {"team": "a"}, True, id="its selector selects"),
        pytest.param({"matchLabels": {"team": "a"}}, {"team": "b"}, False, id="its selector does not select"),
        pytest.param(None, {}, True, id="no selector"),
        pytest.param({"matchLabels": ["team"]}, {"team": "b"}, True, id="a selector that is none"),
        pytest.param({"matchLabel": {"team": "a"}}, {"team": "b"}, True, id="a selector with an unknown field"),
        pytest.param("team=a", {"team": "b"}, True, id="a selector that is text"),
    ],
)
def test_a_policy_that_cannot_be_understood_stops_what_it_may_apply_to(
    selector: Any, labels: dict[str, str], applies: bool
) -> None:
    broken = broken_policy(namespaceSelector=selector)
    bounds = bounds_of(sandbox_policy(), broken, labels=labels)
    found = refused(spec_of(), bounds)

    assert [one.policy for one in found] == (["broken"] if applies else [])
    assert bounds.cluster_dns == (("broken", "default") if applies else ("default",))
    if applies:
        assert "SandboxPolicy broken applies to namespace lab and cannot be understood" in found[0].message
        assert "spec.unknown is not a field" in found[0].message


@pytest.mark.parametrize("raw", ["text", 7, [], {"production": []}, {"network": {"egressCIDRs": ["10.0.0.1/8"]}}])
def test_a_spec_of_any_shape_is_a_policy_that_cannot_be_understood(raw: Any) -> None:
    found = policy.parse({**raw_policy(), "spec": raw})

    assert found.spec is None
    assert found.problems
    assert policy.covers(found, sandbox())


def test_a_policy_whose_name_cannot_be_is_not_understood() -> None:
    assert policy.parse(raw_policy("a.b")).problems


@given(json_values)
def test_any_json_is_a_policy_that_is_understood_or_says_why_not(raw: Any) -> None:
    found = policy.parse({**raw_policy(), "spec": raw})

    assert (found.spec is None) == bool(found.problems)
    bounds = bounds_of(found)
    if found.problems and bounds.policies:
        assert refused(spec_of(), bounds)


def test_production_is_all_that_any_policy_names() -> None:
    first = sandbox_policy(
        "first",
        production={
            "cidrs": ["10.0.0.0/8", "2001:db8::/32"],
            "canaries": [{"name": "db", "address": "192.0.2.7", "port": 5432}],
        },
    )
    second = sandbox_policy("second", production={"cidrs": ["10.0.0.0/8", "198.51.100.0/24"]})
    bounds = bounds_of(second, first)

    assert [(str(one.network), one.what, one.by) for one in bounds.production] == [
        ("10.0.0.0/8", "production", "SandboxPolicy first"),
        ("2001:db8::/32", "production", "SandboxPolicy first"),
        ("192.0.2.7/32", "canary db", "SandboxPolicy first"),
        ("10.0.0.0/8", "production", "SandboxPolicy second"),
        ("198.51.100.0/24", "production", "SandboxPolicy second"),
    ]
    [canary] = bounds.canaries
    assert (canary.name, canary.address, canary.port, canary.protocol, canary.policy) == (
        "db",
        "192.0.2.7",
        5432,
        "TCP",
        "first",
    )


def test_a_policy_of_other_namespaces_closes_and_demands_nothing_here() -> None:
    other = sandbox_policy(
        "other",
        namespaceSelector={"matchLabels": {"team": "other"}},
        production={"cidrs": ["203.0.113.0/24"], "namespaceSelector": PROD},
        workload={"requireDigest": True, "requiredNodeLabels": {"zone": "a"}},
        isolation={"intervalSeconds": 5},
    )
    mine = sandbox_policy("mine", network={"egressCIDRs": ["203.0.113.0/24"]}, isolation={"mode": "AtStart"})
    assert bounds_of(mine, other, others=(namespace("shop", env="prod"),)) == bounds_of(mine)


def test_namespaces_are_production_by_any_policy_that_selects_them() -> None:
    by_label = sandbox_policy("by-label", production={"namespaceSelector": PROD})
    by_absence = sandbox_policy(
        "by-absence",
        production={
            "namespaceSelector": {"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["dev"]}]}
        },
    )
    others = (namespace("shop", env="prod"), namespace("tools", env="dev"), namespace("kube-system"))
    bounds = bounds_of(by_label, by_absence, sandbox_policy("neither"), others=others, labels={"env": "dev"})

    assert dict(bounds.production_namespaces) == {"kube-system": ("by-absence",), "shop": ("by-absence", "by-label")}
    assert "tools" not in bounds.production_namespaces
    assert "gone" not in bounds.production_namespaces
    assert len(bounds.production_namespaces) == 2


def test_no_agent_runs_in_a_namespace_that_is_itself_production() -> None:
    [found] = refused(
        spec_of(), bounds_of(sandbox_policy(production={"namespaceSelector": PROD}), labels={"env": "prod"})
    )

    assert (found.policy, found.field) == ("default", "metadata.namespace")
    assert "namespace lab is itself production" in found.message
    assert "spec.production.namespaceSelector of SandboxPolicy default" in found.message


def opening(name: str, *cidrs: str) -> Policy:
    return sandbox_policy(name, network={"openSharedAddressSpace": list(cidrs)})


@pytest.mark.parametrize(
    ("policies", "closed", "open_"),
    [
        pytest.param([()], ["100.64.0.0/10"], [], id="no opening"),
        pytest.param([("100.64.8.0/24",)], ["100.64.9.0/24"], ["100.64.8.0/24"], id="one policy opens a part"),
        pytest.param([("100.64.0.0/10",)], [], ["100.64.0.0/10"], id="one policy opens all of it"),
        pytest.param([("100.64.8.0/24",), ()], ["100.64.8.0/24"], [], id="another policy does not open it"),
        pytest.param(
            [("100.64.8.0/24",), ("100.64.0.0/16",)],
            ["100.64.9.0/24"],
            ["100.64.8.0/24"],
            id="another policy opens more",
        ),
        pytest.param(
            [("100.64.8.0/24",), ("100.64.8.0/25", "100.65.0.0/16")],
            ["100.64.8.128/25", "100.65.0.0/16"],
            ["100.64.8.0/25"],
            id="another policy opens less and elsewhere",
        ),
    ],
)
def test_of_the_shared_address_space_is_open_what_every_policy_opens(
    policies: list[tuple[str, ...]], closed: list[str], open_: list[str]
) -> None:
    bounds = bounds_of(*(opening(f"p{index}", *cidrs) for index, cidrs in enumerate(policies)))

    for cidr in closed:
        assert bounds.closed.reached(network(cidr))
    for cidr in open_:
        left_closed = {str(one.network) for one in bounds.closed.reached(network(cidr))}
        assert left_closed <= {"100.100.100.200/32"}
    assert [one.what for one in bounds.closed.reached(network("100.100.100.200/32"))][-1] == "metadata of Alibaba Cloud"


def test_a_policy_that_cannot_be_understood_opens_nothing() -> None:
    assert bounds_of(opening("a", "100.64.8.0/24"), broken_policy()).floor == bounds_of().floor


def test_nothing_but_the_shared_address_space_is_ever_opened() -> None:
    bounds = bounds_of(opening("a", "100.64.0.0/10"))
    assert networks(bounds, "floor") == [one.cidr for one in FLOOR if not one.openable]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param([{}], (True, 10), id="the defaults"),
        pytest.param([{"mode": "AtStart"}], (False, 10), id="at start"),
        pytest.param([{"mode": "AtStart"}, {}], (True, 10), id="continuous beats at start"),
        pytest.param([{"mode": "AtStart"}, {"mode": "AtStart"}], (False, 10), id="at start by all"),
        pytest.param([{"intervalSeconds": 300}, {"intervalSeconds": 5}], (True, 5), id="the shortest interval"),
        pytest.param([{"intervalSeconds": 300}], (True, 300), id="a longer interval"),
        pytest.param([], (True, 10), id="no policy"),
    ],
)
def test_the_strictest_proof_is_asked_for(settings: list[dict[str, Any]], expected: tuple[bool, int]) -> None:
    bounds = bounds_of(*(sandbox_policy(f"p{index}", isolation=one) for index, one in enumerate(settings)))
    assert (bounds.continuous, bounds.interval_seconds) == expected


def test_a_policy_that_cannot_be_understood_may_have_asked_for_a_continuous_proof() -> None:
    assert bounds_of(sandbox_policy(isolation={"mode": "AtStart"}), broken_policy()).continuous


def test_cluster_dns_needs_every_policy() -> None:
    yes = sandbox_policy("yes", network={"clusterDNS": True})
    no = sandbox_policy("no")

    assert bounds_of(yes).cluster_dns == ()
    assert bounds_of(yes, no).cluster_dns == ("no",)


def requiring(name: str, **labels: str) -> Policy:
    return sandbox_policy(name, workload={"requiredNodeLabels": labels})


def test_node_labels_are_required_by_all_policies_together() -> None:
    bounds = bounds_of(requiring("a", zone="1"), requiring("b", pool="agents", zone="1"))

    assert bounds.required_node_labels == {"zone": "1", "pool": "agents"}
    assert bounds.problems == ()


def test_policies_that_require_different_values_of_a_node_label_stop_everything() -> None:
    found = bounds_of(requiring("a", zone="1"), requiring("b", zone="2"), requiring("c", pool="agents")).problems

    assert [(one.policy, one.field) for one in found] == [
        ("a", "spec.placement.nodeSelector"),
        ("b", "spec.placement.nodeSelector"),
    ]
    assert "SandboxPolicy a requires nodes with the label zone=1 and SandboxPolicy b with zone=2" in found[0].message


def test_of_very_many_refusals_the_first_are_told() -> None:
    entries = [{"to": {"cidr": "0.0.0.0/0"}, "ports": [{"port": number}]} for number in range(1, 33)]
    policies = [sandbox_policy(f"p{number}", production={"cidrs": ["10.0.0.0/8"]}) for number in range(64)]

    found = refused(spec_of(network={"egress": entries}), bounds_of(*policies), reserved=nodes("192.0.2.1"))
    assert len(found) == policy.MAX_VIOLATIONS
