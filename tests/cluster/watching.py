"""What the API server told of some objects, and when: each version of each, as a watch delivers them.

Looking again and again would miss what is there for a moment only, such as a pod that is ended as soon as it crashed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException

from tests.apiserver.agents import Object
from tests.cluster.agents import Sandbox
from tests.leakwatch import Stream

_PATIENCE = 40
"""Failures in a row, a quarter of a second apart, after which there is nothing to watch any more."""


@dataclass(frozen=True)
class Seen:
    """A version of an object, and when it arrived in seconds since the epoch."""

    at: float
    obj: Object


class Watch:
    """All that was told of the objects of a collection since it began.

    What a request tells may not have arrived here yet.
    """

    def __init__(self, stream: Stream, path: str) -> None:
        self._seen: list[Seen] = []
        self._missed = ""
        self._stream = stream
        listed = stream.get(path)
        assert listed.ok, listed.message
        version = listed.body["metadata"]["resourceVersion"]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(path, version), name=f"watch {path}")
        self._thread.start()

    def of(self, name: str) -> list[Object]:
        """The versions of the object of a name, oldest first."""
        return [one.obj for one in tuple(self._seen) if one.obj["metadata"]["name"] == name]

    def find(self, name: str, holds: Callable[[Object], bool], *, since: float = 0) -> Seen | None:
        """The first version of the object of a name of which something is so."""
        named = (one for one in tuple(self._seen) if one.obj["metadata"]["name"] == name and one.at >= since)
        return next((one for one in named if holds(one.obj)), None)

    def first(self, name: str, holds: Callable[[Object], bool], *, since: float = 0) -> float | None:
        """When it was first told that something is so of the object of a name."""
        found = self.find(name, holds, since=since)
        return found.at if found is not None else None

    def stop(self) -> None:
        """End; fails where something was missed."""
        self._ending.set()
        while self._thread.is_alive():
            with suppress(OSError):  # it may be between two connections, and is interrupted in the next one
                self._stream.interrupt()
            self._thread.join(0.2)
        self._stream.reset()
        assert not self._missed, self._missed

    def _read(self, path: str, version: str) -> None:
        """Read on from where the last connection ended: the API server ends one that is not read fast enough."""
        failures = 0
        while not self._ending.is_set() and not self._missed:
            query = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "1200"}
            try:
                for event in self._stream.lines(path, watch="1", **query):
                    if event["type"] == "ERROR":
                        self._missed = f"some of {path} was missed: {event['object'].get('message')}"
                        break
                    version, failures = event["object"]["metadata"]["resourceVersion"], 0
                    if event["type"] != "BOOKMARK":
                        self._seen.append(Seen(time.time(), event["object"]))
            except (OSError, HTTPException, ValueError) as error:
                failures += 1
                if failures == _PATIENCE:
                    self._missed = f"{path} could not be watched: {error}"
                self._ending.wait(0.25)
            self._stream.reset()


@contextmanager
def watching(sandbox: Sandbox, kind: str) -> Iterator[Watch]:
    """Watch the objects of a kind in a sandbox for the length of a `with` block."""
    watch = Watch(Stream(sandbox.cluster.kubeconfig, timeout=1200), sandbox.lab.path(kind))
    try:
        yield watch
    finally:
        watch.stop()
