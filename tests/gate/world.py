"""Three network namespaces in a row, for real packets: the pod's, a router's, and that of a machine far away.

    pod eth0 10.88.1.2 ── 10.88.1.1 to-pod router to-far 10.88.2.1 ── 10.88.2.2 eth0 far
           fd88:1::2      fd88:1::1                 fd88:2::1      fd88:2::2

The router plays the node: it forwards, and it is where network policies are enforced. None of the three has a default
route, and nothing leads from them to this machine.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster.network import make_namespace
from tests import machine

OPERATOR = Path(__file__).parents[2] / "operator"
PROGRAM = OPERATOR / "bulkhead/gate/__main__.py"
GROUP = 65532

FAR, FAR6 = "10.88.2.2", "fd88:2::2"
ROUTER, ROUTER6 = "10.88.1.1", "fd88:1::1"
ABSENT = "10.88.2.99"
UNROUTED, UNROUTED6 = "10.99.0.1", "fd99::1"

LINK, TENTATIVE = 0x20, 0x40
"""IPV6_ADDR_LINKLOCAL of the kernel's net/ipv6.h, and IFA_F_TENTATIVE of linux/if_addr.h."""

_SERVER = """
import select, socket, sys
poll, sockets = select.poll(), {}
for word in sys.argv[1:]:
    kind, port = word.split(":")
    one = socket.socket(socket.AF_INET6, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    one.bind(("::", int(port)))
    if kind == "tcp":
        one.listen()
    poll.register(one, select.POLLIN)
    sockets[one.fileno()] = (kind, one)
print("ready", flush=True)
while True:
    for descriptor, _ in poll.poll():
        kind, one = sockets[descriptor]
        if kind == "tcp":
            one.accept()[0].close()
        else:
            data, sender = one.recvfrom(512)
            if kind == "udp":
                one.sendto(data, sender)
"""
"""Listens on `tcp:PORT` (accepts and closes), `udp:PORT` (sends back) and `mute:PORT` (takes datagrams)."""


@dataclass(frozen=True)
class Outcome:
    """How a gate ended: its exit code, and the lines of its termination message."""

    code: int
    lines: tuple[str, ...]

    @property
    def answered(self) -> set[str]:
        """What it found open, without times."""
        return {line.removeprefix("open: ").rpartition(" at ")[0] for line in self.lines if line.startswith("open: ")}


class World:
    """The three namespaces.

    Args:
        name: what their names begin with.
    """

    def __init__(self, name: str) -> None:
        self.pod, self.router, self.far = (f"{name}-{part}" for part in ("pod", "router", "far"))
        self._processes: list[subprocess.Popen[bytes]] = []

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[World]:
        """Make the namespaces; remove them, and all that runs in them, afterwards."""
        world = cls(f"gate-{secrets.token_hex(3)}")
        with machine.changed():
            try:
                world._build()
                yield world
            finally:
                world._remove()

    def _build(self) -> None:
        for namespace in (self.pod, self.router, self.far):
            make_namespace(namespace)
            # Addresses are usable at once; the tests of duplicate address detection set this back.
            self.sysctl(namespace, "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
            _run("ip", "-n", namespace, "link", "set", "lo", "up")
        self.sysctl(self.pod, f"net.ipv4.ping_group_range={GROUP} {GROUP}")
        self.sysctl(self.router, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.icmp_ratelimit=0")
        self.sysctl(self.router, "net.ipv6.icmp.ratelimit=0")
        self.sysctl(self.far, "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        self._link(self.pod, "to-pod", subnet=1, far_side=2)
        self._link(self.far, "to-far", subnet=2, far_side=1)
        # The kernel gives them their link-local addresses in work of its own, some time after they are up.
        wait_until(lambda: self._settled(self.pod) >= {"eth0"}, "the pod has its addresses")
        wait_until(lambda: self._settled(self.router) >= {"to-pod", "to-far"}, "the router has its addresses")
        wait_until(lambda: self._settled(self.far) >= {"eth0"}, "the far machine has its addresses")

    def _settled(self, namespace: str) -> set[str]:
        """Interfaces that have a link-local address, and none that cannot be used yet."""
        found: dict[str, list[tuple[int, int]]] = {}
        for line in self.run(namespace, "cat", "/proc/net/if_inet6").splitlines():
            _, _, _, scope, flags, device = line.split()
            found.setdefault(device, []).append((int(scope, 16), int(flags, 16)))
        return {
            device
            for device, each in found.items()
            if any(scope == LINK for scope, _ in each) and not any(flags & TENTATIVE for _, flags in each)
        }

    def _link(self, namespace: str, router_end: str, *, subnet: int, far_side: int) -> None:
        """Join a namespace to the router, with addresses of a subnet and a route to the subnet on the other side."""
        _run(*f"ip -n {namespace} link add eth0 type veth peer name {router_end} netns {self.router}".split())
        for where, device, last in ((self.router, router_end, 1), (namespace, "eth0", 2)):
            _run(*f"ip -n {where} address add 10.88.{subnet}.{last}/24 dev {device}".split())
            _run(*f"ip -n {where} address add fd88:{subnet}::{last}/64 dev {device} nodad".split())
            _run(*f"ip -n {where} link set {device} up".split())
        _run(*f"ip -n {namespace} route add 10.88.{far_side}.0/24 via 10.88.{subnet}.1".split())
        _run(*f"ip -n {namespace} route add fd88:{far_side}::/64 via fd88:{subnet}::1".split())

    def _remove(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        for namespace in (self.pod, self.router, self.far):
            # A namespace that was never made, because making the one before it failed, is not there to remove.
            if Path("/run/netns", namespace).exists():
                _run("ip", "netns", "delete", namespace)

    def sysctl(self, namespace: str, *settings: str) -> None:
        """Set kernel parameters of a namespace, each given as `name=value`."""
        self.run(namespace, "sysctl", "-q", "-w", *settings)

    def rules(self, namespace: str, *, hook: str, rules: Sequence[str] = ()) -> None:
        """Replace the packet filter rules at one hook of a namespace."""
        body = "\n".join(rules)
        text = f"table inet at-{hook}\ndelete table inet at-{hook}\ntable inet at-{hook} {{\n chain rules {{\n"
        text += f"type filter hook {hook} priority 0;\n{body}\n}}\n}}\n"
        self.run(namespace, "nft", "-f", "-", given=text)

    def serve(self, namespace: str, *ports: str) -> subprocess.Popen[bytes]:
        """Listen in a namespace until the world ends; see `_SERVER` for what can be given."""
        process = self.start(namespace, sys.executable, "-c", _SERVER, *ports)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def start(self, namespace: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a process in a namespace; it is ended with the world at the latest."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._processes.append(process)
        return process

    def run(self, namespace: str, *command: str, given: str = "") -> str:
        """Run a command in a namespace; give what it says."""
        return _run("ip", "netns", "exec", namespace, *command, given=given)

    def link_local(self, namespace: str, device: str) -> str:
        """The link-local address of an interface."""
        listing = self.run(namespace, "ip", "-brief", "-6", "address", "show", "dev", device, "scope", "link")
        return listing.split()[2].partition("/")[0]


class Gate:
    """A gate under test, in the pod's namespace of a world.

    It runs in the group that the namespace lets open ICMP sockets, as in a pod.
    """

    def __init__(
        self,
        world: World,
        mode: str,
        targets: Sequence[str],
        message: Path,
        *,
        interval: int = 1,
        nodes: str = "",
        patience: float | None = None,
        group: int = GROUP,
    ) -> None:
        self._message = message
        message.unlink(missing_ok=True)
        self.process = world.start(
            world.pod,
            *("setpriv", f"--regid={group}", "--clear-groups", sys.executable, "-I", "-S"),
            *([str(PROGRAM)] if patience is None else ["-c", impatient(patience)]),
            mode,
            BULKHEAD_GATE_TARGETS="\n".join(targets),
            BULKHEAD_GATE_INTERVAL=str(interval),
            BULKHEAD_GATE_MESSAGE_PATH=str(message),
            BULKHEAD_NODE_IPS=nodes,
        )

    def begun(self) -> None:
        """Wait until it hears what it is told.

        Three programs follow one another in its process, and a signal before it has handlers ends whichever it is.
        """
        wait_until(self._hears, "the gate has handlers for its signals")

    def _hears(self) -> bool:
        assert self.process.poll() is None, "the gate has ended"
        status = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        # That for the timer is the last but one that it sets.
        return all(int(status["SigCgt"], 16) >> number - 1 & 1 for number in (signal.SIGTERM, signal.SIGALRM))

    def ends(self, *, within: float = 60) -> Outcome:
        """Wait until it has ended."""
        _, errors = self.process.communicate(timeout=within)
        lines = self._message.read_text().splitlines() if self._message.exists() else []
        assert b"Traceback" not in errors, errors.decode()
        return Outcome(self.process.returncode, tuple(lines))

    def runs(self, *, seconds: float) -> bool:
        """Whether it is still there after a time."""
        descriptor = os.pidfd_open(self.process.pid)
        try:
            ended, _, _ = select.select([descriptor], [], [], seconds)
        finally:
            os.close(descriptor)
        return not ended


def impatient(seconds: float, *, more: str = "") -> str:
    """A program that runs the gate with less patience."""
    return (
        f"import sys; sys.path.insert(0, {str(OPERATOR)!r})\n"
        f"from bulkhead.gate import program\nprogram.PATIENCE_SECONDS = {seconds}\n{more}\n"
        "sys.exit(program.main(sys.argv[1:]))"
    )


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Poll a condition, for a minute at most."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"not within 60 s: {what}"
        time.sleep(0.02)


def _run(*command: str, given: str = "") -> str:
    finished = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{' '.join(command)}: {finished.stderr}"
    return finished.stdout
