"""Whose work waits when processes want more than the machine's processors.

Linux schedules each session as a group (sched(7), "The autogroup feature"), and between groups the nice values of the
processes in them count nothing. Everything of a cluster is started in a session of its own; so the group is given the
value, too.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def give_way(pid: int, nice: int) -> None:
    """Have a process, and the session that it leads, give way to others. A process that is gone is no error.

    Args:
        pid: of a session's leader.
        nice: 0 to 19, as in setpriority(2): at 15 it gets a thirtieth of what one at 0 gets.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
    # No such file: the process is gone, or this kernel makes no groups, and then the values above count.
    with suppress(FileNotFoundError, ProcessLookupError):
        Path(f"/proc/{pid}/autogroup").write_text(f"{nice}\n")
