"""Leased copies of Secrets that agents cannot see.

A copy has an end, and it follows its source; but what is copied is as long-lived as whoever put it there made it: the
end of the copy does not end the credential. Use it for what has no issuer, and let something else rotate the source.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.informer import Informer
from bulkhead.cluster.resources import SECRETS, Object, name_of, namespace_of
from bulkhead.issuers.base import Credential, Handle, NotRenewable, Refused, Request, Unavailable

SECRET: Final = "secret"  # noqa: S105 (the name of an entry)
"""Entry of a handle: `namespace/name` of the source."""
VERSION: Final = "resourceVersion"
"""Entry of a handle: the source's version that was copied."""


class SecretCopies:
    """The issuer of `secret` sources, and what follows the sources' changes.

    Attributes:
        external: no: the copy is the credential, and it goes with the Secret that holds it.
    """

    external = False

    def __init__(
        self,
        client: Client,
        *,
        namespaces: Sequence[str],
        is_sandbox: Callable[[str], bool],
        on_change: Callable[[str, str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepares it; `run` follows the sources.

        Args:
            client: how to reach the API server.
            namespaces: those whose Secrets may be copied.
            is_sandbox: says whether a namespace is a sandbox: agents' own namespaces are no source.
            on_change: called with namespace and name of each Secret there when it is first seen, changed, or gone.
            now: the time.
        """
        self._client = client
        self._is_sandbox = is_sandbox
        self._on_change = on_change
        self._now = now
        self._informers = {
            namespace: Informer(
                client, SECRETS, namespace=namespace, transform=_without_values, on_change=self._changed
            )
            for namespace in dict.fromkeys(namespaces)
        }

    async def run(self) -> None:
        """Follows the sources until it is cancelled. A namespace that cannot be listed holds up no other."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run())

    def stale(self, handle: Handle) -> bool:
        """Says whether the source is another than what was copied; no as long as nobody knows."""
        namespace, _, name = handle.get(SECRET, "").partition("/")
        informer = self._informers.get(namespace)
        if informer is None or not informer.synced.is_set():
            return False
        source = informer.get(namespace, name)
        return source is None or source["metadata"].get("resourceVersion") != handle.get(VERSION)

    def describe(self) -> str:
        """Says what this is."""
        return "copies of Secrets"

    async def prepare(self, request: Request) -> Handle:
        """Names the source, if it may be one."""
        namespace, name = str(request.source["namespace"]), str(request.source["name"])
        if self._is_sandbox(namespace):
            raise Refused(
                f"namespace {namespace} is a sandbox, in which agents run; accepted is a Secret in a namespace that no "
                f"agent can see"
            )
        if namespace not in self._informers:
            accepted = ", ".join(self._informers) or "none: the operator was given no namespace to copy from"
            raise Refused(f"Secrets of namespace {namespace} are not copied; accepted namespaces are: {accepted}")
        return {SECRET: f"{namespace}/{name}"}

    async def issue(self, request: Request, handle: Handle) -> Credential:
        """Copies the keys as they are at this moment, read from the live API."""
        asked_at = self._now()
        source = await self._read(handle)
        data: dict[str, str] = source.get("data") or {}
        missing = [key for key in request.source["keys"] if key not in data]
        if missing:
            raise Refused(
                f"Secret {handle[SECRET]} has no key {', '.join(missing)}; accepted are: {', '.join(data) or 'none'}"
            )
        return Credential(
            values={key: _decoded(data[key]) for key in request.source["keys"]},
            expires_at=asked_at + timedelta(seconds=request.ttl_seconds),
            handle={**handle, VERSION: str(source["metadata"]["resourceVersion"])},
            description=f"copy of Secret {handle[SECRET]}",
        )

    async def renew(self, handle: Handle, *, until: datetime) -> datetime:
        """Lets the copy live on, if its source still is what was copied."""
        try:
            source = await self._read(handle)
        except Refused as gone:
            raise NotRenewable(gone.message) from None
        # Which keys were copied no handle says, and what was in them nothing may: any change may have withdrawn them.
        if source["metadata"].get("resourceVersion") != handle.get(VERSION):
            raise NotRenewable(
                f"Secret {handle[SECRET]} has changed since it was copied; accepted is a copy of what is in it now"
            )
        return until

    async def revoke(self, handle: Handle) -> None:
        """Does nothing: nothing exists but the Secret with the copy, which goes by itself."""

    async def outstanding(self, installation: str) -> Collection[Handle]:
        """Gives nothing: nothing outlives its copy."""
        return ()

    async def close(self) -> None:
        """Does nothing: the client is somebody else's."""

    async def _read(self, handle: Handle) -> Object:
        namespace, _, name = handle[SECRET].partition("/")
        try:
            source = await self._client.get(SECRETS, namespace=namespace, name=name)
        except ApiError as error:
            if error.status == 403:
                raise Refused(
                    f"the operator may not read Secrets of namespace {namespace}; accepted is a namespace with a Role "
                    f"for it, which the chart makes for each of secretSources"
                ) from None
            raise Unavailable(str(error), retry_after=error.retry_after) from None
        except ClusterError as error:
            raise Unavailable(str(error)) from None
        if source is None:
            raise Refused(f"there is no Secret {handle[SECRET]}")
        return source

    def _changed(self, old: Object | None, new: Object | None) -> None:
        one = new or old
        if one is not None:
            self._on_change(namespace_of(one) or "", name_of(one))


def _without_values(secret: Object) -> Object:
    # What is not kept cannot be found in a dump of the process; the version alone tells of a change.
    kept = {key: secret["metadata"][key] for key in ("namespace", "name", "uid", "resourceVersion")}
    return {"apiVersion": secret["apiVersion"], "kind": secret["kind"], "metadata": kept}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Unavailable("the API server gave a Secret whose data is not base64") from None
