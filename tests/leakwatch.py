"""What `tests.leaks` gathers in a cluster: by watches, so that it misses nothing that was there only for a moment."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from devcluster import view
from devcluster.paths import Cluster
from tests import leaks
from tests.apiserver.rest import Rest

Object = dict[str, Any]

EVENTS = "/api/v1/events"
EVIDENCE = (
    EVENTS,
    "/api/v1/configmaps",
    "/apis/bulkhead.dev/v1alpha1/agentdeployments",
    "/apis/bulkhead.dev/v1alpha1/sandboxpolicies",
)
"""Collections in which no value may be."""

SECRETS = "/api/v1/secrets"
OPERATOR = "bulkhead-system"
LEASE = re.compile(r"agent-[^.]+\..+")
"""Names of the Secrets that hold leases."""

_WATCH_SECONDS = 45
_LAST_TRIES = 3
_PATIENCE = 1200
"""Failures in a row, a quarter of a second apart, after which a cluster is given up: five minutes."""


class Stream(Rest):
    """A connection whose answers are read as they come."""

    def fileno(self) -> int:
        """What is read from, for a selector."""
        assert self._connection.sock is not None
        return self._connection.sock.fileno()

    def lines(self, path: str, **query: str) -> Iterator[Object]:
        """Give the objects of an answer of one per line."""
        target = f"{path}?{'&'.join(f'{name}={value}' for name, value in query.items())}"
        self._connection.request("GET", target, headers={"Accept": "application/json"})
        response = self._connection.getresponse()
        if response.status != 200:
            raise HTTPException(f"{response.status}: {response.read(300)!r}")
        while line := response.readline():
            yield json.loads(line)

    def interrupt(self) -> None:
        """End what is being read, from another thread.

        The method of an SSLSocket would have the reader go on in plain: it reads the ciphertext of what is left.
        """
        if (open_ := self._connection.sock) is not None:
            socket.socket.shutdown(open_, socket.SHUT_RDWR)

    def reset(self) -> None:
        """Begin anew, whatever was being read."""
        self._connection.close()


class Watch:
    """Hands on every version of every object of a collection, to the last one there is when it is stopped."""

    def __init__(self, kubeconfig: Path, path: str, leases: re.Pattern[str]) -> None:
        self.path = path
        self._leases = leases
        self._stream = Stream(kubeconfig, timeout=_WATCH_SECONDS + 30)
        self._ending = threading.Event()
        self._version = ""
        self._listed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"leaks {path}", daemon=True)
        self._thread.start()
        self._listed.wait(30)

    def begin_to_stop(self) -> None:
        """Have it see what there is to see yet, and end."""
        self._ending.set()
        with contextlib.suppress(OSError):  # it was just between two connections
            self._stream.interrupt()

    def stop(self) -> None:
        """Wait for its end."""
        self.begin_to_stop()
        self._thread.join(60)
        if self._thread.is_alive():
            leaks.complain(f"the watch of {self.path} did not end")
        self._stream.reset()

    def _run(self) -> None:
        failures = 0
        while not self._ending.is_set() and failures < _PATIENCE:
            try:
                self._follow(seconds=_WATCH_SECONDS)
                failures = 0
                if self.path == EVENTS and not self._ending.is_set():
                    self._keep_position()
            except (OSError, HTTPException, ValueError):
                failures += 1
                self._ending.wait(0.25)
            self._stream.reset()
        if not self._ending.is_set():
            leaks.complain(f"the watch of {self.path} was given up")
        self._listed.set()
        self._finish()

    def _keep_position(self) -> None:
        """Write an event. Of this kind the API server sends no bookmarks, and etcd forgets old positions in minutes."""
        self._stream.reset()
        about = {"kind": "Namespace", "name": "default", "namespace": "default"}
        body = {"metadata": {"generateName": "leakwatch-"}, "involvedObject": about, "reason": "Watched"}
        self._stream.post("/api/v1/namespaces/default/events", body)

    def _finish(self) -> None:
        """See what there is yet. What ends the watch may hit the first connection of these instead of the last."""
        for attempt in range(1, _LAST_TRIES + 1):
            try:
                return self._follow(seconds=1)
            except (OSError, HTTPException, ValueError) as error:
                if attempt == _LAST_TRIES:
                    words = f"{type(error).__name__}: {error}"
                    leaks.complain(f"{self.path} could not be watched to its end: {words}")
            self._stream.reset()

    def _follow(self, *, seconds: int) -> None:
        if not self._version and not self._list():
            self._listed.set()
            self._ending.wait(0.5)
            return
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        for event in self._stream.lines(self.path, resourceVersion=self._version, **query):
            if event["type"] == "ERROR":
                # With a new definition of a kind its watches begin anew, and the list has what there is of it.
                if not self.path.startswith("/apis/bulkhead.dev/"):
                    leaks.complain(f"some of {self.path} was missed: {event['object'].get('message')}")
                self._version = ""
                return
            self._version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._see(event["object"])

    def _list(self) -> bool:
        """See what there is; tell whether the collection is served at all."""
        try:
            answer = self._stream.get(self.path)
        except json.JSONDecodeError:  # of a kind that has no definition yet the API server says so in plain text
            return False
        if not answer.ok:
            raise HTTPException(answer.message)
        for one in answer.body["items"]:
            self._see(one)
        self._version = answer.body["metadata"]["resourceVersion"]
        self._listed.set()
        return True

    def _see(self, obj: Object) -> None:
        if self.path == SECRETS:
            self._learn(obj)
        else:
            leaks.note(f"the API server's {self.path.rpartition('/')[2]}", json.dumps(obj, ensure_ascii=False))

    def _learn(self, secret: Object) -> None:
        metadata = secret["metadata"]
        mine = self._leases.fullmatch(metadata["name"]) is not None
        if secret.get("type") != "Opaque" or not (mine or metadata["namespace"] == OPERATOR):
            return
        for key, value in (secret.get("data") or {}).items():
            if key not in leaks.PUBLIC:
                words = f"the value of {key} of Secret {metadata['namespace']}/{metadata['name']}"
                leaks.learn(words, base64.b64decode(value))


@contextmanager
def watching(cluster: Cluster, *, leases: re.Pattern[str] = LEASE) -> Iterator[None]:
    """As long as this lasts, gather values and evidence in a cluster; the operator's logs too, where it has a node.

    What is not served yet, because its definition is still to come, is watched as soon as it is.

    Args:
        cluster: which.
        leases: the names of the Secrets whose values are credentials.
    """
    watches = [Watch(cluster.kubeconfig, path, leases) for path in (SECRETS, *EVIDENCE)]
    logs = _Logs(cluster) if cluster.tier == "cluster" else None
    try:
        yield
    finally:
        for watch in watches:
            watch.begin_to_stop()
        for watch in watches:
            watch.stop()
        if logs is not None:
            logs.stop()


class _Logs:
    """Follows the logs of the operator's pods, which the kubelet deletes with them, and of the databases."""

    def __init__(self, cluster: Cluster) -> None:
        self._pods = view.on_host(cluster, "/var/log/pods")
        self._components = cluster.logs
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leaks logs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join(30)

    def _run(self) -> None:
        while True:
            ended = self._ending.wait(0.5)
            for path in self._operators():
                leaks.follow(f"the operator's log, pod {path.parent.parent.name.split('_')[1]}", path)
            for path in self._components.glob("*-postgres.log"):
                leaks.follow(f"the log {path.name}", path)
            if ended:
                return

    def _operators(self) -> Iterator[Path]:
        # The kubelet deletes a pod's folder while one looks: os.walk goes on then, Path.glob raises.
        for folder, folders, files in os.walk(self._pods):
            if folder == str(self._pods):
                folders[:] = [name for name in folders if name.startswith(f"{OPERATOR}_")]
            yield from (Path(folder, name) for name in files if ".log" in name)
