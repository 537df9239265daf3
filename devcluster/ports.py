"""Ports on loopback that stay ours between choosing them and the moment a server listens there."""

from __future__ import annotations

import random
import socket
from types import TracebackType

from devcluster.errors import DevclusterError

# Below the range from which Linux picks ports for outgoing connections (32768 on): a server that is restarted finds
# its port free.
_RANGE = range(20000, 32000)


class PortReservation:
    """Holds free ports of one address as long as its `with` block lasts.

    Each is bound but not listened on. First without SO_REUSEADDR, so that two reservations never get the same; then
    the option is set, and from then on a server that sets it too (Go's do) may listen there, while other reservations
    still cannot bind (socket(7)).
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        """Prepare to reserve ports of an address of this host, in this network namespace."""
        self._address = address
        self._held: list[socket.socket] = []

    def take(self) -> int:
        """Reserve one more port.

        Raises:
            DevclusterError: none of a hundred tried was free.
        """
        for port in random.sample(_RANGE, 100):
            holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                holder.bind((self._address, port))
            except OSError:
                holder.close()
                continue
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._held.append(holder)
            return port
        raise DevclusterError(f"no free port between {_RANGE.start} and {_RANGE.stop} of {self._address}")

    def __enter__(self) -> PortReservation:
        """Begin to hold."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let all of them go."""
        for holder in self._held:
            holder.close()
        self._held.clear()
