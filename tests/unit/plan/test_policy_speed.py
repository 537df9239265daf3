"""How long a decision about policies takes: the operator makes it at each look at each agent, on one thread."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

from bulkhead.plan.policy import MAX_VIOLATIONS, Violation
from tests.unit.plan.policies import bounds_of, namespace, nodes, refused, sandbox_policy, spec_of


def fastest(action: Callable[[], object], *, of: int) -> float:
    """Seconds of CPU of the fastest of some runs: when the machine was doing something else is not ours."""
    taken = []
    for _ in range(of):
        started = time.thread_time()
        action()
        taken.append(time.thread_time() - started)
    return min(taken)


def numbered(first: str, count: int, prefix: int) -> list[str]:
    start, size = int(ipaddress.IPv4Address(first)), 1 << (32 - prefix)
    return [str(ipaddress.IPv4Network((start + number * size, prefix))) for number in range(count)]


def test_an_ordinary_agent_is_judged_within_two_milliseconds() -> None:
    policies = [
        sandbox_policy(
            f"p{number}",
            production={
                "cidrs": numbered(f"10.{number}.0.0", 10, 24),
                "namespaceSelector": {"matchLabels": {"e": "p"}},
            },
            network={"egressCIDRs": ["203.0.113.0/24", "2001:db8::/32"], "namespaces": ["tools"]},
            workload={"registries": ["registry.example/"], "maxReplicas": 5, "maxResources": {"cpu": "2"}},
        )
        for number in range(5)
    ]
    bounds = bounds_of(*policies, others=tuple(namespace(f"n{number}", e="p") for number in range(1000)))
    spec = spec_of(
        network={
            "egress": [
                {"to": {"cidr": "203.0.113.0/25", "except": ["203.0.113.64/26"]}, "ports": [{"port": 443}]},
                {"to": {"cidr": "2001:db8:1::/48"}, "ports": [{"port": 443}]},
                {"to": {"service": "tools/search"}},
            ]
        }
    )
    reserved = nodes(*(one.partition("/")[0] for one in numbered("192.168.0.0", 500, 32)))

    assert refused(spec, bounds, reserved=reserved) == ()
    assert fastest(lambda: refused(spec, bounds, reserved=reserved), of=20) < 0.002
    # Also when the nodes have changed since the last look at any agent.
    assert fastest(lambda: refused(spec, bounds, reserved=(*reserved,)), of=20) < 0.01


def test_the_largest_policies_and_specs_do_not_hold_the_operator_up() -> None:
    policies = [
        sandbox_policy(
            f"p{number:02}",
            production={"cidrs": numbered(f"11.{number}.0.0", 64, 24)},
            network={"egressCIDRs": [*numbered(f"12.{number}.0.0", 62, 24), "0.0.0.0/0", "203.0.113.0/24"]},
        )
        for number in range(64)
    ]
    bounds = bounds_of(*policies)
    reserved = nodes(*(one.partition("/")[0] for one in numbered("172.16.0.0", 5000, 32)))

    def asking(cidr: str, excepts: list[str]) -> Callable[[], tuple[Violation, ...]]:
        to = [{"to": {"cidr": cidr, "except": excepts}, "ports": [{"port": port}]} for port in range(1, 33)]
        from_ = [{"from": {"cidr": cidr, "except": excepts}} for _ in range(32)]
        spec = spec_of(ports=[{"containerPort": 80}], network={"egress": to, "ingress": from_})
        return lambda: refused(spec, bounds, reserved=reserved)

    careful, greedy = asking("203.0.113.0/24", numbered("203.0.113.0", 64, 31)), asking("0.0.0.0/0", [])
    assert careful() == ()
    assert len(greedy()) == MAX_VIOLATIONS
    assert fastest(careful, of=5) < 0.5
    assert fastest(greedy, of=5) < 0.5
