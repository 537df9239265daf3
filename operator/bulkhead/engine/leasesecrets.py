"""The Secrets in which agents get their credentials: written and deleted, and never read.

The operator has no right to read Secrets. What it has to know of one, whose it is and whether it is as it was written,
it learns from its metadata, which the answer to a patch that is not carried out has.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from bulkhead.api import meta
from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.resources import Object
from bulkhead.plan import names
from bulkhead.plan.lease import Lease

BY_ADMISSION = "ValidatingAdmissionPolicy"
"""In the API server's message when one of these, and not a missing right, refuses."""


class SecretRefusedError(ClusterError):
    """The API server does not take a lease's Secret, or another object has its name. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Written:
    """A Secret as it was written: its UID and its resourceVersion."""

    uid: str
    version: str


async def write(
    client: Client, agent: Object, lease: Lease, values: Mapping[str, bytes], *, known_uid: str = ""
) -> Written:
    """Puts the values of a lease, and nothing else, into the Secret of its credential.

    The data is replaced as a whole: with server-side apply a file of the lease before would stay, since its creation
    does not count as applied.

    Args:
        client: how to reach the API server.
        agent: becomes the owner.
        lease: whose values these are.
        values: file name to content.
        known_uid: of the Secret, where there is thought to be one.

    Raises:
        SecretRefusedError: it was not written, and will not be.
        ClusterError: nobody can say whether it was written.
    """
    data = {name: base64.b64encode(value).decode() for name, value in values.items()}
    try:
        written = await _write(client, _secret(agent, lease, data), agent["metadata"]["uid"], known_uid)
    except ApiError as error:
        if error.status >= 500 or error.throttled or error.unauthorized or error.conflict or error.not_found:
            raise
        told = (
            "" if _holds(error.message, (*values.values(), *(one.encode() for one in data.values()))) else error.message
        )
    else:
        return Written(written["metadata"]["uid"], written["metadata"]["resourceVersion"])
    # Outside of the `except`: whatever stood between may have repeated a value, and a chained error would tell it.
    raise SecretRefusedError(f"the API server refused Secret {lease.secret_name}: {told or 'it gave no reason'}")


async def _write(client: Client, secret: Object, owner_uid: str, known_uid: str) -> Object:
    if known_uid:
        try:
            return await _replace(client, secret, known_uid)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
    try:
        return await client.create(secret, metadata_only=True)
    except ApiError as error:
        if not error.already_exists:
            raise
    data = secret["metadata"]
    found = await _peek(client, namespace=data["namespace"], name=data["name"])
    if found is None:
        raise ClusterError(f"Secret {data['name']} was there and is gone")
    if not meta.is_owned_by(found, owner_uid):
        raise SecretRefusedError(
            f"Secret {data['name']} is somebody else's and was left as it is; delete or rename it, or give the "
            f"credential another name"
        )
    return await _replace(client, secret, found["metadata"]["uid"])


async def _replace(client: Client, secret: Object, uid: str) -> Object:
    data = secret["metadata"]
    operations = [{"op": "add", "path": "/data", "value": secret["data"]}]
    operations += [
        {"op": "add", "path": f"/metadata/{field}", "value": data[field]}
        for field in ("labels", "annotations", "ownerReferences")
    ]
    return await client.json_patch(
        resources.SECRETS,
        namespace=data["namespace"],
        name=data["name"],
        operations=operations,
        uid=uid,
        metadata_only=True,
    )


async def delete(client: Client, lease: Lease, *, known_uid: str, is_over: Callable[[str], Awaitable[bool]]) -> None:
    """Deletes the Secret that a lease was written into, if it is there and its agent's.

    Where it is not the one that is known, it may be that of the agent's next run: one that holds another lease which is
    not over is left to whoever ends that one.

    Args:
        client: how to reach the API server.
        lease: which was written into it.
        known_uid: of the Secret, where it is known.
        is_over: says of the id of another lease whether nothing may be relied on any more that it gave.

    Raises:
        ClusterError: it may still be there.
    """
    namespace, name = lease.agent_namespace, lease.secret_name
    if known_uid:
        try:
            await client.delete(resources.SECRETS, namespace=namespace, name=name, uid=known_uid)
        except ApiError as error:
            if not error.conflict:
                raise
        else:
            return
    found = await _peek(client, namespace=namespace, name=name)
    if found is None or not meta.is_owned_by(found, lease.agent_uid):
        return
    holds = (found["metadata"].get("annotations") or {}).get(meta.LEASE_LABEL)
    if holds in (None, lease.id) or await is_over(holds):
        await client.delete(resources.SECRETS, namespace=namespace, name=name, uid=found["metadata"]["uid"])


async def is_as_written(client: Client, lease: Lease) -> bool:
    """Says whether the Secret of a lease still is what was written into it last.

    Raises:
        ClusterError: nobody can say.
    """
    found = await _peek(client, namespace=lease.agent_namespace, name=lease.secret_name)
    data: Object = (found or {}).get("metadata") or {}
    return (
        data.get("uid") == lease.secret_uid
        and data.get("resourceVersion") == lease.secret_version
        and (data.get("annotations") or {}).get(meta.LEASE_LABEL) == lease.id
    )


async def _peek(client: Client, *, namespace: str, name: str) -> Object | None:
    try:
        return await client.peek(resources.SECRETS, namespace=namespace, name=name)
    except ApiError as error:
        # The operator's own admission policy lets it touch no Secret but its own: this one is somebody else's.
        if BY_ADMISSION in error.message:
            return {"metadata": {"namespace": namespace, "name": name}}
        raise


def _secret(agent: Object, lease: Lease, data: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": lease.agent_namespace,
            "name": lease.secret_name,
            "labels": names.identity_labels(agent),
            "annotations": {meta.LEASE_LABEL: lease.id},
            "ownerReferences": [meta.owner_reference(agent)],
        },
        "type": "Opaque",
        "data": dict(data),
    }


def _holds(text: str, values: tuple[bytes, ...]) -> bool:
    return any(value and value in text.encode() for value in values)
