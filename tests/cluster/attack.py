"""Attempts to reach something, made in a pod, and what arrived of them at the other end."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster import network
from tests.cluster.ears import Ear, listening
from tests.cluster.pods import Namespace

KNOCK = Path(__file__).with_name("knock.py").read_text()
SERVE = Path(__file__).with_name("serve.py").read_text()
SOURCES = range(10_000, 25_000)
"""Ports that attempts come from, and identifiers of echo requests: below those that a kernel gives by itself."""
ARRIVED = frozenset({"answered", "refused"})
"""Outcomes that the target itself brought about. A packet filter here never answers: what it drops is silent."""


@dataclass(frozen=True)
class Attempt:
    """One packet's worth of trying.

    Attributes:
        protocol: TCP, UDP or ICMP.
        address: an address, link-local ones with their interface, or a name.
        port: the port; 0 for ICMP.
        place: name of the place where it would arrive.
        arrives: the port it would have there: a Service has another than its pods.
        masked: whether the node gives it an address and a port of its own on the way.
    """

    protocol: str
    address: str
    port: int
    place: str
    arrives: int
    masked: bool = False

    @classmethod
    def parse(cls, text: str, address: str, place: str) -> Attempt:
        """Read `TCP/80`, `TCP/80>8080` (sent to 80, arriving at 8080), `TCP/80>>8080` (and masked) or `ICMP`."""
        protocol, _, ports = text.partition("/")
        sent, _, arrives = ports.partition(">")
        to = int(arrives.removeprefix(">") or sent or 0)
        return cls(protocol, address, int(sent or 0), place, to, masked=arrives.startswith(">"))

    def __str__(self) -> str:
        port = f"/{self.port}" if self.port else ""
        return f"{self.protocol}{port} {self.address}"


@dataclass(frozen=True)
class Result:
    """How an attempt ended.

    Attributes:
        outcome: as the one who tried saw it; see knock.py.
        arrived: how many packets of it the place got.
    """

    outcome: str
    arrived: int

    @property
    def got_through(self) -> bool:
        """Whether anything of it arrived, by either end's account."""
        return self.arrived > 0 or self.outcome in ARRIVED

    def __str__(self) -> str:
        return f"{self.arrived} arrived, {self.outcome}"


class Places:
    """Where packets could arrive, each with an ear."""

    def __init__(self, ears: Mapping[str, Ear]) -> None:
        self._ears = ears
        self._drawn = secrets.randbelow(len(SOURCES))

    def attack(
        self, namespace: Namespace, pod: str, attempts: Iterable[Attempt], *, seconds: float = 2.0
    ) -> dict[Attempt, Result]:
        """Make attempts from a pod, all at once.

        TCP and UDP are tried by a program in the pod's container. Echo requests are sent by root in the pod's network
        namespace: who has a user namespace of its own may not send them, and root must not get through either.
        """
        numbered = {self._source(): one for one in dict.fromkeys(attempts)}
        plans = {
            source: {"source": source, "protocol": one.protocol, "address": one.address, "port": one.port}
            for source, one in numbered.items()
        }
        echoes = json.dumps([plan for plan in plans.values() if plan["protocol"] == "ICMP"])
        others = json.dumps([plan for plan in plans.values() if plan["protocol"] != "ICMP"])
        entered = ["nsenter", f"--net={namespace.network_of(pod)}", sys.executable, "-I", "-c", KNOCK]
        before = {one: self._masked(one) for one in numbered.values()}
        outcomes = json.loads(namespace.inside(pod, "python3", "-c", KNOCK, others, str(seconds)))
        done = subprocess.run([*entered, echoes, str(seconds)], capture_output=True, text=True, check=True)
        outcomes |= json.loads(done.stdout)
        return {
            one: Result(
                outcomes[str(source)],
                self._ears[one.place].count(one.protocol, source, one.arrives) + self._masked(one) - before[one],
            )
            for source, one in numbered.items()
        }

    def _source(self) -> int:
        """A number that no attempt here had before.

        The ears go on counting: with one that was drawn at random, now and then an agent had the number by which an
        ordinary pod had got through before.
        """
        self._drawn += 1
        return SOURCES[self._drawn % len(SOURCES)]

    def _masked(self, attempt: Attempt) -> int:
        """How many packets the place got with an address of the node's, of the attempt's family."""
        if not attempt.masked:
            return 0
        family = "inet6" if ":" in attempt.address else "inet"
        node = [
            one["local"]
            for link in links(Path("/run/netns", network.NODE))
            for one in link["addr_info"]
            if one["family"] == family
        ]
        return self._ears[attempt.place].count_from(attempt.protocol, node, attempt.arrives)


@contextmanager
def places(**namespaces: Path) -> Iterator[Places]:
    """Listen in network namespaces, each under a name."""
    with ExitStack() as stack:
        yield Places({name: stack.enter_context(listening(path)) for name, path in namespaces.items()})


@contextmanager
def serving(namespace: Path, *ports: int) -> Iterator[None]:
    """Answer on ports of a network namespace, by TCP and UDP, in both families."""
    server = subprocess.Popen(
        ["nsenter", f"--net={namespace}", sys.executable, "-I", "-c", SERVE, *map(str, ports)],
        stdin=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        server.kill()
        server.wait()


def gateway(namespace: Namespace, pod: str) -> list[str]:
    """The node's link-local address on the link to a pod, as the pod would write it; none where it has none."""
    number = next(link["link_index"] for link in links(namespace.network_of(pod)) if link["ifname"] == "eth0")
    (link,) = [one for one in links(Path("/run/netns", network.NODE)) if one["ifindex"] == number]
    return [f"{one['local']}%eth0" for one in link["addr_info"] if one["family"] == "inet6" and one["scope"] == "link"]


def links(namespace: Path) -> list[dict[str, Any]]:
    """The network devices of a network namespace with their addresses, in the words of `ip -json address`."""
    command = ["nsenter", f"--net={namespace}", "ip", "-json", "address", "show"]
    found: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found
