"""The link itself: who answers an echo to all hosts on the pod's interfaces, over IPv6.

Every interface with IPv6 has a link-local address, also where a cluster is said to have IPv4 alone, and rules for IPv4
say nothing about it: the node's own end of the pod's link may answer there, its kubelet too.
"""

import _socket as socket
import errno

from bulkhead.gate.probe import NO_WAY, Listener, Round
from bulkhead.gate.settings import Target, pack

ADDRESSES = "/proc/net/if_inet6"
TENTATIVE = 0x40
FAILED = 0x08
"""IFA_F_TENTATIVE and IFA_F_DADFAILED of linux/if_addr.h."""

ALL_HOSTS = "ff02::1"
ECHO = b"\x80\x00\x00\x00\x00\x00\x00\x01bulkhead"
ECHO_REPLY = b"\x81"
KUBELET_PORT = 10250
NAME = "link-local"
FOLLOWED = 16
"""Answering hosts of one round whose kubelet port is tried too."""


class Interfaces:
    """The pod's interfaces with IPv6, loopback left out.

    Attributes:
        names: by interface index.
        own: the addresses of this pod, as 16 bytes each.
        settling: an address is still being checked for duplicates (RFC 4862): nothing can be sent from it yet.
    """

    __slots__ = ("names", "own", "settling")

    def __init__(self, listing: str) -> None:
        self.names: dict[int, str] = {}
        self.own: set[bytes] = set()
        self.settling = False
        for line in listing.splitlines():
            address, index, _, _, flags, name = line.split()
            if name == "lo":
                continue
            self.names[int(index, 16)] = name
            self.own.add(bytes.fromhex(address))
            self.settling |= int(flags, 16) & (TENTATIVE | FAILED) == TENTATIVE


def interfaces() -> Interfaces:
    """Reads the interfaces of this network namespace; without IPv6 in the kernel there are none."""
    try:
        with open(ADDRESSES, encoding="ascii") as listing:
            return Interfaces(listing.read())
    except FileNotFoundError:
        return Interfaces("")


class Echo(Listener):
    """An echo request to all hosts on every interface, and what comes of it in one round."""

    def __init__(self, found: Interfaces, round: Round) -> None:
        self._found = found
        self._round = round
        self._seen: set[str] = set()
        self.socket = socket.socket(
            socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6
        )

    def send(self) -> None:
        """Sends the requests and begins to listen."""
        self._round.listen(self)
        for index, name in self._found.names.items():
            try:
                self.socket.sendto(ECHO, (ALL_HOSTS, 0, 0, index))
            except OSError as error:
                # While an address settles there is none to send from; that is told by itself.
                if error.errno not in (*NO_WAY, errno.EADDRNOTAVAIL):
                    self._round.failed.append(f"{NAME} echo on {name} could not be tried ({error.strerror})")

    def receive(self) -> None:
        """Takes one answer; the host that sent it is reachable, and its kubelet's port is tried too."""
        try:
            packet, (host, _, _, index) = self.socket.recvfrom(64)
        except OSError:  # an ICMP error about the request: it did not get through
            return
        zone = f"{host}%{self._found.names.get(index, index)}"
        if packet[:1] != ECHO_REPLY or pack(host) in self._found.own or zone in self._seen:
            return
        if len(self._seen) < FOLLOWED:
            self._seen.add(zone)
            self._round.answered.append(f"{NAME} ICMPv6 {zone} 0 answered")
            self._round.begin(Target(NAME, "TCP", host, KUBELET_PORT, zone=zone, scope=index))


def echo(found: Interfaces, round: Round) -> Echo | None:
    """Sends an echo request to all hosts on every interface, as a part of a round; None where there is no IPv6."""
    if not found.names:
        return None
    try:
        opened = Echo(found, round)
    except OSError as error:
        hint = "; accepted is a pod whose sysctl net.ipv4.ping_group_range holds this program's group"
        words = f"{error.strerror}{hint if error.errno == errno.EACCES else ''}"
        round.failed.append(f"{NAME} echo could not be tried ({words})")
        return None
    opened.send()
    return opened
