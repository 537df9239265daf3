"""What somebody does who has copied a lease out of an agent's pod: keep a session open, and log in again and again.

It reads one line of JSON, `{"url": …}`, because what is on a command line is everybody's to read. Of each attempt it
tells in a line of JSON: `at` (seconds since 1970), `what` (`login` or `session`), `worked` (true or false) and `how`.
It goes on until it is ended.
"""

from __future__ import annotations

import json
import sys
import time

import postgres  # type: ignore[import-not-found]  # beside this file

SECONDS = 10.0
PAUSE = 0.02


def tell(what: str, how: str, *, worked: bool) -> None:
    """Print one attempt, with the time at which it had ended."""
    print(json.dumps({"at": time.time(), "what": what, "worked": worked, "how": how}), flush=True)


def log_in(url: str) -> postgres.Session | None:
    """Try to log in."""
    try:
        session = postgres.Session(url, seconds=SECONDS)
    except (OSError, postgres.RefusedError) as error:
        tell("login", str(error), worked=False)
        return None
    tell("login", session.user, worked=True)
    return session


def use(session: postgres.Session) -> bool:
    """Use the session that was kept; tell whether it is still one."""
    try:
        tell("session", session.run("SELECT 1"), worked=True)
    except (OSError, postgres.RefusedError) as error:
        tell("session", str(error), worked=False)
        return False
    return True


def main() -> None:
    """Go on until ended."""
    url = json.loads(sys.stdin.readline())["url"]
    kept = log_in(url)
    while True:
        if kept is not None and not use(kept):
            kept = None
        if (another := log_in(url)) is not None:
            another.close()
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
