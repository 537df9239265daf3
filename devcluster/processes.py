"""Starting background processes so that each can be found and ended again, whatever happened in between.

A process is known by its pid together with its start time (field 22 of /proc/PID/stat, proc(5)): a pid alone may by
now be somebody else's. Signals go through a pidfd that was checked after it was opened, so they cannot hit a pid's
next owner. What no record tells of (a helper that outlived its parent, a process whose starter was killed before it
wrote the record) is found by a marker in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.paths import Cluster, write_atomically

MARKER = "BULKHEAD_DEV"
"""Environment variable set in everything started: STATE_DIR:COMPONENT. Children inherit it."""

STOP_GRACE_SECONDS = 5.0

_EXEC_SECONDS = 30.0
"""Bound of the wait for a process that executes another program: below a millisecond, once it gets a processor."""

_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD of the flags in /proc/PID/stat: it has no memory, so it never has an environment."""


@dataclass(frozen=True)
class ProcessRecord:
    """A process that was started, as noted on disk.

    Attributes:
        component: unique within its cluster; its log is logs/COMPONENT.log.
        pid: process id.
        start_time: clock ticks after boot.
        boot_id: the boot it belongs to; after a reboot the same pid and start time mean nothing.
        argv: what was executed, wrappers included.
    """

    component: str
    pid: int
    start_time: int
    boot_id: str
    argv: tuple[str, ...]


def boot_id() -> str:
    """The kernel's identifier of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Clock ticks between boot and the start of a process; None where it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may itself contain spaces and parentheses
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(record: ProcessRecord) -> bool:
    """Tell whether that very process still runs. A zombie does not."""
    return record.boot_id == boot_id() and start_time(record.pid) == record.start_time


def records(cluster: Cluster) -> list[ProcessRecord]:
    """What was started for a cluster and not stopped since, in the order of starting."""
    found = []
    for file in sorted(_records_dir(cluster).glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
        content = json.loads(file.read_text())
        found.append(ProcessRecord(**{**content, "argv": tuple(content["argv"])}))
    return found


def start(
    cluster: Cluster,
    component: str,
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    netns: str | None = None,
    mount_namespace: bool = False,
) -> ProcessRecord:
    """Start a background process in a session of its own, with its output in the cluster's logs.

    Args:
        cluster: whose process it is.
        component: its name, unique in the cluster.
        argv: the program (an existing path) and its arguments.
        env: variables besides PATH, HOME, LANG and the marker. Nothing else of our environment is handed on: proxies
            and tokens stay here.
        netns: name of a network namespace (below /run/netns) to join. Only that is joined; /sys and its cgroups stay
            visible, unlike with `ip netns exec`.
        mount_namespace: whether it gets a mount namespace of its own, which still receives later mounts of the host.

    Returns:
        The record, already on disk.

    Raises:
        DevclusterError: the program does not exist, or that component of the cluster runs already.
    """
    arguments = [str(argument) for argument in argv]
    if not os.access(arguments[0], os.X_OK):
        raise DevclusterError(f"{component} cannot be started: {arguments[0]} is not an executable file")
    if any(record.component == component and is_alive(record) for record in records(cluster)):
        raise DevclusterError(f"{component} of cluster {cluster.name} runs already")
    wrapped = _wrap(arguments, netns=netns, mount_namespace=mount_namespace)
    cluster.logs.mkdir(parents=True, exist_ok=True)
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        wrapped[0],
        wrapped,
        {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": str(cluster.state_dir),
            "LANG": "C.UTF-8",
            **(env or {}),
            MARKER: f"{cluster.state_dir}:{component}",
        },
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log_file(cluster, component)), log_flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    record = ProcessRecord(
        component=component,
        pid=pid,
        start_time=start_time(pid) or 0,  # 0 when it died at once: then it is alive to nobody
        boot_id=boot_id(),
        argv=tuple(wrapped),
    )
    write_atomically(_record_file(cluster, component), json.dumps(asdict(record), indent=2) + "\n")
    return record


def log_file(cluster: Cluster, component: str) -> Path:
    """Where a component writes to."""
    return cluster.logs / f"{component}.log"


def log_tail(cluster: Cluster, component: str, *, lines: int = 15) -> str:
    """The last lines of a component's log, for an error's text."""
    try:
        return "\n".join(log_file(cluster, component).read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def wait_until(
    ready: Callable[[], bool],
    *,
    cluster: Cluster,
    record: ProcessRecord,
    seconds: float,
    what: str,
    interval: float = 0.02,
) -> None:
    """Poll a condition that a process is to bring about.

    Args:
        ready: the condition; it must not block for long.
        cluster: whose process it is.
        record: the process.
        seconds: how long to wait at most.
        what: the condition in words, after "did not".
        interval: seconds between two looks.

    Raises:
        DevclusterError: the process ended or the time is over; the text ends with the tail of its log.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        problem = None
        if not is_alive(record):
            problem = f"{record.component} ended and did not {what}"
        elif time.monotonic() > deadline:
            problem = f"{record.component} did not {what} within {seconds:g} s"
        if problem:
            log = log_file(cluster, record.component)
            raise DevclusterError(f"{problem}. The end of {log}:\n{log_tail(cluster, record.component)}")
        time.sleep(interval)


def stop(cluster: Cluster, component: str, *, grace: float = STOP_GRACE_SECONDS) -> None:
    """End one component: SIGTERM, and SIGKILL after `grace` seconds. Nothing happens where it does not run."""
    chosen = [record for record in records(cluster) if record.component == component]
    end_all([record.pid for record in chosen if is_alive(record)], grace=grace)
    for record in chosen:
        _record_file(cluster, record.component).unlink(missing_ok=True)


def stop_all(cluster: Cluster, *, grace: float = STOP_GRACE_SECONDS) -> None:
    """End everything of a cluster, recorded or found by its marker, and what these start while they end."""
    end_all([record.pid for record in reversed(records(cluster)) if is_alive(record)], grace=grace)
    while marked := find_marked(cluster.state_dir):
        end_all(marked, grace=grace)
    for record in records(cluster):
        _record_file(cluster, record.component).unlink(missing_ok=True)


def find_marked(state_dir: Path) -> list[int]:
    """Find the processes whose environment carries the marker of a state folder or of one below it.

    Only root sees other users' environments; a process that changed its user is found by root alone.
    """
    return _with_marker(f"{state_dir}:", f"{state_dir}/")


def find_marked_component(cluster: Cluster, component: str) -> list[int]:
    """Find what was started as one component and all that inherited its environment, such as containerd's shims."""
    return _with_marker(f"{cluster.state_dir}:{component}\0")


def end_all(pids: Iterable[int], *, grace: float = STOP_GRACE_SECONDS) -> None:
    """End processes together: SIGTERM to all, SIGKILL after `grace` seconds to those left, and wait until all are gone.

    The caller has just established whose pids these are. A pidfd is opened for each before its start time is read
    again, so a pid that changes hands in between is left alone.

    Raises:
        DevclusterError: one survives SIGKILL for 10 s (uninterruptible sleep).
    """
    targets = {}
    for pid in pids:
        begun = start_time(pid)
        if begun is None:
            _reap(pid)
            continue
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            if start_time(pid) == begun:
                targets[pid] = descriptor
            else:
                os.close(descriptor)
    try:
        for chosen, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            for pid in _await_exit(targets, seconds=0):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(targets[pid], chosen)
            left = _await_exit(targets, seconds=seconds)
            if not left:
                break
        else:
            raise DevclusterError(f"these processes do not end, not even by SIGKILL: {sorted(left)}")
    finally:
        for pid, descriptor in targets.items():
            os.close(descriptor)
            _reap(pid)


def _await_exit(targets: Mapping[int, int], *, seconds: float) -> list[int]:
    """Wait for the processes behind pidfds (pid to descriptor); give the pids that still run when the time is over."""
    running = {descriptor: pid for pid, descriptor in targets.items()}
    poll = select.poll()
    for descriptor in running:
        poll.register(descriptor, select.POLLIN)  # readable when the process has ended, pidfd_open(2)
    deadline = time.monotonic() + seconds
    while running:
        remaining = max(0.0, deadline - time.monotonic())
        ended = poll.poll(remaining * 1000)
        for descriptor, _ in ended:
            poll.unregister(descriptor)
            del running[descriptor]
        if not ended and remaining == 0:
            break
    return list(running.values())


def _reap(pid: int) -> None:
    """Collect a child that has ended, so that no zombie stays while we live.

    Others' children are not ours to collect.
    """
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _with_marker(*beginnings: str) -> list[int]:
    """Find processes by the beginning of the marker's value; a NUL byte stands for the value's end."""
    wanted = tuple(f"\0{MARKER}={beginning}".encode() for beginning in beginnings)
    mine = os.getpid()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == mine:
            continue
        try:
            environment = b"\0" + _environment(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked, or it is another user's, who did not get it from us
        if any(variable in environment for variable in wanted):
            found.append(int(entry.name))
    return found


def _environment(pid: int) -> bytes:
    """Read a process's environment, also while it executes another program.

    For that moment the kernel has no environment to show, or ends one in the midst of its being read: a process
    looked at just then was missed and outlived its cluster. What was read is believed where the memory that the
    process has afterwards says so: as many bytes, and start_code is set, which an execution does after everything of
    the environment (create_elf_tables and load_elf_binary of the kernel's fs/binfmt_elf.c).
    """
    environ, stat = Path(f"/proc/{pid}/environ"), Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + _EXEC_SECONDS
    while True:
        environment = environ.read_bytes()
        fields = stat.read_text().rpartition(")")[2].split()
        start_code, env_start, env_end = int(fields[23]), int(fields[47]), int(fields[48])
        complete = start_code and len(environment) == env_end - env_start
        without_memory = fields[0] in "ZX" or int(fields[6]) & _KERNEL_THREAD
        if complete or without_memory or time.monotonic() > deadline:
            return environment
        time.sleep(0.0005)


def _wrap(arguments: list[str], *, netns: str | None, mount_namespace: bool) -> list[str]:
    # Each of these programs replaces itself by the next, so pid, start time and environment are those of the component.
    wrapped = ["/usr/bin/env", "--chdir=/", *arguments]
    if mount_namespace:
        wrapped = ["/usr/bin/unshare", "--mount", "--propagation=slave", *wrapped]
    if netns:
        wrapped = ["/usr/bin/nsenter", f"--net=/run/netns/{netns}", *wrapped]
    return wrapped


def _records_dir(cluster: Cluster) -> Path:
    return cluster.state_dir / "processes"


def _record_file(cluster: Cluster, component: str) -> Path:
    return _records_dir(cluster) / f"{component}.json"
