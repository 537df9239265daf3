"""An agent that works with a peer and saves what it did when it is told to end; it says what it still reached then.

Standard library only, one file: it is given to a pod's python3 as text. Its arguments: the peer as HOST:PORT, the exit
code, and seconds that saving takes. Run with the argument `farewell` and the peer it is the command before SIGTERM.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from pathlib import Path

WORKSPACE = Path("/workspace")
CHECKPOINT = WORKSPACE / "checkpoint.json"
DIARY = WORKSPACE / "diary"


def reaches(peer: str) -> bool:
    """Whether the peer answers within half a second."""
    host, _, port = peer.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=0.5).close()
    except OSError:
        return False
    return True


def note(what: str, peer: str, *, expected: bool, patience: float) -> None:
    """Write into the diary what happens, when, and whether the peer is reached, as expected within some seconds.

    The network takes up what it was told in a moment of its own, whether that opens or closes something.
    """
    at, until = time.time(), time.monotonic() + patience
    while (reached := reaches(peer)) != expected and time.monotonic() < until:
        time.sleep(0.1)
    with DIARY.open("a") as file:
        file.write(json.dumps({"what": what, "at": at, "reached": reached}) + "\n")


def main(peer: str, code: int, saving: float) -> None:
    """Count steps, from where the last run stopped."""
    step = json.loads(CHECKPOINT.read_text())["step"] if CHECKPOINT.exists() else 0

    def save(*_: object) -> None:
        note("SIGTERM", peer, expected=False, patience=1.5)
        time.sleep(saving)
        CHECKPOINT.write_text(json.dumps({"step": step}))
        print(f"saved step {step}", flush=True)
        sys.exit(code)

    signal.signal(signal.SIGTERM, save)  # before it is told that it has begun: by that one knows that it listens
    # The gate waited for what is refused alone.
    note(f"begun at step {step}", peer, expected=True, patience=80)
    while True:
        step += 1
        time.sleep(0.02)


if __name__ == "__main__":
    if sys.argv[1] == "farewell":
        note("preStop", sys.argv[2], expected=False, patience=1.5)
    else:
        main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
