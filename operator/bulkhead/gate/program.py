"""The two ways in which the gate runs: `hold` before the agent starts, `watch` beside it.

Exit codes: 0 isolation is proven (hold), or it was asked to end (watch); 3 a target answered; 4 isolation could not be
proven; 2 it was started wrongly. What it found is in the termination message, its first line being one of
`closed N targets at TIME`, `open: NAME PROTOCOL ADDRESS PORT HOW at TIME`, `unproven: WHY at TIME` and
`misconfigured: WHY`.
"""

import _signal as signal  # type: ignore[import-not-found]  # typeshed lacks it; `signal` would bring enum
import posix
import time

from bulkhead.gate import linklocal
from bulkhead.gate.probe import AT_ONCE, Round
from bulkhead.gate.settings import MESSAGE_PATH, Settings, SettingsError

PROVEN = 0
MISCONFIGURED = 2
ANSWERED = 3
UNPROVEN = 4

ATTEMPT_SECONDS = 1.0
"""How long a target has to answer."""
ROUNDS = 2
"""Rounds in a row in which nothing may answer before the agent starts, so that no single lost packet is a proof."""
APART_SECONDS = 1.0
SETTLING_SECONDS = 0.05
"""Between two looks at addresses that are still being checked for duplicates."""
PATIENCE_SECONDS = 30.0
"""How long the gate goes on trying before it ends, so that the kubelet can say what is open, and starts it again."""
HANG_SECONDS = 15.0
"""How much longer than its attempts a round may take; beyond that something is broken, and nothing is proven."""
MESSAGE_BYTES = 2048


class Program:
    """One run of the gate.

    Args:
        settings: what it is told.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tried = 0

    def hold(self) -> int:
        """Tries until nothing has answered in enough rounds in a row, or patience is over."""
        ends = time.monotonic() + PATIENCE_SECONDS
        silent = 0
        while True:
            # A round before the addresses can be used proves nothing and costs a second; the check takes up to two.
            while linklocal.interfaces().settling and time.monotonic() < ends:
                pause(time.monotonic() + SETTLING_SECONDS)
            began = time.monotonic()
            answered, failed = self._round()
            silent = 0 if answered or failed else silent + 1
            if silent == ROUNDS:
                self.tell([f"closed {self._tried} targets at {now()}"])
                return PROVEN
            if not silent and time.monotonic() >= ends:
                return self._give_up(answered, failed)
            pause(began + APART_SECONDS)

    def watch(self) -> int:
        """Tries at the interval until something answers, or cannot be tried."""
        settles_by = time.monotonic() + PATIENCE_SECONDS
        while True:
            began = time.monotonic()
            settling = linklocal.interfaces().settling and began < settles_by
            answered, failed = self._round()
            if answered or (failed and not settling):
                return self._give_up(answered, failed)
            pause(began + (APART_SECONDS if settling else self._settings.interval))

    def tell(self, lines: list[str]) -> None:
        """Says what was found: in the container's log, and in the file that the kubelet reads."""
        text = ("\n".join(lines)).encode()[:MESSAGE_BYTES]
        posix.write(1, text + b"\n")
        try:
            descriptor = posix.open(self._settings.message_path, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o644)
            posix.write(descriptor, text)
            posix.close(descriptor)
        except OSError as error:
            # The exit code says the most important part.
            posix.write(2, f"{self._settings.message_path}: {error.strerror}\n".encode())

    def asked_to_end(self, *_: object) -> None:
        """Ends the gate at once, when the kubelet wants the pod to go."""
        self.tell([f"unproven: asked to end before isolation was proven at {now()}"])
        posix._exit(UNPROVEN)

    def hangs(self, *_: object) -> None:
        """Ends a run whose round does not come to an end."""
        self.tell([f"unproven: a round did not end in time at {now()}"])
        posix._exit(UNPROVEN)

    def _give_up(self, answered: list[str], failed: list[str]) -> int:
        at = now()
        self.tell([*(f"open: {one} at {at}" for one in answered), *(f"unproven: {one} at {at}" for one in failed)])
        return ANSWERED if answered else UNPROVEN

    def _round(self) -> tuple[list[str], list[str]]:
        """Tries everything once. Returns what answered and what could not be tried."""
        targets = self._settings.targets
        turns = -(-len(targets) // AT_ONCE)
        signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS + turns * ATTEMPT_SECONDS)
        found = linklocal.interfaces()
        self._tried = len(targets) + len(found.names)
        answered: list[str] = []
        failed = ["an IPv6 address of this pod is not usable yet"] if found.settling else []
        for start in range(0, len(targets), AT_ONCE):
            round = Round(has_ipv6=bool(found.names))
            echo = linklocal.echo(found, round) if not start else None
            for target in targets[start : start + AT_ONCE]:
                round.begin(target)
            round.wait(ATTEMPT_SECONDS)
            if echo is not None:
                echo.socket.close()
            answered += round.answered
            failed += round.failed
        signal.setitimer(signal.ITIMER_REAL, 0)
        return answered, failed


def now() -> str:
    """Returns the time as RFC 3339 in UTC, with microseconds."""
    nanoseconds = time.time_ns()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9))
    return f"{whole}.{nanoseconds % 10**9 // 1000:06d}Z"


def pause(until: float) -> None:
    """Sleeps until a moment of the monotonic clock."""
    time.sleep(max(until - time.monotonic(), 0))


def main(arguments: list[str]) -> int:
    """Runs the gate; returns its exit code.

    Args:
        arguments: `hold` or `watch`.
    """
    # The first process of a container gets no signal that it has no handler for; one that comes before the settings are
    # read ends it here.
    signal.signal(signal.SIGTERM, lambda *_: posix._exit(PROVEN if arguments == ["watch"] else UNPROVEN))
    try:
        settings = Settings(posix.environ)
        if arguments not in (["hold"], ["watch"]):
            raise SettingsError(f"the arguments are {arguments}; accepted is one of: hold, watch")
    except SettingsError as error:
        return _misconfigured(error)
    program = Program(settings)
    signal.signal(signal.SIGALRM, program.hangs)
    if arguments == ["watch"]:
        return program.watch()
    signal.signal(signal.SIGTERM, program.asked_to_end)
    return program.hold()


def _misconfigured(error: SettingsError) -> int:
    text = f"misconfigured: {error}".encode()[:MESSAGE_BYTES]
    posix.write(2, text + b"\n")
    path = posix.environ.get(MESSAGE_PATH)
    if path:
        descriptor = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o644)
        posix.write(descriptor, text)
        posix.close(descriptor)
    return MISCONFIGURED
