"""The receiving end: what arrived in a network namespace, whatever port it was for and whether or not anybody listened.

Raw sockets get a copy of each packet that the kernel delivers to the namespace's own addresses: after every packet
filter, before any port. So a packet that a policy drops is not heard; one that is refused for want of a listener is.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000  # sched.h
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_SYN, _ACK = 0x02, 0x10
_ECHO_REQUEST = {socket.IPPROTO_ICMP: 8, socket.IPPROTO_ICMPV6: 128}

# Classic BPF (linux/filter.h) that lets only connection attempts through: on the node all else is too much to read.
_FLAGS_4 = ((0xB1, 0, 0, 0), (0x50, 0, 0, 13))  # x = length of the IP header; load the byte at x + 13
_FLAGS_6 = ((0x30, 0, 0, 13),)  # a raw IPv6 socket begins with the TCP header
_ONLY_SYN = ((0x54, 0, 0, _SYN | _ACK), (0x15, 0, 1, _SYN), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))

Heard = tuple[str, int, int]
"""Protocol, the port or identifier it came from, and the port it was for (0 for an echo request)."""

Masked = tuple[str, str, int]
"""Protocol, the address it came from, and the port it was for."""


class Ear:
    """Counts what arrives in one network namespace: connection attempts, datagrams and echo requests."""

    def __init__(self, sockets: list[tuple[int, socket.socket]]) -> None:
        self._counts: Counter[Heard] = Counter()
        self._sources: Counter[Masked] = Counter()
        self._selector = selectors.DefaultSelector()
        for protocol, one in sockets:
            one.setblocking(False)
            self._selector.register(one, selectors.EVENT_READ, protocol)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def count(self, protocol: str, source: int, port: int) -> int:
        """How many packets of an attempt arrived.

        Args:
            protocol: TCP, UDP or ICMP.
            source: the port it came from; the identifier of an echo request.
            port: the port it was for; 0 for an echo request.
        """
        return self._counts[protocol, source, port]

    def count_from(self, protocol: str, addresses: Iterable[str], port: int) -> int:
        """How many packets arrived that carried one of some addresses: those of a node that masks its pods.

        Args:
            protocol: TCP, UDP or ICMP.
            addresses: where they say they came from.
            port: the port they were for; 0 for echo requests.
        """
        return sum(self._sources[protocol, address, port] for address in addresses)

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _listen(self) -> None:
        while not self._closed.is_set():
            for key, _ in self._selector.select(timeout=0.1):
                one: socket.socket = key.fileobj  # type: ignore[assignment]
                try:
                    data, origin = one.recvfrom(2048)
                except BlockingIOError:
                    continue
                if one.family == socket.AF_INET:
                    data = data[(data[0] & 15) * 4 :]
                if len(data) >= 8 and (heard := _heard(key.data, data)):
                    self._counts[heard] += 1
                    self._sources[heard[0], origin[0].partition("%")[0], heard[2]] += 1


def _heard(protocol: int, data: bytes) -> Heard | None:
    if protocol in _ECHO_REQUEST:
        return ("ICMP", int.from_bytes(data[4:6], "big"), 0) if data[0] == _ECHO_REQUEST[protocol] else None
    source, port = struct.unpack("!2H", data[:4])
    return ("TCP" if protocol == socket.IPPROTO_TCP else "UDP", source, port)


@contextmanager
def listening(namespace: Path) -> Iterator[Ear]:
    """Listen in a network namespace.

    Args:
        namespace: the file that stands for it: /run/netns/NAME or /proc/PID/ns/net.
    """
    ear = Ear(within(namespace, _sockets))
    try:
        yield ear
    finally:
        ear.close()


def within(namespace: Path, make: Callable[[], list[tuple[int, socket.socket]]]) -> list[tuple[int, socket.socket]]:
    """Make sockets in a network namespace; they belong to it wherever they are used."""
    made: list[tuple[int, socket.socket]] = []
    failures: list[Exception] = []

    def work() -> None:  # a thread of its own enters the namespace, and ends there
        try:
            _enter(namespace)
            made.extend(make())
        except Exception as error:  # it is raised again, in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return made


def _enter(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open("rb") as handle:
        if libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))


def _sockets() -> list[tuple[int, socket.socket]]:
    made = []
    for family, echo in ((socket.AF_INET, socket.IPPROTO_ICMP), (socket.AF_INET6, socket.IPPROTO_ICMPV6)):
        for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP, echo):
            one = socket.socket(family, socket.SOCK_RAW, protocol)
            if protocol == socket.IPPROTO_TCP:
                _attach(one, (*(_FLAGS_4 if family == socket.AF_INET else _FLAGS_6), *_ONLY_SYN))
            made.append((protocol, one))
    return made


def _attach(one: socket.socket, program: tuple[tuple[int, int, int, int], ...]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))
