"""One round of the proof: all targets are tried side by side, and what arrived is told.

What counts as arrived: a TCP connection that is accepted, or refused by the target itself; a datagram that is answered;
and either of them if the target's own address rejects it with an ICMP error. What does not: silence, no route, and an
ICMP error from anyone else, for then a router or a packet filter on the way has stopped the packet.
"""

import _socket as socket
import errno
import select
import time

from bulkhead.gate.settings import Target

AT_ONCE = 200
"""Attempts side by side: each needs a descriptor, and a container may have 1024."""

DATAGRAM = b"\xb0\x1c\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01"
"""What UDP targets are sent: a DNS query for the root's name servers. Echo servers answer it, and DNS servers too."""

IP_RECVERR = 11
IPV6_RECVERR = 25
ICMP_ORIGINS = (2, 3)
"""SO_EE_ORIGIN_ICMP and SO_EE_ORIGIN_ICMP6 of linux/errqueue.h."""

REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET)
NO_WAY = (
    *(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENONET, errno.ETIMEDOUT),
    # What packet filters, and routes of the kinds prohibit and blackhole, make of a call.
    *(errno.EACCES, errno.EPERM, errno.EINVAL),
)
"""Errors which say that a packet did not get away or did not arrive. Every other means that nothing was tried: an agent
that has used up all local ports, for example, must not look isolated (EADDRNOTAVAIL)."""


class Listener:
    """A socket whose packets belong to a round although no attempt of the round sent for them.

    Attributes:
        socket: where they come in.
    """

    socket: socket.socket

    def receive(self) -> None:
        """Takes one packet."""
        raise NotImplementedError


class Round:
    """Attempts that are under way.

    Attributes:
        answered: what arrived, each as `name protocol address port how`.
        failed: what could not be tried, each in words.
    """

    def __init__(self, *, has_ipv6: bool) -> None:
        self.answered: list[str] = []
        self.failed: list[str] = []
        self._has_ipv6 = has_ipv6
        self._poll = select.poll()
        self._attempts: dict[int, tuple[Target, socket.socket]] = {}
        self._listeners: dict[int, Listener] = {}

    def begin(self, target: Target) -> None:
        """Sends the first packet of an attempt."""
        kind = socket.SOCK_STREAM if target.protocol == "TCP" else socket.SOCK_DGRAM
        try:
            opened = socket.socket(target.family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            # A kernel without IPv6 reaches nothing by it.
            if error.errno != errno.EAFNOSUPPORT:
                self._judge(target, error.errno or errno.EIO, [])
            return
        failure = connect(opened, target)
        if failure in (0, errno.EINPROGRESS):
            self._attempts[opened.fileno()] = (target, opened)
            self._poll.register(opened, select.POLLIN if target.protocol == "UDP" else select.POLLOUT)
        else:
            self._judge(target, failure, reporters(opened))
            opened.close()

    def listen(self, listener: Listener) -> None:
        """Lets another take what comes to its socket while this round lasts, which is then all of its time."""
        self._listeners[listener.socket.fileno()] = listener
        self._poll.register(listener.socket, select.POLLIN)

    def wait(self, seconds: float) -> None:
        """Looks at what comes back until every attempt is decided or the time is over, and ends what is left."""
        ends = time.monotonic() + seconds
        over = False
        while (self._attempts or self._listeners) and not over:
            left = ends - time.monotonic()
            # What came while this process had no turn is looked at, however late it is.
            over = left <= 0
            for descriptor, event in self._poll.poll(max(left, 0) * 1000):
                self._look(descriptor, event)
        for _, opened in self._attempts.values():
            opened.close()
        self._attempts.clear()

    def _look(self, descriptor: int, event: int) -> None:
        if descriptor in self._listeners:
            self._listeners[descriptor].receive()
            return
        target, opened = self._attempts.pop(descriptor)
        failure = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        found = reporters(opened)
        self._poll.unregister(descriptor)
        opened.close()
        if failure or found:
            self._judge(target, failure, found)
        else:
            self.answered.append(f"{target} {'answered' if target.protocol == 'UDP' else 'accepted'}")

    def _judge(self, target: Target, failure: int, found: list[bytes]) -> None:
        """Decides on an attempt that came to nothing, by its error and by who reported that with an ICMP error.

        A TCP stack refuses with a reset, never with ICMP; so where a balancer may have spoken for a target, only the
        reset shows that the target was reached. UDP has no other way to refuse.
        """
        if found:
            if target.packed in found and not (target.balanced and target.protocol == "TCP"):
                self.answered.append(f"{target} rejected")
        elif failure in REFUSED:
            self.answered.append(f"{target} refused")
        elif failure == errno.EADDRNOTAVAIL and target.family == socket.AF_INET6 and not self._has_ipv6:
            return
        elif failure not in NO_WAY:
            self.failed.append(f"{target} could not be tried (error {errno.errorcode.get(failure, failure)})")


def connect(opened: socket.socket, target: Target) -> int:
    """Begins a connection, or sends the datagram, and asks to be told who reports an error.

    Returns:
        The error number; 0 for none.
    """
    if target.family == socket.AF_INET:
        opened.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        failure = opened.connect_ex((target.address, target.port))
    else:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        failure = opened.connect_ex((target.address, target.port, 0, target.scope))
    if target.protocol == "UDP" and not failure:
        try:
            opened.send(DATAGRAM)
        except OSError as error:
            return error.errno or errno.EIO
    return failure


def reporters(opened: socket.socket) -> list[bytes]:
    """Returns the addresses that reported ICMP errors about a socket, as 4 or 16 bytes each.

    Linux queues them for UDP, and for TCP connections that are being opened since 5.8. What is read is a struct
    sock_extended_err (16 bytes, its fifth says whether ICMP was the origin) and the reporter's socket address
    (linux/errqueue.h, ip(7), ipv6(7)).
    """
    found: list[bytes] = []
    while True:
        try:
            ancillary = opened.recvmsg(64, 256, socket.MSG_ERRQUEUE)[1]
        except OSError:  # the queue is empty
            return found
        for level, kind, data in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, IP_RECVERR) and data[4] in ICMP_ORIGINS:
                found.append(data[20:24])
            elif (level, kind) == (socket.IPPROTO_IPV6, IPV6_RECVERR) and data[4] in ICMP_ORIGINS:
                found.append(data[24:40])
