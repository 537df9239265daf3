"""Whose work waits when processes want more than the machine's processors.

Linux schedules each session as a group (sched(7), "The autogroup feature"), and between groups the nice values of the
processes in them count nothing. What is started in a session of its own, as everything of a cluster is, would get as
much as all of the program together that started it, however nice that is; so the group is given the value, too.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def inherit(pid: int) -> None:
    """Have the session that a process leads give way as we do. A process that is gone is no error.

    Args:
        pid: of a session's leader that has just been started, and so has our nice value.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice > 0:
        _set_group(pid, nice)


def give_way(pid: int, nice: int) -> None:
    """Have a process, and the session that it leads, give way to others. A process that is gone is no error.

    Args:
        pid: of a session's leader.
        nice: 0 to 19, as in setpriority(2): at 15 it gets a thirtieth of what one at 0 gets.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
    _set_group(pid, nice)


def _set_group(pid: int, nice: int) -> None:
    # No such file: the process is gone, or this kernel makes no groups, and then its own value counts.
    with suppress(FileNotFoundError, ProcessLookupError):
        Path(f"/proc/{pid}/autogroup").write_text(f"{nice}\n")
