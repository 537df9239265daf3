"""Carrying a plan out: taking away in phases, and building up child by child."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.cluster import resources
from bulkhead.cluster.apply import Applier, Conflict
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.engine.view import View
from bulkhead.plan import workspace
from bulkhead.plan.agent import CREDENTIALS, NETWORK, PROCESSES, Desired, Phase, Removal
from bulkhead.plan.observed import Cut, Object, Observed, Outcome, Taken

logger = logging.getLogger(__name__)

REMOVED_KINDS = {
    one.kind: one
    for one in (
        resources.NETWORK_POLICIES,
        resources.CILIUM_NETWORK_POLICIES,
        resources.ROLE_BINDINGS,
        resources.ROLES,
        resources.SERVICE_ACCOUNTS,
        resources.STATEFUL_SETS,
        resources.PODS,
    )
}
"""The kinds that a plan may take away. Anything else in a plan is a bug, and fails here."""


class NotLeadingError(Exception):
    """Another replica holds the lease, or nobody does: nothing may grow."""


class Actor:
    """Writes to the cluster, and nowhere else is anything of an agent written but its status.

    Args:
        client: of the lane that this actor works for.
        applier: creates and updates what is ours.
        view: told what writes returned, so that the next decision sees them.
        is_leader: asked before each act that lets something grow.
        now: the time of day.
    """

    def __init__(
        self,
        client: Client,
        applier: Applier,
        *,
        view: View,
        is_leader: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._applier = applier
        self._view = view
        self._is_leader = is_leader
        self._now = now

    async def take_away(self, phases: tuple[Phase, ...], cut: Cut) -> tuple[Cut, list[ClusterError]]:
        """Carries the phases of a suspension out: the network first, then credentials and processes side by side.

        Neither of the two waits for the other, which is 5 of the 28 ms from a patch to the pod's deletion (measured):
        a process that is told to end has a grace of seconds, and what it holds is revoked in its first milliseconds.
        Phases of one step go in order. One that fails does not hold up those after it: a service account that cannot
        be deleted is no reason to let processes run on.

        Returns:
            The times of the steps that have been done, and what went wrong.
        """
        errors: list[ClusterError] = []
        done = {NETWORK: await self._step(NETWORK, phases, errors)}
        done[CREDENTIALS], done[PROCESSES] = await asyncio.gather(
            self._step(CREDENTIALS, phases, errors), self._step(PROCESSES, phases, errors)
        )
        times = {step: at for step, (at, _) in done.items() if at is not None}
        worked = cut.worked or any(worked for _, worked in done.values())
        kept: dict[str, Any] = {step: getattr(cut, step) or at for step, at in times.items()}
        return replace(cut, worked=worked, **kept), errors

    async def _step(
        self, step: str, phases: tuple[Phase, ...], errors: list[ClusterError]
    ) -> tuple[datetime | None, bool]:
        """Carries out the phases of one step; gives when it was done, if it was, and whether it removed any."""
        done, worked, asked = True, False, False
        for phase in phases:
            if phase.step != step:
                continue
            asked = True
            results = await asyncio.gather(*(self._remove(one) for one in phase.removals), return_exceptions=True)
            for result in results:
                if isinstance(result, ClusterError):
                    errors.append(result)
                    done = False
                elif isinstance(result, BaseException):
                    raise result
            worked = worked or any(result is True for result in results)
        return (self._now() if asked and done else None), worked

    async def _remove(self, removal: Removal) -> bool:
        try:
            return await self._client.delete(
                REMOVED_KINDS[removal.kind],
                namespace=removal.namespace,
                name=removal.name,
                uid=removal.uid,
                grace_seconds=removal.grace_seconds,
            )
        except ApiError as error:
            if error.conflict:
                # The object that was meant is gone and another has its name: what was asked for is so.
                return False
            raise

    async def build_up(self, desired: tuple[Desired, ...]) -> Outcome:
        """Brings the children to what is wanted, in order, and stops at the first that cannot be.

        Raises:
            NotLeadingError: another replica may be building.
            ClusterError: what may be different the next time.
        """
        stateful_set: Object | None = None
        for one in desired:
            if not self._is_leader():
                raise NotLeadingError
            kind, data = one.object["kind"], one.object["metadata"]
            informer = self._view.of_kind(kind)
            live = informer.get(data["namespace"], data["name"])
            try:
                applied = await self._applier.ensure(one.object, live=live, owner_uid=one.owner_uid)
            except Conflict as conflict:
                taken = Taken(kind=conflict.kind, name=conflict.name, owner=conflict.owner)
                return Outcome(taken=(taken,), stateful_set=stateful_set)
            except ApiError as error:
                if not (error.invalid or error.forbidden):
                    raise
                refusal = f"the API server refused {kind} {data['name']}: {error.message}"
                return Outcome(refused=(refusal,), stateful_set=stateful_set)
            if applied.changed:
                informer.observe(applied.object)
            if applied.how == "terminating":
                raise ClusterError(f"{kind} {data['name']} is still being deleted")
            if kind == resources.STATEFUL_SETS.kind:
                stateful_set = applied.object
        return Outcome(stateful_set=stateful_set)

    async def settle_claims(self, observed: Observed, spec: AgentDeploymentSpec, *, leaving: bool = False) -> None:
        """Makes what the spec says of the workspace's end true of the claims that exist.

        Args:
            observed: with the claims.
            spec: of the agent.
            leaving: the agent is deleted, and what was put off has to be done now: a claim whose owner is gone is
                garbage-collected like any other.

        Raises:
            NotLeadingError: another replica may be doing so.
            ClusterError: a claim could not be written.
        """
        if spec.workspace is None:
            return
        for claim in observed.claims:
            patch = workspace.metadata_patch(claim, observed.agent, on_delete=spec.workspace.on_delete)
            if patch is None or not (leaving or workspace.is_settled(claim, observed.agent)):
                continue
            if not self._is_leader():
                raise NotLeadingError
            data = claim["metadata"]
            written = await self._client.merge_patch(
                resources.CLAIMS, namespace=data["namespace"], name=data["name"], patch=patch
            )
            self._view.claims.observe(written, is_ours=False)
