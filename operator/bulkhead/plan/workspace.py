"""Workspace claims: whose they are, and what becomes of them when the agent goes.

The StatefulSet controller makes them from a template and never deletes them. They outlive suspensions, and, with
`onDelete: Retain`, the agent too: an agent made again under the same name in the same namespace takes its workspace up
again, as StatefulSets do. So a claim is known by a UID in an annotation, and not by an owner.
"""

from __future__ import annotations

from typing import Any

from bulkhead.api import meta
from bulkhead.plan import names
from bulkhead.plan.observed import Object


def is_ours(claim: Object, agent: Object) -> bool:
    """Says whether a claim was made for this agent."""
    annotations = claim["metadata"].get("annotations") or {}
    return bool(annotations.get(meta.AGENT_UID_ANNOTATION) == agent["metadata"]["uid"])


def is_retained_for(claim: Object, agent: Object) -> bool:
    """Says whether a claim was retained from an earlier agent of this name and waits for the next.

    It bears the labels and the mark that Bulkhead gave it, and nobody owns it: a claim with an owner is in use or about
    to be collected.
    """
    labels = meta.labels_of(claim)
    annotations = claim["metadata"].get("annotations") or {}
    return (
        labels.get(meta.MANAGED_BY_LABEL) == meta.MANAGED_BY_VALUE
        and labels.get(meta.AGENT_LABEL) == agent["metadata"]["name"]
        and bool(annotations.get(meta.AGENT_UID_ANNOTATION))
        and not meta.owner_references(claim)
    )


def may_use(claim: Object, agent: Object) -> bool:
    """Says whether an agent's pods may mount a claim that stands under a name of theirs."""
    return is_ours(claim, agent) or is_retained_for(claim, agent)


def is_settled(claim: Object, agent: Object) -> bool:
    """Says whether a claim may be written: not while the scheduler binds it.

    A write in between makes its own fail, and it tries again only seconds later (measured: 6 s until the pod started).
    """
    return not is_ours(claim, agent) or (claim.get("status") or {}).get("phase") == "Bound"


def metadata_patch(claim: Object, agent: Object, *, on_delete: str) -> Object | None:
    """Returns the merge patch that a claim of this agent's needs, or None when it is as it should be.

    With `Delete` the agent owns the claim, so that garbage collection takes it after the agent; with `Retain` it does
    not. Owners that others set are kept. The agent is not the controller: the StatefulSet controller gives up claims
    that have another controller (KEP-1847). A retained claim gets this agent's mark.

    The patch carries UID and resourceVersion: the API server refuses it if the claim was replaced or changed meanwhile.
    """
    uid = agent["metadata"]["uid"]
    data = claim["metadata"]
    changes: dict[str, Any] = {}
    present = meta.owner_references(claim)
    owners = [reference for reference in present if reference.get("uid") != uid]
    if on_delete == "Delete":
        mine = [reference for reference in present if reference.get("uid") == uid]
        owners += mine or [meta.owner_reference(agent, controller=False)]
    if sorted(one["uid"] for one in owners) != sorted(one["uid"] for one in present):
        changes["ownerReferences"] = owners
    if not is_ours(claim, agent):
        changes["annotations"] = {meta.AGENT_UID_ANNOTATION: uid}
    wanted_labels = names.identity_labels(agent)
    labels = meta.labels_of(claim)
    if any(labels.get(key) != value for key, value in wanted_labels.items()):
        changes["labels"] = wanted_labels
    if not changes:
        return None
    return {"metadata": {"uid": data["uid"], "resourceVersion": data["resourceVersion"], **changes}}
