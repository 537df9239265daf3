"""A server that answers one byte to whoever comes: TCP and UDP, both families, on each port of its command line.

Standard library only, one file: it is given to a pod's python3 as text, or started in a network namespace.
"""

from __future__ import annotations

import socket
import sys
import threading


def tcp(port: int) -> None:
    """Answer connections."""
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        connection, _ = server.accept()
        try:
            connection.sendall(b"!")
            connection.close()
        except OSError:
            continue  # it went away


def udp(port: int) -> None:
    """Answer datagrams."""
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))
    while True:
        _, who = server.recvfrom(512)
        try:
            server.sendto(b"!", who)
        except OSError:
            continue  # no way back


for number in map(int, sys.argv[1:]):
    for serve in (tcp, udp):
        threading.Thread(target=serve, args=(number,)).start()
