"""What counts as arrived, tried with real packets against every way in which a network can say no."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gate.world import ABSENT, FAR, FAR6, ROUTER, ROUTER6, UNROUTED, UNROUTED6, Gate, Outcome, World

# Ports, and what becomes of packets to them: on the way, at the router, and at the far machine itself.
ON_THE_WAY = {
    7010: "drop",
    7011: "reject",
    7012: "reject with icmpx type admin-prohibited",
    7013: "reject with icmpx type host-unreachable",
    7014: "reject with icmpx type no-route",
}
RESET = 7015
AT_THE_TARGET = {
    7020: "reject",
    7021: "reject with icmpx type admin-prohibited",
    7022: "drop",
}
ROUTES = {"blackhole": "10.98.1.0/24", "prohibit": "10.98.2.0/24", "unreachable": "10.98.3.0/24"}

OPEN = {
    "a listener accepts": (f"open TCP {FAR} 7001", "accepted"),
    "a listener accepts, IPv6": (f"open6 TCP {FAR6} 7001", "accepted"),
    "nobody listens": (f"shut TCP {FAR} 7009", "refused"),
    "nobody listens, IPv6": (f"shut6 TCP {FAR6} 7009", "refused"),
    "a reset from the way, which looks like the target's": (f"reset TCP {FAR} {RESET}", "refused"),
    "the target's own filter rejects": (f"filtered TCP {FAR} 7020", "rejected"),
    "the target's own filter rejects, IPv6": (f"filtered6 TCP {FAR6} 7020", "rejected"),
    "the target's own filter prohibits": (f"prohibited TCP {FAR} 7021", "rejected"),
    "a datagram is answered": (f"echo UDP {FAR} 7002", "answered"),
    "a datagram is answered, IPv6": (f"echo6 UDP {FAR6} 7002", "answered"),
    "nobody takes the datagram": (f"nobody UDP {FAR} 7009", "rejected"),
    "nobody takes the datagram, IPv6": (f"nobody6 UDP {FAR6} 7009", "rejected"),
    "nobody takes the datagram behind a balancer": (f"nobody-balanced UDP {FAR} 7008 balanced", "rejected"),
    "a balanced address accepts": (f"balanced TCP {FAR} 7003 balanced", "accepted"),
    "a balanced address refuses": (f"balanced-shut TCP {FAR} 7007 balanced", "refused"),
    "the node refuses": ("kubelet TCP node 10250", "refused"),
}
CLOSED = {
    **{f"{rule} on the way": f"way-{port} TCP {FAR} {port}" for port, rule in ON_THE_WAY.items()},
    **{f"{rule} on the way, IPv6": f"way6-{port} TCP {FAR6} {port}" for port, rule in ON_THE_WAY.items()},
    **{f"{rule} on the way, UDP": f"wayu-{port} UDP {FAR} {port}" for port, rule in ON_THE_WAY.items()},
    "dropped at the target": f"swallowed TCP {FAR} 7022",
    "a datagram that nobody answers": f"mute UDP {FAR} 7004",
    "no such machine": f"absent TCP {ABSENT} 80",
    "no route": f"unrouted TCP {UNROUTED} 80",
    "no route, IPv6": f"unrouted6 TCP {UNROUTED6} 80",
    "no route for a datagram": f"unroutedu UDP {UNROUTED} 80",
    "a blackhole": "hole TCP 10.98.1.1 80",
    "a prohibited route": "prohibit TCP 10.98.2.1 80",
    "an unreachable route": "unreach TCP 10.98.3.1 80",
    "a filter in the pod itself": f"local TCP {FAR} 7030",
    "a balancer rejects in the target's name": f"balanced-reject TCP {FAR} 7020 balanced",
    "the node's filter rejects in the node's name": "node-filter TCP node 7020",
}


@pytest.fixture(scope="module")
def tried(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """The verdict over all targets of the tables above, tried side by side as the gate does."""
    with World.opened() as world:
        world.serve(world.far, "tcp:7001", "udp:7002", "tcp:7003", "mute:7004", "tcp:7010", "tcp:7011", "tcp:7020")
        on_the_way = [f"meta l4proto {{ tcp, udp }} th dport {port} {rule}" for port, rule in ON_THE_WAY.items()]
        world.rules(world.router, hook="forward", rules=[*on_the_way, f"tcp dport {RESET} reject with tcp reset"])
        # Nothing of the link itself answers here: that has tests of its own.
        world.rules(world.router, hook="input", rules=["tcp dport 7020 reject", "icmpv6 type echo-request drop"])
        at_the_target = [f"tcp dport {port} {rule}" for port, rule in AT_THE_TARGET.items()]
        world.rules(world.far, hook="input", rules=at_the_target)
        world.rules(world.pod, hook="output", rules=["tcp dport 7030 drop"])
        for kind, network in ROUTES.items():
            world.run(world.pod, "ip", "route", "add", kind, network)
        targets = [*(target for target, _ in OPEN.values()), *CLOSED.values()]
        message = tmp_path_factory.mktemp("gate") / "message"
        yield Gate(world, "hold", targets, message, patience=0, nodes=f"{ROUTER},{ROUTER6}").ends()


@pytest.fixture(scope="module")
def unhindered(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """The verdict over the targets that are stopped on the way, with nothing there to stop them."""
    with World.opened() as world:
        world.rules(world.router, hook="input", rules=["icmpv6 type echo-request drop"])
        targets = [target for target in CLOSED.values() if target.startswith("way")]
        message = tmp_path_factory.mktemp("gate") / "message"
        yield Gate(world, "hold", targets, message, patience=0).ends()


@pytest.mark.parametrize("target", [target for target in CLOSED.values() if target.startswith("way")])
def test_it_is_the_way_that_stopped_it(unhindered: Outcome, target: str) -> None:
    assert f"{target} {'rejected' if 'UDP' in target else 'refused'}" in unhindered.answered


@pytest.mark.parametrize(("target", "how"), OPEN.values(), ids=OPEN.keys())
def test_what_reaches_the_target_is_an_arrival(tried: Outcome, target: str, how: str) -> None:
    assert f"{_as_told(target)} {how}" in tried.answered


@pytest.mark.parametrize("target", CLOSED.values(), ids=CLOSED.keys())
def test_what_is_stopped_on_the_way_is_none(tried: Outcome, target: str) -> None:
    name = target.split()[0]
    assert [line for line in tried.lines if f" {name} " in line] == []


def test_nothing_else_answered_and_all_was_tried(tried: Outcome) -> None:
    # The node has two addresses, and each target about it is one about both.
    assert len(tried.answered) == len(OPEN) + 1
    assert tried.code == 3
    assert [line for line in tried.lines if not line.startswith("open: ")] == []


def _as_told(target: str) -> str:
    return target.removesuffix(" balanced").replace(" node ", f" {ROUTER} ")
