"""What an attacker runs in its pod: it tries many addresses at once and says how each attempt ended.

Standard library only, one file: it is given to a pod's python3 as text. It takes a JSON list of attempts, each with
`source` (the port it comes from, or the identifier of an echo request: by it the receiving end tells attempts apart),
`protocol`, `address` (or a name) and `port`, and the seconds to wait for each; it prints a JSON object from `source` to
the outcome.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import struct
import sys
import threading
import time
from typing import Any

SECONDS = float(sys.argv[2])
# A whole DNS query, for the name "knock": resolvers answer nothing less, and all others answer anything.
QUERY = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + b"\x05knock\x00" + struct.pack("!2H", 1, 1)
ENDS = {
    errno.ECONNREFUSED: "refused",
    errno.ENETUNREACH: "no route",
    errno.EHOSTUNREACH: "no route",
    errno.EADDRNOTAVAIL: "no route",
    errno.EAFNOSUPPORT: "no route",
    errno.EPERM: "not allowed",
    errno.EACCES: "not allowed",
}


def tcp(family: int, target: Any, source: int) -> str:
    """Connect."""
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.settimeout(SECONDS)
        s.bind(("", source))
        s.connect(target)
    return "answered"


def open_datagrams(family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket whose datagrams to a group do not come back to this pod, which would answer itself."""
    s = socket.socket(family, kind, protocol)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    return s


def udp(family: int, target: Any, source: int) -> str:
    """Send a datagram, twice, and wait for one back."""
    with open_datagrams(family, socket.SOCK_DGRAM) as s:
        s.bind(("", source))
        if not target[0].startswith("ff"):
            s.connect(target)  # then a refusal is told; who answers for a group has another address
        for _ in range(2):
            s.sendto(QUERY, target) if target[0].startswith("ff") else s.send(QUERY)
            if select.select([s], [], [], SECONDS / 2)[0]:
                s.recv(512)
                return "answered"
    return "silent"


def icmp(family: int, target: Any, source: int) -> str:
    """Send an echo request, twice, and wait for its reply."""
    protocol, request, reply = (58, 128, 129) if family == socket.AF_INET6 else (1, 8, 0)
    try:
        s = open_datagrams(family, socket.SOCK_DGRAM, protocol)  # the kernel gives its sums and checks
        s.bind(("", source))
        raw = False
    except PermissionError:
        s = open_datagrams(family, socket.SOCK_RAW, protocol)
        raw = True
    with s:
        packet = struct.pack("!BBHHH", request, 0, 0, source, 1)
        if raw and family == socket.AF_INET:
            total = sum(struct.unpack("!4H", packet))
            packet = struct.pack("!BBHHH", request, 0, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF, source, 1)
        for _ in range(2):
            s.sendto(packet, (target[0], 0, *target[2:]))
            until = time.monotonic() + SECONDS / 2
            while select.select([s], [], [], max(0, until - time.monotonic()))[0]:
                data = s.recv(256)
                data = data[(data[0] & 15) * 4 :] if raw and family == socket.AF_INET else data
                if data[0] == reply and struct.unpack("!H", data[4:6])[0] == source:
                    return "answered"
    return "silent"


def outcome(attempt: dict[str, Any]) -> str:
    """Say how an attempt ended."""
    try:
        found = socket.getaddrinfo(attempt["address"], attempt["port"], type=socket.SOCK_DGRAM)
    except OSError:
        return "no such name"
    family, _, _, _, target = found[0]
    tried = {"TCP": tcp, "UDP": udp, "ICMP": icmp}[attempt["protocol"]]
    try:
        return tried(family, target, attempt["source"])
    except TimeoutError:
        return "silent"
    except OSError as error:
        number = error.errno or 0
        return ENDS.get(number) or errno.errorcode.get(number, str(error))


def main() -> None:
    """Try all, each in a thread."""
    outcomes: dict[int, str] = {}

    def run(attempt: dict[str, Any]) -> None:
        outcomes[attempt["source"]] = outcome(attempt)

    threads = [threading.Thread(target=run, args=(attempt,)) for attempt in json.loads(sys.argv[1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
