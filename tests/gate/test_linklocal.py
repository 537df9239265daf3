"""The link itself over IPv6: the node's end of the pod's link must not answer either."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gate.world import UNROUTED, Gate, World, wait_until

TARGET = f"far TCP {UNROUTED} 80"
"""Something to try that is closed in any case."""


def test_a_node_that_answers_an_echo_on_the_link_is_an_arrival(world: World, tmp_path: Path) -> None:
    outcome = Gate(world, "hold", [TARGET], tmp_path / "message", patience=0).ends()
    node = f"{world.link_local(world.router, 'to-pod')}%eth0"
    assert outcome.code == 3
    assert outcome.answered == {
        f"link-local ICMPv6 {node} 0 answered",
        f"link-local TCP {node} 10250 refused",
    }


def test_its_kubelet_is_tried_where_the_node_answers(world: World, tmp_path: Path) -> None:
    world.serve(world.router, "tcp:10250")
    outcome = Gate(world, "hold", [TARGET], tmp_path / "message", patience=0).ends()
    node = f"{world.link_local(world.router, 'to-pod')}%eth0"
    assert f"link-local TCP {node} 10250 accepted" in outcome.answered


def test_a_pod_without_ipv4_rules_for_it_is_told_by_the_link_alone(world: World, tmp_path: Path) -> None:
    """IPv4 is closed in full, and the pod has no IPv6 address but the one that every interface has."""
    world.rules(world.router, hook="input", rules=["meta nfproto ipv4 drop"])
    world.run(world.pod, "ip", "-6", "address", "flush", "dev", "eth0", "scope", "global")
    outcome = Gate(
        world, "hold", ["kubelet TCP node 10250"], tmp_path / "message", patience=0, nodes="10.88.1.1"
    ).ends()
    assert outcome.code == 3
    assert all(line.startswith("open: link-local ") for line in outcome.lines)


@pytest.mark.parametrize("rule", ["drop", "reject with icmpv6 admin-prohibited"])
def test_a_link_that_is_closed_is_counted_as_a_target(world: World, tmp_path: Path, rule: str) -> None:
    world.rules(world.router, hook="input", rules=[f"icmpv6 type echo-request {rule}", "tcp dport 10250 drop"])
    outcome = Gate(world, "hold", [TARGET], tmp_path / "message").ends()
    assert outcome.code == 0
    assert [line.partition(" at ")[0] for line in outcome.lines] == ["closed 2 targets"]


def test_a_pod_without_ipv6_has_no_link_to_try(world: World, tmp_path: Path) -> None:
    world.sysctl(world.pod, "net.ipv6.conf.all.disable_ipv6=1")
    outcome = Gate(world, "hold", [TARGET, "far6 TCP fd88:2::2 80"], tmp_path / "message").ends()
    assert outcome.code == 0
    assert [line.partition(" at ")[0] for line in outcome.lines] == ["closed 2 targets"]


def test_nothing_is_proven_before_the_pod_can_use_its_addresses(world: World, tmp_path: Path) -> None:
    """While duplicate address detection runs, nothing can be sent over IPv6, and silence says nothing."""
    world.sysctl(world.pod, "net.ipv6.conf.eth0.accept_dad=1", "net.ipv6.conf.eth0.dad_transmits=12")
    world.sysctl(world.pod, "net.ipv6.conf.all.accept_dad=1")
    world.run(world.pod, "ip", "link", "set", "eth0", "down")
    world.run(world.pod, "ip", "link", "set", "eth0", "up")
    world.run(world.pod, "ip", "route", "replace", "10.88.2.0/24", "via", "10.88.1.1")
    # The address comes some time after the interface is up. From then on the check takes longer than starting a gate.
    wait_until(
        lambda: "tentative" in world.run(world.pod, "ip", "-6", "address", "show", "dev", "eth0"), "it is being checked"
    )
    outcome = Gate(world, "hold", ["nobody TCP 10.99.0.1 80"], tmp_path / "message", patience=0).ends()
    assert (outcome.code, len(outcome.lines)) == (4, 1)
    assert outcome.lines[0].startswith("unproven: an IPv6 address of this pod is not usable yet at ")
    held = Gate(world, "hold", ["nobody TCP 10.99.0.1 80"], tmp_path / "message", patience=30).ends()
    assert held.code == 3, "once the address is usable, the node is found to answer"


def test_a_pod_that_may_not_send_an_echo_proves_nothing(world: World, tmp_path: Path) -> None:
    outcome = Gate(world, "hold", [TARGET], tmp_path / "message", patience=0, group=1234).ends()
    assert outcome.code == 4
    assert "Permission denied" in outcome.lines[0]
    assert "net.ipv4.ping_group_range" in outcome.lines[0]
