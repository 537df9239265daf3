"""Taking an agent away: what goes before what, and what waits for nothing."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from bulkhead.cluster.apply import Applier
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError
from bulkhead.cluster.resources import Resource
from bulkhead.engine.actor import Actor
from bulkhead.engine.view import View
from bulkhead.plan.agent import plan
from bulkhead.plan.observed import Cut
from tests.unit.plan.samples import NOW, agent, observed, pod, role, service_account, stateful_set

RULES = "NetworkPolicy"
PROCESSES = ["StatefulSet", "Pod"]
CREDENTIALS = ["RoleBinding", "ServiceAccount", "Role"]


class ApiServer:
    """Takes deletions in; those of some kinds are answered only when it is let, or with an error."""

    def __init__(self, *, silent: tuple[str, ...] = (), failing: tuple[str, ...] = ()) -> None:
        self.asked: list[str] = []
        self.let = asyncio.Event()
        self._silent = silent
        self._failing = failing

    async def delete(self, resource: Resource, **_: Any) -> bool:
        self.asked.append(resource.kind)
        if resource.kind in self._silent:
            await self.let.wait()
        if resource.kind in self._failing:
            raise ApiError(status=500, reason="InternalError", message="etcd is busy")
        return True


async def stop(server: ApiServer) -> tuple[Cut, list[Any]]:
    """Carries out what is planned for a suspended agent that has everything an agent can have."""
    of = agent(suspend=True)
    rules = {**role(of, kind=RULES), "apiVersion": "networking.k8s.io/v1"}
    seen = observed(
        of,
        stateful_set=stateful_set(of),
        service_account=service_account(of),
        pods=(pod(ready=True),),
        network_policy=rules,
        role=role(of),
        role_binding=role(of, kind="RoleBinding"),
    )
    actor = Actor(
        cast(Client, server), cast(Applier, None), view=cast(View, None), is_leader=lambda: False, now=lambda: NOW
    )
    return await actor.take_away(plan(seen, now=NOW).phases, Cut(since=NOW))


async def until_idle() -> None:
    """Lets everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_the_network_goes_first_and_all_else_waits_for_it() -> None:
    server = ApiServer(silent=(RULES,))
    stopping = asyncio.ensure_future(stop(server))
    await until_idle()
    assert server.asked == [RULES]
    server.let.set()
    cut, errors = await stopping
    assert sorted(server.asked[1:]) == sorted([*PROCESSES, *CREDENTIALS])
    assert (cut.network, cut.credentials, cut.processes, errors) == (NOW, NOW, NOW, [])


@pytest.mark.parametrize("silent", [*PROCESSES, "RoleBinding"])
async def test_no_process_waits_for_the_answer_to_another_deletion(silent: str) -> None:
    server = ApiServer(silent=(silent,))
    stopping = asyncio.ensure_future(stop(server))
    await until_idle()
    assert [kind for kind in server.asked if kind in PROCESSES] == PROCESSES
    assert not stopping.done()
    server.let.set()
    await stopping


async def test_rights_go_before_the_account() -> None:
    server = ApiServer(silent=("RoleBinding",))
    stopping = asyncio.ensure_future(stop(server))
    await until_idle()
    assert [kind for kind in server.asked if kind in CREDENTIALS] == ["RoleBinding"]
    server.let.set()
    await stopping
    assert [kind for kind in server.asked if kind in CREDENTIALS] == CREDENTIALS


@pytest.mark.parametrize("failing", [RULES, "RoleBinding", *PROCESSES])
async def test_what_fails_holds_up_nothing_and_its_step_is_not_done(failing: str) -> None:
    server = ApiServer(failing=(failing,))
    cut, errors = await stop(server)
    assert sorted(server.asked) == sorted([RULES, *PROCESSES, *CREDENTIALS])
    assert [str(error) for error in errors] == ["500 InternalError: etcd is busy"]
    steps = {"network": cut.network, "credentials": cut.credentials, "processes": cut.processes}
    undone = {RULES: "network", "RoleBinding": "credentials"}.get(failing, "processes")
    assert [name for name, at in steps.items() if at is None] == [undone]
