"""Services that have taken an address which an agent was granted."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.plan import policy
from bulkhead.plan.diversion import diverted
from tests.unit.plan import samples

PRODUCTION = {"metadata": {"name": "shop", "uid": "ns-2", "labels": {"production": "yes"}}}
BOUNDS = policy.bounds(
    [policy.parse(samples.sandbox_policy(production={"namespaceSelector": {"matchLabels": {"production": "yes"}}}))],
    namespace=samples.namespace(),
    namespaces=[samples.namespace(), PRODUCTION],
)


def granted(cidr: str, *excepted: str) -> dict[str, Any]:
    block: dict[str, Any] = {"cidr": cidr, **({"except": list(excepted)} if excepted else {})}
    return {"spec": {"egress": [{"to": [{"podSelector": {}}]}, {"to": [{"ipBlock": block}]}]}}


def service(*taken: str, namespace: str = "team", selector: dict[str, str] | None = None) -> dict[str, Any]:
    spec = {"selector": selector} if selector else {}
    return {"metadata": {"name": "front", "namespace": namespace}, "spec": spec, "externalAddresses": list(taken)}


OUTSIDE = granted("203.0.113.0/24", "203.0.113.128/25")
CASES: dict[str, tuple[dict[str, Any] | None, dict[str, Any], bool | None]] = {
    "no selector, inside": (OUTSIDE, service("203.0.113.9"), True),
    "one of several inside": (OUTSIDE, service("198.51.100.1", "203.0.113.9"), True),
    "a selector, inside": (OUTSIDE, service("203.0.113.9", selector={"app": "x"}), False),
    "a selector in production": (OUTSIDE, service("203.0.113.9", namespace="shop", selector={"app": "x"}), True),
    "inside of an exception": (OUTSIDE, service("203.0.113.200"), None),
    "outside": (OUTSIDE, service("198.51.100.1"), None),
    "another family": (OUTSIDE, service("2001:db8::1"), None),
    "IPv4 written as IPv6, inside": (OUTSIDE, service("::ffff:203.0.113.9"), True),
    "IPv4 written as IPv6, inside of an exception": (OUTSIDE, service("::ffff:203.0.113.200"), None),
    "IPv6, inside": (granted("2001:db8::/32"), service("2001:db8::1"), True),
    "an address that can be read in two ways": (OUTSIDE, service("0203.0.113.9"), True),
    "pods alone are granted": ({"spec": {"egress": [{"to": [{"podSelector": {}}]}]}}, service("203.0.113.9"), None),
    "nothing is granted": (None, service("203.0.113.9"), None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_service_diverts_what_lies_in_a_granted_network(case: str) -> None:
    rules, made, critical = CASES[case]

    found = diverted(rules, [made], bounds=BOUNDS)

    assert [one.critical for one in found] == ([] if critical is None else [critical])
    for one in found:
        assert one.name == f"{made['metadata']['namespace']}/front"
        assert "203.0.113.9" in one.message or "2001:db8::1" in one.message
