"""Somebody with a token that was copied out of an agent's pod, at the API server's door."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from devcluster.api import RunningCluster

INTERVAL = 0.2
"""Seconds between two attempts."""

TOO_MANY, BROKEN = 429, 500
"""HTTP: too many requests, and the first of the statuses for which the server is to blame."""


@dataclass(frozen=True)
class Try:
    """One request.

    Attributes:
        sent: when it was sent, in seconds of the monotonic clock.
        answered: when the answer was there.
        status: of HTTP.
    """

    sent: float
    answered: float
    status: int


class Bearer:
    """Asks for something again and again, on one connection, until it is told to stop."""

    def __init__(self, cluster: RunningCluster, token: str, path: str) -> None:
        """Begin.

        Args:
            cluster: whose API server.
            token: the token.
            path: what is asked for; the token's owner may read it.
        """
        self.tries: list[Try] = []
        self._token, self._path = token, path
        self._server = urlsplit(cluster.server)
        self._tls = ssl.create_default_context(cafile=str(cluster.ca_file))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._thread.join(30)

    def last(self, status: int) -> float | None:
        """When the last request was sent that had this answer."""
        return max((one.sent for one in self.tries if one.status == status), default=None)

    def first(self, status: int) -> float | None:
        """When the first answer of this kind was there."""
        return min((one.answered for one in self.tries if one.status == status), default=None)

    def statuses(self) -> list[int]:
        """The answers, one for each streak of the same."""
        found: list[int] = []
        for one in self.tries:
            if found[-1:] != [one.status]:
                found.append(one.status)
        return found

    def _run(self) -> None:
        connection = self._connect()
        while not self._stopping.wait(INTERVAL):
            sent = time.monotonic()
            try:
                connection.request("GET", self._path, headers={"Authorization": f"Bearer {self._token}"})
                response = connection.getresponse()
                response.read()
                if response.status == TOO_MANY or response.status >= BROKEN:
                    raise http.client.HTTPException  # it is busy, and says nothing about the token
            except (OSError, http.client.HTTPException):
                connection.close()  # it was not refused: nobody knows what the answer would have been
                connection = self._connect()
                continue
            self.tries.append(Try(sent, time.monotonic(), response.status))
        connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(str(self._server.hostname), self._server.port, context=self._tls, timeout=20)
