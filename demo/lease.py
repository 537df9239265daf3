"""The agent's way to its database: a role of its own that lives for minutes, also when somebody has copied it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from demo import theft
from demo.stage import Stage
from demo.theft import Thief
from demo.waiting import poll
from devcluster import warehouse

CREDENTIAL = "warehouse"
FOLDER = f"/var/run/bulkhead/credentials/{CREDENTIAL}"

MARGIN_SECONDS = 10.0
"""What it may take, from the patch that suspends an agent, until its lease is of no use to anybody; the goal is 2."""


@dataclass(frozen=True)
class Lease:
    """A lease that an agent has.

    Attributes:
        role: who the agent is in the database.
        url: how it gets in, password and all.
    """

    role: str
    url: str

    def __repr__(self) -> str:
        """Name it, without its password."""
        return f"Lease(role={self.role!r})"


def roles(stage: Stage) -> list[str]:
    """Everybody whom Bulkhead has let into the warehouse, by the warehouse's own word."""
    listed = warehouse.sql(stage.cluster, "SELECT rolname FROM pg_roles WHERE rolname ~ '^bulkhead_.{8}_' ORDER BY 1")
    return listed.split()


def sessions(stage: Stage, role: str) -> int:
    """How many sessions a role has in the warehouse, by the warehouse's own word."""
    counted = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'"  # noqa: S608 - of its own making
    return int(warehouse.sql(stage.cluster, counted))


def show(stage: Stage, namespace: str, agent: str, enter: tuple[str, ...]) -> Lease:
    """Show the lease that an agent works with; give it, as somebody who got into its pod would copy it.

    Args:
        stage: where.
        namespace: of the agent.
        agent: its name.
        enter: arguments that make `kubectl exec` somebody whom admission lets in.

    Raises:
        DemoError: it has none, or the database does not know it.
    """
    stage.title("The agent's password is nobody's for long")
    where = ("--namespace", namespace)
    stage.kubectl(*("get", "agent", agent, *where), "--output=jsonpath-as-json={.status.credentials}")
    stage.kubectl(*("exec", f"{agent}-0", *where, *enter), "--", "ls", "-l", "--dereference", FOLDER)
    copied = ("exec", f"{agent}-0", *where, *enter, "--")
    role = stage.ask(*copied, "cat", f"{FOLDER}/username").strip()
    lease = Lease(role, stage.ask(*copied, "cat", f"{FOLDER}/uri").strip())
    stage.expect(role in roles(stage), f"the warehouse knows the agent as {role}, a role that nobody else has")
    entries = f"SELECT count(*) FROM journal WHERE who = '{role}'"  # noqa: S608 - of Bulkhead's own making
    poll(
        lambda: int(warehouse.sql(stage.cluster, entries)) >= 3,
        seconds=60,
        what="the agent writes into the warehouse's journal",
    )
    stage.good("each of its steps is an entry in the warehouse's journal, in that name")
    return lease


@contextmanager
def stolen(stage: Stage, lease: Lease) -> Iterator[Thief]:
    """Let somebody outside of the cluster, whom no policy of it stops, use a copy of a lease.

    Raises:
        DemoError: it is of no use to them from the beginning: then that it is none later would show nothing.
    """
    with theft.at_work(lease.url, stage.cluster) as thief:
        poll(
            lambda: thief.last_success("login") > 0 and thief.last_success("session") > 0,
            seconds=60,
            what="who has copied the lease gets into the warehouse",
        )
        stage.good("somebody has copied it out of the pod, and gets into the warehouse from elsewhere")
        yield thief


def expect_dead(stage: Stage, lease: Lease, thief: Thief, *, began: float) -> dict[str, float]:
    """See that a lease is of no use any more, to anybody; give what ended when, in seconds after a moment.

    Args:
        stage: where.
        lease: which.
        thief: who has a copy.
        began: the moment, in seconds since 1970.

    Raises:
        DemoError: it is of use.
    """
    poll(
        lambda: all(thief.refusal(what, since=began) for what in ("login", "session")),
        seconds=60,
        what="the copy of the lease is of no use",
    )
    ended = {what: thief.last_success(what) - began for what in ("session", "login")}
    for what, seconds in ended.items():
        failure = thief.refusal(what, since=began)
        stage.expect(
            failure is not None and failure.at > began + seconds and seconds <= MARGIN_SECONDS,
            f"the copy's {what} ended within {max(seconds, 0):.1f} s: {failure.how if failure else ''}",
        )
    stage.expect(lease.role not in roles(stage), f"the warehouse does not know {lease.role} any more")
    return ended


def expect_another(stage: Stage, namespace: str, agent: str, former: Lease, thief: Thief) -> None:
    """See that an agent that goes on has another lease, and that the former stays dead.

    Raises:
        DemoError: it has the former, or that works.
    """
    shown: list[dict[str, Any]] = json.loads(
        stage.ask("get", "agent", agent, "--namespace", namespace, "--output=jsonpath-as-json={.status.credentials[0]}")
    )
    now = roles(stage)
    stage.expect(
        now != [] and former.role not in now and shown[0]["state"] == "Active",
        f"it has another role in the warehouse: {', '.join(now)}",
    )
    tried = len(thief.of("login"))
    poll(lambda: len(thief.of("login")) > tried + 5, seconds=60, what="the copy of the former lease is tried again")
    stage.expect(not thief.of("login")[-1].worked, "the copy of the former lease stays refused")
